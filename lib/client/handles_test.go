package client_test

import (
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// signedHandle has a server say, with the word of the root, who a handle is.
func signedHandle(t *testing.T, w *world, handle bus.Handle, seq uint64, who *client.Client) func(*http.Request, []byte) []byte {
	t.Helper()
	entry, err := w.root.SignEntry(identity.Entry{BusID: w.root.BusID(), Handle: handle, ID: who.ID(), Seq: seq, NotAfter: nowSecond().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return func(req *http.Request, body []byte) []byte {
		if req.URL.Path != api.HandlePath(handle) {
			return body
		}
		return edit(t, body, func(i *api.HandleInfo) { i.ID, i.SignPub, i.Entry = who.ID(), who.SignPub(), entry })
	}
}

// A handle that the root gave to somebody else names nobody's messages and
// memberships of before, in this process and in another one of the same state.
func TestMovedHandleLeavesItsOldIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob, carol := w.user("bob"), w.user("carol")
	id, dir := w.addUser("alice"), t.TempDir()
	state := func(c *client.Config) { c.StateDir = dir }
	alice, other := w.watched(id, state), w.dial(id, state)
	r, _ := w.room(alice.Client, "team", bob, carol)
	handles := func(r *client.Room) (bobs, carols bus.Handle) {
		for _, m := range r.Members() {
			switch m.ID {
			case bob.ID():
				bobs = m.Handle
			case carol.ID():
				carols = m.Handle
			}
		}
		return bobs, carols
	}
	for _, first := range []bool{true, false} {
		if peer, err := alice.Resolve(w.ctx(), "bob"); err != nil || peer.ID != bob.ID() || peer.Pinned != first {
			t.Fatalf("%+v, %v", peer, err)
		}
	}
	if b, c := handles(r); b != "bob" || c != "" {
		t.Errorf("bob is %q, carol %q", b, c)
	}
	// The root cannot have said both: a server may have lied before.
	alice.control.set(signedHandle(t, w, "bob", 1, carol))
	if _, err := alice.Resolve(w.ctx(), "bob"); !errors.Is(err, bus.ErrPinChanged) {
		t.Fatalf("the root contradicts what was pinned: %v", err)
	}
	alice.control.set(signedHandle(t, w, "bob", 1, bob))
	if peer, err := alice.Resolve(w.ctx(), "bob"); err != nil || !peer.Signed || peer.Pinned {
		t.Fatalf("%+v, %v", peer, err)
	}
	elsewhere, err := other.Room(w.ctx(), "team")
	if err != nil {
		t.Fatal(err)
	}
	// What the other process resolves tells it of all that was pinned.
	if _, err := other.Resolve(w.ctx(), "admin"); err != nil {
		t.Fatal(err)
	}
	if b, c := handles(elsewhere); b != "bob" || c != "" {
		t.Errorf("elsewhere bob is %q, carol %q", b, c)
	}
	alice.control.set(signedHandle(t, w, "bob", 2, carol))
	if peer, err := alice.Resolve(w.ctx(), "bob"); err != nil || peer.ID != carol.ID() || !peer.Signed || !peer.Pinned {
		t.Fatalf("%+v, %v", peer, err)
	}
	alice.control.set(signedHandle(t, w, "bob", 1, bob))
	if _, err := alice.Resolve(w.ctx(), "bob"); !errors.Is(err, bus.ErrRollback) {
		t.Errorf("an older entry: %v", err)
	}
	if b, c := handles(r); b != "" || c != "bob" {
		t.Errorf("moved: bob is %q, carol %q", b, c)
	}
	if _, err := other.Resolve(w.ctx(), "admin"); err != nil {
		t.Fatal(err)
	}
	if b, c := handles(elsewhere); b != "" || c != "bob" {
		t.Errorf("moved elsewhere: bob is %q, carol %q", b, c)
	}
	if err := alice.ForgetHandle(w.ctx(), "bob"); err != nil {
		t.Fatal(err)
	}
	if b, c := handles(r); b != "" || c != "" {
		t.Errorf("forgotten: bob is %q, carol %q", b, c)
	}
}

func TestRevokedUserIsNotInvited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.addUser("bob")
	w.close(w.dial(bob, nil)) // shows a card
	if _, err := w.admin.RevokeUser(w.ctx(), bob.SignPub()); err != nil {
		t.Fatal(err)
	}
	f := newRefusals(t, w.node.URL())
	alice := w.dial(w.addUser("alice"), func(c *client.Config) { c.URLs = []string{f.url} })
	r, _ := w.room(alice, "team")
	if err := r.Invite(w.ctx(), "bob", bus.RoleReader); !errors.Is(err, bus.ErrRevoked) {
		t.Errorf("invite: %v", err)
	}
	if sent, _ := f.records(); sent != 0 || r.Epoch() != 0 {
		t.Errorf("%d records were sent", sent)
	}
}

func TestRevokedMemberIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, _ := w.room(alice, "team", bob)
	if _, err := w.admin.RevokeUser(w.ctx(), bob.SignPub()); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(w.ctx(), "bob"); err != nil || len(r.Members()) != 1 {
		t.Errorf("members %v: %v", r.Members(), err)
	}
}

func TestUsersThatNeverEndAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*api.UserList){
		"the same page again": func(l *api.UserList) { l.More = true },
		"descending":          func(l *api.UserList) { slices.Reverse(l.Users) },
		"nothing and more":    func(l *api.UserList) { l.Users, l.More = nil, true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.addUser("alice")
			boss, err := identity.Generate(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.admin.AddUser(w.ctx(), boss.SignPub(), "boss", bus.UserAdmin); err != nil {
				t.Fatal(err)
			}
			admin := w.watched(boss, nil)
			var first atomic.Pointer[[]byte]
			admin.control.set(func(req *http.Request, body []byte) []byte {
				if req.URL.Path != api.UsersPath() {
					return body
				}
				if first.Load() == nil {
					page := edit(t, body, change)
					first.Store(&page)
				}
				return *first.Load()
			})
			if _, err := admin.Users(w.ctx()); !errors.Is(err, bus.ErrMalformed) {
				t.Errorf("users: %v", err)
			}
		})
	}
}
