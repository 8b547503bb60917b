package client

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
)

// Whatever the interleaving of tail, catch-up, lost consumers and a reader that
// takes its time: the reader gets every frame of the room, once, in order.
func TestFeedHasNoHolesAndNoDoubles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := uint64(rapid.IntRange(1, 5*defaultLimits.frames).Draw(t, "frames"))
		behind := 0
		f := newFeed(bus.RoomID{1}, defaultLimits, func() { behind++ })
		stored := uint64(rapid.IntRange(0, int(total)).Draw(t, "stored before"))
		start := uint64(rapid.IntRange(0, int(stored)).Draw(t, "start"))
		var (
			tail     = stored // last place that the tail brought
			placed   bool
			past     uint64 // next place that the catch-up brings
			last     uint64 // the catch-up's
			catching bool
			got      = start // last place that the reader took
		)
		take := func(n int) {
			for range n {
				raw, ok, _, err := f.take()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					return
				}
				if raw.streamSeq != got+1 {
					t.Fatalf("frame %d after %d", raw.streamSeq, got)
				}
				got = raw.streamSeq
			}
		}
		step := func(what string, n int) {
			switch what {
			case "tail":
				for range n {
					if tail < total {
						tail++
						stored = max(stored, tail)
						f.offerTail(rawFrame{streamSeq: tail})
					}
				}
			case "place":
				if !placed {
					placed = true
					f.place(start, stored)
				}
			case "catch up":
				if !catching {
					if from, dropped, ok := f.beginPast(); ok {
						last = stored
						catching = f.catching(last, dropped)
						past = from
					}
				}
			case "past":
				for range n {
					if catching && f.wants() && past <= stored {
						catching = !f.offerPast(rawFrame{streamSeq: past}, last)
						past++
					}
				}
			case "lose":
				if catching {
					f.lostPast()
					catching = false
				}
			case "take":
				take(n)
			}
		}
		steps := rapid.SampledFrom([]string{"tail", "tail", "place", "catch up", "past", "past", "lose", "take"})
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			step(steps.Draw(t, "step"), rapid.IntRange(1, defaultLimits.frames).Draw(t, "n"))
		}
		// Left alone, it comes to an end.
		step("place", 0)
		step("tail", int(total))
		for range 40 {
			step("catch up", 0)
			step("past", defaultLimits.frames)
			take(2 * defaultLimits.frames)
		}
		if got != total {
			t.Fatalf("read up to %d of %d, mode %d", got, total, f.mode)
		}
		if f.mode != feedFollowing {
			t.Fatalf("mode %d at the end", f.mode)
		}
	})
}
