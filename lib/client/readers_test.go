package client_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// Readers of one room in one process do not disturb each other.
func TestSeveralReadersOfOneRoom(t *testing.T) {
	t.Parallel()
	for _, flags := range []bus.RoomFlags{bus.FlagPersist, 0} {
		t.Run(fmt.Sprintf("flags %#x", flags), func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			policy := bus.DefaultPolicy()
			policy.Flags = policy.Flags&^bus.FlagPersist | flags
			r, err := alice.CreateRoom(w.ctx(), "team", client.RoomOptions{Policy: &policy})
			if err != nil {
				t.Fatal(err)
			}
			theirs := w.invite(r, bob)[0]
			readers := []*inbox{w.read(theirs, client.Now), w.read(theirs, client.Now), w.read(theirs, client.Now)}
			// Large frames, since the time it takes to open one is the danger.
			const n = 60
			var want []string
			for i := range n {
				body := fmt.Sprintf("%60000d", i)
				want = append(want, body)
				publish(t, w, r, body)
			}
			for i, in := range readers {
				if !cmp.Equal(want, in.bodies(n)) {
					t.Errorf("reader %d read something else", i)
				}
			}
		})
	}
}

// Whoever removes a sender vouches for what it has stored before, also where the
// remover has no key for it.
func TestRemoverNeedsNoKeyToVouch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	policy := bus.DefaultPolicy()
	policy.Flags &^= bus.FlagHistory
	r, err := alice.CreateRoom(w.ctx(), "team", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	bobs := w.invite(r, bob)[0]
	publish(t, w, bobs, "one", "two")
	if err := r.Invite(w.ctx(), carol.ID().String(), bus.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	carols, err := carol.AcceptRoom(w.ctx(), r.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := carols.Remove(w.ctx(), bob.ID().String()); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, w.read(r, client.Start).bodies(2)); diff != "" {
		t.Error(diff)
	}
}
