package node

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/lib/bus"
	busclient "github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// filled is a node with a limit of bytes, and clients of its users.
type filled struct {
	*testing.T
	cfg  Config
	node *Node
}

func (w *filled) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *filled) start() {
	w.Helper()
	var err error
	w.node, err = Start(w.Context(), w.cfg)
	w.must(err)
	w.cfg.ControlListen = strings.TrimPrefix(w.node.URL(), "http://")
	w.cfg.NATSListen = strings.TrimPrefix(w.node.ServerURL(), "nats://")
}

func (w *filled) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.node.Stop(ctx); err != nil {
		w.Error(err)
	}
}

func (w *filled) dial(id *identity.Identity) *busclient.Client {
	w.Helper()
	c, err := busclient.Dial(w.Context(), busclient.Config{
		Servers: []string{w.node.ServerURL()}, URLs: []string{w.node.URL()}, BusID: w.cfg.BusID, Identity: id, Logger: w.cfg.Logger,
	})
	w.must(err)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			w.Error(err)
		}
	})
	return c
}

func (w *filled) identity() *identity.Identity {
	w.Helper()
	id, err := identity.Generate(rand.Reader)
	w.must(err)
	return id
}

func (w *filled) room(c *busclient.Client, name bus.RoomName) *busclient.Room {
	w.Helper()
	r, err := c.CreateRoom(w.Context(), name, busclient.RoomOptions{})
	w.must(err)
	return r
}

// until asks every 5 ms until done says so, for half a minute at most.
func (w *filled) until(what string, done func() bool) {
	w.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("waited in vain for %s", what)
		}
	}
}

const filling = 20_000 // bytes of a message

func publish(r *busclient.Room) error {
	_, err := r.Publish(context.Background(), make([]byte, filling))
	return err
}

func TestAnOwnerBeyondItsBytesIsRefusedUntilThereIsRoomAgain(t *testing.T) {
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &filled{T: t}
	admin, ali, bo := w.identity(), w.identity(), w.identity()
	w.cfg = Config{
		BusID: root.BusID(), DataDir: filepath.Join(t.TempDir(), "data"), Name: "n1",
		ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		BootstrapAdmin: &Admin{Handle: "admin", SignPub: admin.SignPub()}, UserBytes: 10 * filling,
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	adder := w.dial(admin)
	for handle, id := range map[bus.Handle]*identity.Identity{"alice": ali, "bob": bo} {
		_, err := adder.AddUser(t.Context(), id.SignPub(), handle, bus.UserMember)
		w.must(err)
	}
	alice, bob := w.dial(ali), w.dial(bo)
	full, second, other := w.room(alice, "full"), w.room(alice, "second"), w.room(bob, "other")

	stored := 0
	for ; err == nil && stored < 100; stored++ {
		before := w.node.quota.Used(alice.ID())
		if err = publish(full); err == nil {
			w.until("the count", func() bool { return w.node.quota.Used(alice.ID()) > before })
		}
	}
	if stored--; !errors.Is(err, bus.ErrQuota) || stored != 10 {
		t.Fatalf("after %d messages: %v", stored, err)
	}
	if err := publish(second); !errors.Is(err, bus.ErrQuota) {
		t.Errorf("another room of the owner: %v", err)
	}
	w.must(publish(other))
	w.until("the other's count", func() bool { return w.node.quota.Used(bob.ID()) > filling })
	before := w.node.quota.Used(alice.ID())

	w.stop()
	w.start()
	w.until("the counts after a restart", func() bool {
		return w.node.quota.Used(alice.ID()) == before && w.node.quota.Used(bob.ID()) > filling
	})
	if err := publish(full); !errors.Is(err, bus.ErrQuota) {
		t.Errorf("after a restart: %v", err)
	}
	w.must(publish(other))

	w.must(w.node.broker.Purge(t.Context(), []broker.Expiry{{Room: full.ID(), Before: time.Now().Add(time.Hour)}}))
	if used := w.node.quota.Used(alice.ID()); used != 0 {
		t.Errorf("%d bytes are counted after everything was purged", used)
	}
	for _, r := range []*busclient.Room{full, second, other} {
		w.must(publish(r))
	}
}
