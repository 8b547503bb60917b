package directory

import (
	"slices"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

func TestSweepLeavesTheChainAndWhatIsYoung(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	first := w.create(alice)
	second := w.next(first, alice)
	// What a crash leaves of a record that is about to be appended and of a
	// room that is about to be made.
	crash := func(bucket store.Bucket, do func() error) {
		t.Helper()
		w.faults.plan(func(_ int, b store.Bucket, _ string) fault {
			if b == bucket {
				return refused
			}
			return none
		})
		want(t, do(), bus.CodeUnavailable)
		w.faults.plan(nil)
	}
	crash(store.Control, func() error { return w.dir.AppendRecord(w.ctx, second.Record, second.Sealed) })
	unmade := w.genesis(alice)
	crash(store.Control, func() error { return w.dir.CreateRoom(w.ctx, alice.ID(), unmade.Record, unmade.Sealed) })
	half := w.genesis(alice)
	crash(store.Sealed, func() error { return w.dir.CreateRoom(w.ctx, alice.ID(), half.Record, half.Sealed) })

	if n, err := w.dir.SweepOrphans(w.ctx); n != 0 || err != nil {
		t.Fatalf("swept %d young records, %v", n, err)
	}
	w.pass(OrphanAge + time.Second)
	third := w.append(first, alice) // the other branch
	if n, err := w.restarted().SweepOrphans(w.ctx); n != 3 || err != nil {
		t.Fatalf("swept %d, %v", n, err)
	}
	keys := []string{
		recordKey(first.Record.Room, first.Record.Hash()),
		recordKey(first.Record.Room, third.Record.Hash()),
	}
	slices.Sort(keys)
	if got := w.contents(store.Records); !slices.Equal(got, keys) {
		t.Errorf("records left: %v", got)
	}
	for i := range keys {
		keys[i] += "/0"
	}
	if got := w.contents(store.Sealed); !slices.Equal(got, keys) {
		t.Errorf("sealed keys left: %v", got)
	}
	w.must(w.hasHead(third, alice))
	if n, err := w.dir.SweepOrphans(w.ctx); n != 0 || err != nil {
		t.Errorf("swept %d again, %v", n, err)
	}
	// What was swept can be made anew.
	w.must(w.dir.CreateRoom(w.ctx, alice.ID(), unmade.Record, unmade.Sealed))
	w.must(w.hasHead(unmade, alice))
}

// An author comes back with a record that was about to be swept, before every
// single delete of the sweep.
func TestSweepDoesNotTakeWhatIsBeingAppended(t *testing.T) {
	for at := 1; at <= 2; at++ {
		w := newWorld(t)
		alice := w.member("alice")
		first := w.create(alice)
		second := w.next(first, alice)
		w.faults.plan(func(_ int, b store.Bucket, _ string) fault {
			if b == store.Control {
				return refused
			}
			return none
		})
		want(t, w.dir.AppendRecord(w.ctx, second.Record, second.Sealed), bus.CodeUnavailable)
		w.pass(OrphanAge + time.Second)
		deletes := 0
		w.faults.plan(func(n int, b store.Bucket, _ string) fault {
			if deletes++; n == at {
				w.faults.plan(nil)
				w.must(w.dir.AppendRecord(w.ctx, second.Record, second.Sealed))
			}
			return none
		})
		n, err := w.dir.SweepOrphans(w.ctx)
		w.must(err)
		if deletes != at || n != 0 {
			t.Errorf("back before delete %d: %d deletes, %d swept", at, deletes, n)
		}
		w.must(w.hasHead(second, alice))
	}
}

// The room goes on between finding its records and reading its head.
func TestSweepFollowsARoomThatGoesOn(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	s := w.create(alice)
	orphan := w.next(s, alice)
	w.faults.plan(func(_ int, b store.Bucket, _ string) fault {
		if b == store.Control {
			return refused
		}
		return none
	})
	want(t, w.dir.AppendRecord(w.ctx, orphan.Record, orphan.Sealed), bus.CodeUnavailable)
	w.faults.plan(nil)
	s = w.append(s, alice)
	w.pass(OrphanAge + time.Second)
	dir := w.restarted()
	went := false
	w.faults.failReads(func(b store.Bucket, key string) error {
		if !went && key == headKey(s.Record.Room) {
			went = true
			w.faults.failReads(nil)
			s = w.append(s, alice)
		}
		return nil
	})
	_, err := dir.SweepOrphans(w.ctx)
	w.must(err)
	if !went {
		t.Fatal("the sweep did not read the head")
	}
	_, err = dir.SweepOrphans(w.ctx)
	w.must(err)
	if n := len(w.contents(store.Records)); n != 3 {
		t.Errorf("%d records left, want 3", n)
	}
	page, err := w.restarted().Records(w.ctx, s.Record.Room, alice.ID(), 0, 1<<20)
	w.must(err)
	if len(page.Records) != 3 {
		t.Errorf("%d records in the chain", len(page.Records))
	}
}
