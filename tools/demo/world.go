package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// world is the demo's bus and the people on it.
type world struct {
	dir   string
	busID bus.BusID
	log   *slog.Logger
	node  *node.Node
	admin *client.Client
	alice *person
	bob   *person
	all   []*client.Client
}

// person is a member with a room of its own to read and write in.
type person struct {
	handle bus.Handle
	client *client.Client
	room   *client.Room
	read   chan reading
}

// reading is one message, or the error that ended or interrupted the reading.
type reading struct {
	message *client.Message
	err     error
}

func newWorld(ctx context.Context, c *cli.Call, dir string) (w *world, err error) {
	w = &world{dir: dir, log: slog.New(slog.DiscardHandler)}
	if c.Verbose() {
		w.log = c.Logger()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(ctx))
		}
	}()
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		return w, err
	}
	w.busID = root.BusID()
	admin, err := identity.Generate(rand.Reader)
	if err != nil {
		return w, err
	}
	w.node, err = node.Start(ctx, node.Config{
		BusID: w.busID, DataDir: filepath.Join(dir, "node"), Name: "demo",
		ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: admin.SignPub()},
		Version:        c.Env.Version, Logger: w.log, Now: c.Env.Now,
	})
	if err != nil {
		return w, err
	}
	if w.admin, err = w.dial(ctx, c, admin); err != nil {
		return w, err
	}
	if w.alice, err = w.join(ctx, c, "alice"); err != nil {
		return w, err
	}
	w.bob, err = w.join(ctx, c, "bob")
	return w, err
}

// join makes an identity, has the admin add it, and signs in with it.
func (w *world) join(ctx context.Context, c *cli.Call, handle bus.Handle) (*person, error) {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		return nil, err
	}
	if _, err := w.admin.AddUser(ctx, id.SignPub(), handle, bus.UserMember); err != nil {
		return nil, err
	}
	cl, err := w.dial(ctx, c, id)
	if err != nil {
		return nil, err
	}
	return &person{handle: handle, client: cl, read: make(chan reading, 16)}, nil
}

func (w *world) dial(ctx context.Context, c *cli.Call, id *identity.Identity) (*client.Client, error) {
	cl, err := client.Dial(ctx, client.Config{
		Servers: []string{w.node.ServerURL()}, URLs: []string{w.node.URL()},
		BusID: w.busID, Identity: id,
		StateDir: filepath.Join(w.dir, "state"),
		Logger:   w.log, Now: c.Env.Now,
	})
	if err != nil {
		return nil, err
	}
	w.all = append(w.all, cl)
	return cl, nil
}

// listen reads the person's room from its start until ctx ends.
func (p *person) listen(ctx context.Context) {
	for m, err := range p.room.Messages(ctx, client.Start) {
		select {
		case p.read <- reading{m, err}:
		case <-ctx.Done():
			return
		}
	}
	close(p.read)
}

// next waits for what the person reads next.
func (p *person) next(ctx context.Context) (*client.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	select {
	case got, ok := <-p.read:
		if !ok {
			return nil, bus.Errorf(bus.CodeClosed, "read as %s: the room has ended", p.handle)
		}
		return got.message, got.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read as %s: %w", p.handle, ctx.Err())
	}
}

// close ends the people's connections and then the node.
func (w *world) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var errs []error
	for _, cl := range w.all {
		errs = append(errs, cl.Close(ctx))
	}
	if w.node != nil {
		errs = append(errs, w.node.Stop(ctx))
	}
	return errors.Join(errs...)
}
