package client_test

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/httpsig"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/room"
)

// breakHistory has an owner sign a next record whose history holds no key of the
// epoch before, and the servers take it.
func (w *world) breakHistory(r *client.Room, by *identity.Identity, name bus.RoomName, members ...hostile.Line) {
	w.t.Helper()
	recs, err := r.Log(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	signed := hostile.NewRecord(recs[len(recs)-1], room.Key{1}, name, members...).Sign(by)
	u := api.RecordUpload{Record: signed.Record, Members: signed.Members}
	rec, err := room.ParseRecord(signed.Record, signed.Members)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range rec.Members() {
		u.Sealed = append(u.Sealed, api.SealedKey{ID: m.ID, Blob: signed.Sealed[m.ID]})
	}
	body, err := api.Encode(u)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.ctx(), http.MethodPost, w.node.URL()+api.RecordsPath(r.ID()), bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", api.MediaJSON)
	if err := httpsig.Sign(req, body, by.Transport(w.root.BusID()), time.Now(), rand.Reader); err != nil {
		w.t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := api.ReadReply(resp, nil); err != nil {
		w.t.Fatal(err)
	}
}

// card is the newest card that an identity has shown from a state.
func (w *world) card(dir string, id *identity.Identity) *identity.Card {
	w.t.Helper()
	card, err := client.OwnCard(dir, w.root.BusID(), id.ID())
	if err != nil {
		w.t.Fatal(err)
	}
	return card
}

// An authority can write anything where the key of the epoch before belongs. It
// takes that key from those only who never had a copy of their own: neither what
// can be read nor what is sealed again may rest on a history that nobody opened.
func TestHistoryThatLeadsNowhereCostsNoKey(t *testing.T) {
	w := newWorld(t)
	dirs := [2]string{t.TempDir(), t.TempDir()}
	aliceID := w.addUser("alice")
	alice := w.dial(aliceID, func(c *client.Config) { c.StateDir = dirs[0] })
	bobID, file := w.kept("bob")
	bob := w.dial(bobID, func(c *client.Config) { c.Keeper, c.StateDir = file, dirs[1] })
	r := rotated(t, w, alice, "team", client.RoomOptions{}, bob)
	w.breakHistory(r, aliceID, "team",
		hostile.Line{Card: w.card(dirs[0], aliceID), Role: bus.RoleOwner}, hostile.Line{Card: w.card(dirs[1], bobID), Role: bus.RoleWriter})
	want := func(what string, c *client.Client) {
		t.Helper()
		theirs, err := c.Room(w.ctx(), r.ID().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := w.read(theirs, client.Start).bodies(2); got[0] != "one" || got[1] != "two" {
			t.Errorf("%s: read %q", what, got)
		}
	}
	want("before", w.dial(file.loaded(t), nil))
	if err := bob.RenewCard(w.ctx()); err != nil {
		t.Fatal(err)
	}
	dropped, done, err := bob.DropOldKeys(w.ctx())
	if err != nil || dropped != 1 || done.Epochs != 2 {
		t.Errorf("dropped %d, %+v, %v", dropped, done, err)
	}
	w.close(bob)
	dir := t.TempDir()
	for _, what := range []string{"after, without any memory", "after, with the head pinned"} {
		c := w.dial(file.loaded(t), func(c *client.Config) { c.StateDir = dir })
		want(what, c)
		w.close(c)
	}
}

// Who has the newest key alone reads a room whose records come in many pages: the
// last one of a page opens by the history in the next.
func TestHistoryThatGoesOnOnAnotherPageIsFollowed(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	id, file := w.kept("bob")
	bob := w.dial(id, func(c *client.Config) { c.Keeper = file })
	r := rotated(t, w, alice, "team", client.RoomOptions{}, bob)
	if err := bob.RenewCard(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := bob.DropOldKeys(w.ctx()); err != nil || n != 1 {
		t.Fatalf("dropped %d, %v", n, err)
	}
	w.close(bob)
	proxy := newControlProxy(t, w.node.URL())
	proxy.set(func(req *http.Request, body []byte) []byte {
		if req.Method != http.MethodGet || req.URL.Path != api.RecordsPath(r.ID()) {
			return body
		}
		return edit(t, body, func(l *api.RecordList) {
			if len(l.Records) > 1 {
				l.Records, l.More = l.Records[:1], true
			}
		})
	})
	again := w.dial(file.loaded(t), func(c *client.Config) { c.URLs = []string{proxy.URL} })
	theirs, err := again.Room(w.ctx(), r.ID().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := w.read(theirs, client.Start).bodies(2); got[0] != "one" || got[1] != "two" {
		t.Errorf("read %q", got)
	}
}

// A card that is renewed while keys are sealed again to the one before leaves
// that one's key where it is.
func TestKeysOfACardThatWasOvertakenAreNotDropped(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	id, file := w.kept("bob")
	bob := w.watched(id, func(c *client.Config) { c.Keeper, c.StateDir = file, filepath.Join(t.TempDir(), "state") })
	r := rotated(t, w, alice, "none", withoutHistory(), bob.Client)
	if err := bob.RenewCard(w.ctx()); err != nil {
		t.Fatal(err)
	}
	renewed := false
	bob.control.set(func(req *http.Request, body []byte) []byte {
		if req.Method == http.MethodPut && !renewed && req.URL.Path == api.KeyPath(r.ID(), r.Epoch()) {
			renewed = true
			if err := bob.RenewCard(w.ctx()); err != nil {
				t.Error(err)
			}
		}
		return body
	})
	if _, _, err := bob.DropOldKeys(w.ctx()); err != nil || !renewed {
		t.Errorf("drop: %v, renewed meanwhile: %t", err, renewed)
	}
	bob.control.set(nil)
	w.close(bob.Client)
	theirs, err := w.dial(file.loaded(t), nil).Room(w.ctx(), r.ID().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := w.read(theirs, client.Start).bodies(2); got[0] != "one" || got[1] != "two" {
		t.Errorf("read %q", got)
	}
}
