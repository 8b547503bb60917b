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
