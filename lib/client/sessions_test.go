package client_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/client"
)

// Several programs of one identity at once get the answers to what they asked
// themselves, and each all messages.
func TestSeveralSessionsOfOneIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.addUser("alice")
	first := w.dial(id, nil)
	r, _ := w.room(first, "team")
	const sessions, n = 3, 60
	var rooms []*client.Room
	var inboxes []*inbox
	for range sessions {
		c := w.dial(id, nil)
		room, err := c.AcceptRoom(w.ctx(), r.ID())
		if err != nil {
			t.Fatal(err)
		}
		rooms = append(rooms, room)
		inboxes = append(inboxes, w.read(room, client.Now))
	}
	var mu sync.Mutex
	places := map[uint64]string{}
	var want []string
	var senders sync.WaitGroup
	for i, room := range rooms {
		for k := range n {
			want = append(want, fmt.Sprintf("%d/%02d", i, k))
		}
		senders.Go(func() {
			for k := range n {
				body := fmt.Sprintf("%d/%02d", i, k)
				receipt, err := room.Publish(w.ctx(), []byte(body))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if other, taken := places[receipt.StreamSeq]; taken {
					t.Errorf("%s and %s were both stored at %d", other, body, receipt.StreamSeq)
				}
				places[receipt.StreamSeq] = body
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	for _, in := range inboxes {
		got := in.bodies(sessions * n)
		for i, body := range got {
			if at := in.msgs[i].StreamSeq; places[at] != body {
				t.Errorf("%q is at %d, where %q was acknowledged", body, at, places[at])
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
