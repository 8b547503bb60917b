package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// While no acknowledgement comes a client takes as much as it says and no more;
// whoever has more waits, and goes on when they come.
func TestWhatIsQueuedIsBounded(t *testing.T) {
	t.Parallel()
	const frames = 20
	for name, c := range map[string]struct {
		size int
		most int // messages
	}{
		"small messages": {10, frames * bus.MaxRecords},
		"large messages": {60 << 10, frames * bus.MaxFrameSize / (60 << 10)},
		"whole frames":   {bus.MaxRecordSize, frames},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.watched(w.addUser("alice"), nil)
			r, _ := w.room(alice.Client, "log")
			publish(t, w, r, "first") // which travels alone
			alice.data.set(func(d delivery) []delivery {
				if strings.Contains(d.subject, ".a.") {
					return nil
				}
				return []delivery{d}
			})
			body := make([]byte, c.size)
			var taken []client.Pending
			for {
				ctx, cancel := context.WithTimeout(w.ctx(), 500*time.Millisecond)
				p, err := r.PublishAsync(ctx, body)
				cancel()
				if err != nil {
					if !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("waiting for room: %v", err)
					}
					break
				}
				if taken = append(taken, p); len(taken) > c.most {
					break
				}
			}
			// Small messages fill no frame while others are being made room for.
			if n := len(taken); n > c.most || n < c.most/frames {
				t.Errorf("%d messages of %d bytes were taken, at most %d may be", n, c.size, c.most)
			}
			alice.data.set(nil)
			for i, p := range taken {
				if _, err := p.Wait(w.ctx()); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			publish(t, w, r, "last")
		})
	}
}
