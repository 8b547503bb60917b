package client_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log"
	"log/slog"
	"os"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// demo is a whole bus for an example: one node in this process, in a temporary
// directory.
type demo struct {
	busID         bus.BusID
	servers, urls []string
	identities    map[string]*identity.Identity
	admin         *client.Client

	node    *node.Node
	dir     string
	clients []*client.Client
}

// startDemo starts a bus with an admin and these users.
func startDemo(ctx context.Context, users ...string) *demo {
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	d := &demo{busID: root.BusID(), identities: map[string]*identity.Identity{}}
	if d.dir, err = os.MkdirTemp("", "unibus-demo-"); err != nil {
		log.Fatal(err)
	}
	d.identities["admin"] = d.newIdentity()
	d.node, err = node.Start(ctx, node.Config{
		BusID: d.busID, DataDir: d.dir, Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: d.identities["admin"].SignPub()},
		Logger:         slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	d.servers, d.urls = []string{d.node.ServerURL()}, []string{d.node.URL()}
	d.admin = d.dial(ctx, "admin")
	for _, name := range users {
		d.identities[name] = d.newIdentity()
		if _, err := d.admin.AddUser(ctx, d.identities[name].SignPub(), bus.Handle(name), bus.UserMember); err != nil {
			log.Fatal(err)
		}
	}
	return d
}

func (d *demo) newIdentity() *identity.Identity {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return id
}

func (d *demo) dial(ctx context.Context, name string) *client.Client {
	c, err := client.Dial(ctx, client.Config{Servers: d.servers, URLs: d.urls, BusID: d.busID, Identity: d.identities[name]})
	if err != nil {
		log.Fatal(err)
	}
	d.clients = append(d.clients, c)
	return c
}

func (d *demo) room(ctx context.Context, c *client.Client, name bus.RoomName) *client.Room {
	r, err := c.CreateRoom(ctx, name, client.RoomOptions{})
	if err != nil {
		log.Fatal(err)
	}
	return r
}

// join has somebody invited to a room and accept it.
func (d *demo) join(ctx context.Context, r *client.Room, name string) *client.Room {
	c := d.dial(ctx, name) // whoever is invited has signed in before
	if err := r.Invite(ctx, c.ID().String(), bus.RoleWriter); err != nil {
		log.Fatal(err)
	}
	theirs, err := c.AcceptRoom(ctx, r.ID())
	if err != nil {
		log.Fatal(err)
	}
	return theirs
}

func (d *demo) publish(ctx context.Context, r *client.Room, bodies ...string) {
	for _, b := range bodies {
		if _, err := r.Publish(ctx, []byte(b)); err != nil {
			log.Fatal(err)
		}
	}
}

func (d *demo) stop() {
	ctx := context.Background()
	var errs []error
	for _, c := range d.clients {
		errs = append(errs, c.Close(ctx))
	}
	errs = append(errs, d.node.Stop(ctx), os.RemoveAll(d.dir))
	if err := errors.Join(errs...); err != nil {
		log.Fatal(err)
	}
}
