package client_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// handIn brings a revocation to the node without any key.
func (w *world) handIn(r identity.Revocation) {
	w.t.Helper()
	body, err := api.Encode(api.Revocation{Revocation: r.Bytes()})
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.ctx(), http.MethodPut, w.node.URL()+api.RevocationPath(r.ID()), bytes.NewReader(body))
	if err != nil {
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

// told is an OnEvent that hands over what it hears of one kind.
func told(kind client.EventKind) (func(client.Event), <-chan client.Event) {
	heard := make(chan client.Event, 64)
	return func(e client.Event) {
		if e.Kind == kind {
			heard <- e
		}
	}, heard
}

func (w *world) hear(events <-chan client.Event) client.Event {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx())
	defer cancel()
	select {
	case e := <-events:
		return e
	case <-ctx.Done():
		w.t.Fatal("no event")
	}
	return client.Event{}
}

func TestRevocationIsProvenToAuthoritiesAndStaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	onEvent, events := told(client.EventRevoked)
	dir := t.TempDir()
	id := w.addUser("alice")
	alice := w.watched(id, func(c *client.Config) { c.OnEvent, c.StateDir = onEvent, dir })
	bobID := w.addUser("bob")
	bob, carol := w.dial(bobID, nil), w.user("carol")
	r, _ := w.room(alice.Client, "team", bob, carol)
	if s, err := alice.Standing(w.ctx(), "bob"); err != nil || s.Revoked || s.ID != bob.ID() {
		t.Fatalf("%+v, %v", s, err)
	}

	// An admin's word, as a server passes it on, and a signed one.
	if _, err := w.admin.RevokeUser(w.ctx(), carol.SignPub()); err != nil {
		t.Fatal(err)
	}
	if e := w.hear(events); !errors.Is(e.Err, bus.ErrRevoked) || e.Room != r.ID() || e.Detail != "by the word of a server" {
		t.Errorf("%+v", e)
	}
	w.handIn(bobID.Revocation())
	if e := w.hear(events); !errors.Is(e.Err, bus.ErrRevoked) || e.Room != r.ID() || e.Detail != "proven by signature" {
		t.Errorf("%+v", e)
	}
	proven := map[bus.ID]bool{bob.ID(): true, carol.ID(): false}
	check := func(what string, r *client.Room, want int) {
		t.Helper()
		revoked, err := r.Revoked(w.ctx())
		if err != nil || len(revoked) != want {
			t.Errorf("%s: %+v, %v", what, revoked, err)
		}
		for _, s := range revoked {
			if p, ok := proven[s.ID]; !ok || !s.Revoked || s.Proven != p {
				t.Errorf("%s: %+v", what, s)
			}
		}
	}
	check("both", r, 2)

	// A server that takes it back is believed where there was only its word.
	alice.control.set(func(req *http.Request, body []byte) []byte {
		switch req.URL.Path {
		case api.RevokedMembersPath(r.ID()):
			return []byte(`{"revoked":[]}`)
		case api.HandlePath("bob"):
			return edit(t, body, func(i *api.HandleInfo) { i.Status, i.Revocation = bus.UserActive, nil })
		}
		return body
	})
	check("taken back", r, 1)
	again := w.dial(id, func(c *client.Config) { c.StateDir, c.URLs = dir, []string{alice.control.URL} })
	elsewhere, err := again.Room(w.ctx(), "team")
	if err != nil {
		t.Fatal(err)
	}
	check("in another process", elsewhere, 1)
	if s, err := again.Standing(w.ctx(), "bob"); err != nil || !s.Revoked || !s.Proven {
		t.Errorf("%+v, %v", s, err)
	}
	if p, err := again.Resolve(w.ctx(), "bob"); err != nil || p.Status != bus.UserRevoked {
		t.Errorf("%+v, %v", p, err)
	}
	other, err := again.CreateRoom(w.ctx(), "other", client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"bob", bob.ID().String()} {
		if err := other.Invite(w.ctx(), who, bus.RoleReader); !errors.Is(err, bus.ErrRevoked) {
			t.Errorf("invite %s: %v", who, err)
		}
	}
}

// A server makes as many keys as it likes, and revokes them with themselves.
func TestRevocationsOfStrangersAreNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	alice := w.watched(w.addUser("alice"), func(c *client.Config) { c.StateDir = dir })
	r, _ := w.room(alice.Client, "team")
	alice.control.set(func(req *http.Request, body []byte) []byte {
		if req.URL.Path != api.RevokedMembersPath(r.ID()) {
			return body
		}
		return edit(t, body, func(m *api.RevokedMembers) {
			for range 10 {
				made := malloryIdentity(t)
				m.Revoked = append(m.Revoked, api.Standing{ID: made.ID(), Status: bus.UserRevoked, Revocation: made.Revocation().Bytes()})
			}
		})
	})
	if revoked, err := r.Revoked(w.ctx()); err != nil || len(revoked) != 0 {
		t.Errorf("%+v, %v", revoked, err)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "*", "*", "revoked.json"))
	if err != nil || len(kept) != 0 {
		t.Errorf("%q, %v", kept, err)
	}
}

func TestRevocationThatIsNoneProvesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.watched(w.addUser("alice"), nil)
	bob, mallory := w.user("bob"), malloryIdentity(t)
	r, _ := w.room(alice.Client, "team", bob)
	for name, raw := range map[string][]byte{
		"of another identity": mallory.Revocation().Bytes(),
		"no revocation":       []byte("revoked"),
	} {
		alice.control.set(func(req *http.Request, body []byte) []byte {
			if req.URL.Path != api.RevokedMembersPath(r.ID()) {
				return body
			}
			return edit(t, body, func(m *api.RevokedMembers) {
				m.Revoked = []api.Standing{{ID: bob.ID(), Status: bus.UserRevoked, Revocation: raw}}
			})
		})
		revoked, err := r.Revoked(w.ctx())
		if err != nil || len(revoked) != 1 || revoked[0].Proven {
			t.Errorf("%s: %+v, %v", name, revoked, err)
		}
	}
	alice.control.set(nil)
	if err := r.Invite(w.ctx(), "bob", bus.RoleReader); err != nil {
		t.Errorf("invite: %v", err)
	}
}
