package client_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// kept makes a user whose identity is in a file.
func (w *world) kept(handle bus.Handle) (*identity.Identity, keeper) {
	w.t.Helper()
	id, file := w.addUser(handle), keeper(filepath.Join(w.t.TempDir(), string(handle)+".id"))
	if err := id.Create(string(file), ""); err != nil {
		w.t.Fatal(err)
	}
	return id, file
}

// loaded is the identity as it is in its file.
func (k keeper) loaded(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := k.Load()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// withoutHistory is a room in which each epoch's key has to be had by itself.
func withoutHistory() client.RoomOptions {
	p := bus.DefaultPolicy()
	p.Flags &^= bus.FlagHistory
	return client.RoomOptions{Policy: &p}
}

func rotated(t *testing.T, w *world, c *client.Client, name bus.RoomName, opts client.RoomOptions, members ...*client.Client) *client.Room {
	t.Helper()
	r, err := c.CreateRoom(w.ctx(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	w.invite(r, members...)
	publish(t, w, r, "one")
	if err := r.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	publish(t, w, r, "two")
	return r
}

// With its newest key alone, in a place without any memory, a member reads
// everything it could read before.
func TestOldKeysAreDroppedOnceAllIsSealedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, file := w.kept("bob")
	dir := t.TempDir()
	bob := w.watched(id, func(c *client.Config) { c.Keeper, c.StateDir = file, dir })
	rooms := map[string]*client.Room{
		"history": rotated(t, w, alice, "history", client.RoomOptions{}, bob.Client),
		"none":    rotated(t, w, alice, "none", withoutHistory(), bob.Client),
		"left":    rotated(t, w, alice, "left", withoutHistory(), bob.Client),
	}
	if err := rooms["left"].Remove(w.ctx(), "bob"); err != nil {
		t.Fatal(err)
	}
	if err := bob.RenewCard(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if n := len(file.loaded(t).KEMs()); n != 2 {
		t.Fatalf("%d keys after renewing", n)
	}

	// A server that swaps what it was given, or keeps nothing, costs no key.
	for name, lie := range map[string]func(k *api.SealedKey){
		"swapped":  func(k *api.SealedKey) { k.Blob[0] ^= 1 },
		"withheld": func(k *api.SealedKey) { k.Card = nil },
	} {
		bob.control.set(func(req *http.Request, body []byte) []byte {
			if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/keys/") || req.URL.RawQuery != "" {
				return body
			}
			return edit(t, body, func(k *api.SealedKey) {
				if k.Card != nil {
					lie(k)
				}
			})
		})
		if n, _, err := bob.DropOldKeys(w.ctx()); err == nil || n != 0 {
			t.Errorf("%s: dropped %d, %v", name, n, err)
		}
		if n := len(file.loaded(t).KEMs()); n != 2 {
			t.Fatalf("%s: %d keys are left", name, n)
		}
	}
	bob.control.set(nil)

	dropped, done, err := bob.DropOldKeys(w.ctx())
	// One epoch of the room with history, and each of two after the first of the
	// others, of which the last one removed bob.
	if err != nil || dropped != 1 || done.Rooms != 3 || done.Epochs != 1+2+2 {
		t.Errorf("dropped %d, %+v, %v", dropped, done, err)
	}
	if again, err := bob.Reseal(w.ctx()); err != nil || again.Made != 0 || again.Epochs != done.Epochs {
		t.Errorf("again: %+v, %v", again, err)
	}
	w.close(bob.Client)

	newest := file.loaded(t)
	if n := len(newest.KEMs()); n != 1 || newest.LatestKEM().CardSeq != 2 {
		t.Fatalf("%d keys are left", n)
	}
	fresh := w.watched(newest, nil)
	for name, r := range rooms {
		theirs, err := fresh.Room(w.ctx(), r.ID().String())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "left" { // nothing is read there any more, but what it was called is known
			if theirs.Name() != "left" {
				t.Errorf("the room it was removed from is called %q", theirs.Name())
			}
			continue
		}
		if got := w.read(theirs, client.Start).bodies(2); got[0] != "one" || got[1] != "two" {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

func TestKeysOfAnotherBusAreNotDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, file := w.kept("bob")
	dir := t.TempDir()
	bob := w.dial(id, func(c *client.Config) { c.Keeper, c.StateDir = file, dir })
	elsewhere := filepath.Join(dir, bus.BusID{1}.Token(), id.ID().Token())
	if err := os.MkdirAll(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := bob.RenewCard(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := bob.DropOldKeys(w.ctx()); n != 0 || !errors.Is(err, bus.ErrConflict) {
		t.Errorf("dropped %d, %v", n, err)
	}
	if err := os.WriteFile(filepath.Join(elsewhere, "resealed.json"), []byte(`{"v":1,"card_seq":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, _, err := bob.DropOldKeys(w.ctx()); n != 1 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	without := w.dial(w.addUser("carol"), nil)
	if err := without.RenewCard(w.ctx()); !errors.Is(err, bus.ErrUsage) {
		t.Errorf("renew: %v", err)
	}
	if _, _, err := without.DropOldKeys(w.ctx()); !errors.Is(err, bus.ErrUsage) {
		t.Errorf("drop: %v", err)
	}
}

// Two processes renew at once: each key is kept, and no number is used twice.
func TestCardsAreRenewedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, file := w.kept("bob")
	dir := t.TempDir()
	config := func(c *client.Config) { c.Keeper, c.StateDir = file, dir }
	errs := make(chan error, 2)
	for range 2 {
		c := w.dial(id, config)
		go func() { errs <- c.RenewCard(w.ctx()) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := len(file.loaded(t).KEMs()); n != 3 {
		t.Errorf("%d keys", n)
	}
}
