package client_test

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(childNode); config != "" {
		runNode(config)
		return
	}
	goleak.VerifyTestMain(m)
}

// world is a node and the people on its bus.
type world struct {
	t     *testing.T
	root  *identity.Root
	cfg   node.Config
	node  *node.Node
	admin *client.Client
}

func testLogger(t *testing.T) *slog.Logger {
	if os.Getenv("UNIBUS_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, func(*world) {})
}

// newWorldWith is newWorld with a node that change has set up.
func newWorldWith(t *testing.T, change func(*world)) *world {
	t.Helper()
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, root: root, cfg: node.Config{
		BusID:          root.BusID(),
		DataDir:        t.TempDir(),
		Name:           "n1",
		ControlListen:  "127.0.0.1:0",
		NATSListen:     "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: admin.SignPub()},
		Logger:         testLogger(t),
	}}
	change(w)
	w.start()
	t.Cleanup(func() { w.stop() })
	w.admin = w.dial(admin, nil)
	return w
}

func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	n, err := node.Start(ctx, w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.node = n
	// A second start is where the first was.
	w.cfg.ControlListen = strings.TrimPrefix(n.URL(), "http://")
	w.cfg.NATSListen = strings.TrimPrefix(n.ServerURL(), "nats://")
}

func (w *world) stop() {
	w.t.Helper()
	if w.node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := w.node.Stop(ctx); err != nil {
		w.t.Error(err)
	}
	w.node = nil
}

func (w *world) config(id *identity.Identity) client.Config {
	return client.Config{
		Servers:  []string{w.node.ServerURL()},
		URLs:     []string{w.node.URL()},
		BusID:    w.root.BusID(),
		Identity: id,
		Logger:   testLogger(w.t),
	}
}

// dial connects an identity that is a user already.
func (w *world) dial(id *identity.Identity, change func(*client.Config)) *client.Client {
	w.t.Helper()
	cfg := w.config(id)
	if change != nil {
		change(&cfg)
	}
	c, err := client.Dial(w.ctx(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.close(c) })
	return c
}

func (w *world) close(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

// user adds somebody and connects.
func (w *world) user(handle bus.Handle) *client.Client {
	w.t.Helper()
	return w.dial(w.addUser(handle), nil)
}

func (w *world) addUser(handle bus.Handle) *identity.Identity {
	w.t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.admin.AddUser(w.ctx(), id.SignPub(), handle, bus.UserMember); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// ctx bounds one step of a test.
func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

// room makes a room of c with members as writers, who accept it.
func (w *world) room(c *client.Client, name bus.RoomName, members ...*client.Client) (*client.Room, []*client.Room) {
	w.t.Helper()
	r, err := c.CreateRoom(w.ctx(), name, client.RoomOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return r, w.invite(r, members...)
}

func (w *world) invite(r *client.Room, members ...*client.Client) []*client.Room {
	w.t.Helper()
	var rooms []*client.Room
	for _, m := range members {
		if err := r.Invite(w.ctx(), m.ID().String(), bus.RoleWriter); err != nil {
			w.t.Fatal(err)
		}
		theirs, err := m.AcceptRoom(w.ctx(), r.ID())
		if err != nil {
			w.t.Fatal(err)
		}
		rooms = append(rooms, theirs)
	}
	return rooms
}

// inbox collects what an iteration hands out.
type inbox struct {
	t      *testing.T
	cancel context.CancelFunc

	mu     sync.Mutex
	msgs   []*client.Message
	errs   []error
	ended  bool
	change chan struct{}
}

// read reads a room in the background until the test ends.
func (w *world) read(r *client.Room, from client.From) *inbox {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in := &inbox{t: w.t, cancel: cancel, change: make(chan struct{})}
	seq := r.Messages(ctx, from)
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.run(seq)
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	return in
}

func (in *inbox) run(seq iter.Seq2[*client.Message, error]) {
	for m, err := range seq {
		in.mu.Lock()
		if err != nil {
			in.errs = append(in.errs, err)
		} else {
			in.msgs = append(in.msgs, m)
		}
		close(in.change)
		in.change = make(chan struct{})
		in.mu.Unlock()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	close(in.change)
	in.change = make(chan struct{})
}

// wait returns when until is true of what has come.
func (in *inbox) wait(what string, until func() bool) {
	in.t.Helper()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	for {
		in.mu.Lock()
		ok, change := until(), in.change
		n, errs := len(in.msgs), errors.Join(in.errs...)
		in.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-limit.C:
			in.t.Fatalf("no %s: %d messages, errors: %v", what, n, errs)
		}
	}
}

// bodies waits for n messages and returns their bodies; an error in between is
// the test's.
func (in *inbox) bodies(n int) []string {
	in.t.Helper()
	in.wait("messages", func() bool { return len(in.msgs) >= n || len(in.errs) > 0 })
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.errs) > 0 {
		in.t.Fatalf("after %d messages: %v", len(in.msgs), in.errs)
	}
	out := make([]string, n)
	for i := range out {
		out[i] = string(in.msgs[i].Body)
	}
	return out
}

// failure waits for an error that is target.
func (in *inbox) failure(target error) error {
	in.t.Helper()
	var found error
	in.wait(target.Error(), func() bool {
		for _, err := range in.errs {
			if errors.Is(err, target) {
				found = err
			}
		}
		return found != nil
	})
	return found
}

func nowSecond() time.Time { return time.Now().Truncate(time.Second).Add(-time.Minute) }

func malloryIdentity(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Error(err)
	}
	return id
}
