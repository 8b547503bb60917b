package client_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// readN reads n messages with a cursor and acknowledges the first acks of them.
func readN(t *testing.T, w *world, r *client.Room, cur *client.Cursor, n, acks int) []string {
	t.Helper()
	var got []string
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for m, err := range r.Messages(ctx, cur) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Body))
		if len(got) <= acks {
			if err := cur.Ack(m); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) == n {
			break
		}
	}
	return got
}

func TestCursorGoesOnAfterWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, dir := w.addUser("bob"), t.TempDir()
	bob := w.dial(id, func(c *client.Config) { c.StateDir = dir })
	r, _ := w.room(alice, "work", bob)
	var all []string
	for i := range 30 {
		all = append(all, fmt.Sprint(i))
		if _, err := r.PublishAsync(w.ctx(), []byte(all[i])); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Flush(w.ctx()); err != nil {
		t.Fatal(err)
	}
	at := 0
	for round, step := range []struct{ read, ack int }{{7, 5}, {3, 0}, {10, 10}, {1, 1}, {14, 14}} {
		room, err := bob.Room(w.ctx(), "work")
		if err != nil {
			t.Fatal(err)
		}
		cur, err := room.OpenCursor(w.ctx(), "worker", client.Start)
		if err != nil {
			t.Fatal(err)
		}
		got := readN(t, w, room, cur, step.read, step.ack)
		if diff := cmp.Diff(all[at:at+step.read], got); diff != "" {
			t.Errorf("round %d: %s", round, diff)
		}
		at += step.ack
		if _, err := room.OpenCursor(w.ctx(), "worker", client.Start); !errors.Is(err, bus.ErrConflict) {
			t.Errorf("opened twice: %v", err)
		}
		if err := cur.Close(); err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 {
			w.close(bob)
			bob = w.dial(id, func(c *client.Config) { c.StateDir = dir })
		}
	}
}

func TestCursorThatBeginsNowSkipsThePast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	r, _ := w.room(alice, "work")
	publish(t, w, r, "past")
	cur, err := r.OpenCursor(w.ctx(), "worker", client.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer cur.Close()
	ctx, cancel := context.WithCancel(w.ctx())
	defer cancel()
	seq := r.Messages(ctx, cur)
	publish(t, w, r, "one", "two")
	for m, err := range seq {
		if err != nil || string(m.Body) != "one" {
			t.Fatalf("%v, %v", m, err)
		}
		if err := cur.Ack(m); err != nil {
			t.Fatal(err)
		}
		break
	}
	if got := readN(t, w, r, cur, 1, 1); got[0] != "two" {
		t.Errorf("read %q", got)
	}
}

func TestNamesResolveAmongAcceptedRooms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, dir := w.addUser("bob"), t.TempDir()
	bob := w.dial(id, func(c *client.Config) { c.StateDir = dir })
	r, err := alice.CreateRoom(w.ctx(), "team", client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleWriter); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Room(w.ctx(), "team"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("invited only: %v", err)
	}
	infos, err := bob.Rooms(w.ctx())
	if err != nil || len(infos) != 1 || infos[0].Name != "team" || infos[0].Accepted || infos[0].Err != nil || infos[0].Role != bus.RoleWriter {
		t.Errorf("rooms %+v, %v", infos, err)
	}
	if _, err := bob.AcceptRoom(w.ctx(), r.ID()); err != nil {
		t.Fatal(err)
	}
	w.close(bob)
	bob = w.dial(id, func(c *client.Config) { c.StateDir = dir })
	if got, err := bob.Room(w.ctx(), "team"); err != nil || got.ID() != r.ID() {
		t.Errorf("accepted: %v, %v", got, err)
	}
	own, err := bob.CreateRoom(w.ctx(), "team", client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bob.Room(w.ctx(), "team")
	if !errors.Is(err, bus.ErrAmbiguous) || !strings.Contains(err.Error(), own.ID().String()) || !strings.Contains(err.Error(), r.ID().String()) {
		t.Errorf("two rooms: %v", err)
	}
	if got, err := bob.Room(w.ctx(), own.ID().String()); err != nil || got != own {
		t.Errorf("by id: %v", err)
	}
}

func TestHandlesArePinnedOnFirstUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	carol := w.user("carol")
	alice := w.watched(w.addUser("alice"), nil)
	r, _ := w.room(alice.Client, "team")
	peer, err := alice.Resolve(w.ctx(), "bob")
	if err != nil || peer.ID != bob.ID() || peer.Signed {
		t.Fatalf("%+v, %v", peer, err)
	}
	alice.control.set(swapHandle(t, "bob", carol))
	if _, err := alice.Resolve(w.ctx(), "bob"); !errors.Is(err, bus.ErrPinChanged) {
		t.Errorf("changed: %v", err)
	}
	if err := r.Invite(w.ctx(), "bob", bus.RoleWriter); !errors.Is(err, bus.ErrPinChanged) {
		t.Errorf("invite: %v", err)
	}
	if err := alice.ForgetHandle(w.ctx(), "bob"); err != nil {
		t.Fatal(err)
	}
	if peer, err = alice.Resolve(w.ctx(), "bob"); err != nil || peer.ID != carol.ID() {
		t.Errorf("forgotten: %+v, %v", peer, err)
	}
	if err := r.Invite(w.ctx(), "carol", bus.RoleWriter); err != nil {
		t.Fatal(err)
	}
	members := r.Members()
	if len(members) != 2 {
		t.Fatalf("members %v", members)
	}
	if _, err := alice.Resolve(w.ctx(), "nobody"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

func TestUsersAreForAdmins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	if _, err := alice.Users(w.ctx()); !errors.Is(err, bus.ErrForbidden) {
		t.Errorf("member lists: %v", err)
	}
	if _, err := w.admin.AddUser(w.ctx(), alice.SignPub(), "alice2", bus.UserMember); !errors.Is(err, bus.ErrExists) {
		t.Errorf("added twice: %v", err)
	}
	users, err := w.admin.Users(w.ctx())
	if err != nil || len(users) != 2 {
		t.Errorf("%d users, %v", len(users), err)
	}
}

// A revoked user's client is cut, learns why, and stops.
func TestRevokedUserIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "team", bob)
	in := w.read(theirs[0], client.Now)
	if _, err := w.admin.RevokeUser(w.ctx(), bob.SignPub()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-bob.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("bob's client goes on")
	}
	if code := bus.CodeOf(bob.Err()); code != bus.CodeRevoked && code != bus.CodeUnauthenticated && code != bus.CodeForbidden {
		t.Errorf("bob stopped with %s: %v", code, bob.Err())
	}
	publish(t, w, r, "without bob")
	in.wait("end", func() bool { return in.ended })
	if len(in.msgs) != 0 || len(in.errs) != 1 {
		t.Errorf("%d messages, %v", len(in.msgs), in.errs)
	}
	cfg := w.config(malloryIdentity(t))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if _, err := client.Dial(ctx, cfg); !errors.Is(err, bus.ErrForbidden) && !errors.Is(err, bus.ErrUnauthenticated) {
		t.Errorf("a stranger dials: %v", err)
	}
}

// keeper is an identity file.
type keeper string

func (k keeper) Load() (*identity.Identity, error) { return identity.Load(string(k), nil) }
func (k keeper) Update(ctx context.Context, change func(*identity.Identity) error) (*identity.Identity, error) {
	return identity.Update(ctx, string(k), nil, change)
}

// oldCard puts a card past half of its life where bob's client finds it.
func oldCard(t *testing.T, w *world, id *identity.Identity, dir string) {
	t.Helper()
	from := nowSecond().Add(-50 * 24 * time.Hour)
	card, err := identity.NewCard(id, w.root.BusID(), from, from.Add(bus.MaxCardLife))
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, w.root.BusID().Token(), id.ID().Token())
	if err := os.MkdirAll(place, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(place, "card"), card.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCardIsRenewedAtHalfLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, dir := w.addUser("bob"), t.TempDir()
	file := keeper(filepath.Join(t.TempDir(), "bob.id"))
	if err := id.Create(string(file), ""); err != nil {
		t.Fatal(err)
	}
	oldCard(t, w, id, dir)
	config := func(c *client.Config) { c.StateDir, c.Keeper = dir, file }
	bob := w.dial(id, config)
	kept, err := file.Load()
	if err != nil || kept.LatestKEM().CardSeq != 2 {
		t.Fatalf("card %d, %v", kept.LatestKEM().CardSeq, err)
	}
	// This one was started with the identity as it was before.
	other := w.dial(id, config)
	r, theirs := w.room(alice, "team", bob)
	accepted, err := other.AcceptRoom(w.ctx(), r.ID())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, w, r, "one")
	for _, room := range []*client.Room{theirs[0], accepted} {
		if got := w.read(room, client.Start).bodies(1); got[0] != "one" {
			t.Errorf("read %q", got)
		}
	}
}

func TestOldCardThatCannotBeRenewedIsWarnedOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, dir := w.addUser("bob"), t.TempDir()
	oldCard(t, w, id, dir)
	warned := make(chan client.Event, 10)
	w.dial(id, func(c *client.Config) {
		c.StateDir = dir
		c.OnEvent = func(e client.Event) {
			if e.Kind == client.EventCard {
				warned <- e
			}
		}
	})
	select {
	case e := <-warned:
		if !errors.Is(e.Err, bus.ErrExpired) {
			t.Errorf("%+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("no warning")
	}
}

func TestConfigIsChecked(t *testing.T) {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := client.Config{
		Servers: []string{"nats://127.0.0.1:1"}, URLs: []string{"http://127.0.0.1:1"},
		BusID: bus.BusID{1}, Identity: id,
	}
	for name, change := range map[string]func(*client.Config){
		"no identity":       func(c *client.Config) { c.Identity = nil },
		"no bus":            func(c *client.Config) { c.BusID = bus.BusID{} },
		"no server":         func(c *client.Config) { c.Servers = nil },
		"no url":            func(c *client.Config) { c.URLs = nil },
		"plain server":      func(c *client.Config) { c.Servers = []string{"nats://n1.example:4222"} },
		"plain url":         func(c *client.Config) { c.URLs = []string{"http://n1.example"} },
		"plain url with ca": func(c *client.Config) { c.CA = x509.NewCertPool() },
		"password":          func(c *client.Config) { c.Servers = []string{"tls://me:secret@n1.example:4222"} },
		"path":              func(c *client.Config) { c.URLs = []string{"https://n1.example/prefix"} },
		"other scheme":      func(c *client.Config) { c.URLs = []string{"ftp://n1.example"} },
		"no host":           func(c *client.Config) { c.Servers = []string{"tls://"} },
	} {
		c := good
		change(&c)
		if _, err := client.Dial(t.Context(), c); !errors.Is(err, bus.ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Dial(ctx, good); !errors.Is(err, bus.ErrTimeout) && !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestTemporaryStateIsDeleted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	w := newWorld(t)
	alice := w.user("alice")
	w.room(alice, "team")
	w.close(alice)
	w.close(w.admin)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "unibus-client-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
