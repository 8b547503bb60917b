package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// newSwept makes a store that sweeps when the test says so.
func newSwept(t *testing.T) (*Store, *clock) {
	c := newClock()
	return mustOpen(t, filepath.Join(t.TempDir(), "u.db"), Options{Now: c.Now, SweepEvery: 24 * time.Hour}), c
}

func (s *Store) mustSweep(t *testing.T) {
	t.Helper()
	if err := s.sweep(t.Context(), store.Control); err != nil {
		t.Fatal(err)
	}
}

// rows counts the rows of the bucket, those that nobody sees included.
func (s *Store) rows(t *testing.T) (live, dead int) {
	t.Helper()
	err := s.read(t.Context(), func(c *conn) error {
		return c.run("SELECT value IS NULL FROM control", func(row *sqlite3.Stmt) bool {
			if row.ColumnBool(0) {
				dead++
			} else {
				live++
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return live, dead
}

func (s *Store) wantRows(t *testing.T, live, dead int) {
	t.Helper()
	if l, d := s.rows(t); l != live || d != dead {
		t.Fatalf("%d entries and %d tombstones, want %d and %d", l, d, live, dead)
	}
}

func watchAll(t *testing.T, s *Store) store.Watcher {
	t.Helper()
	w, err := s.Watch(t.Context(), store.Control, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// takeUntil receives events up to the one with the revision.
func takeUntil(t *testing.T, w store.Watcher, rev store.Revision) {
	t.Helper()
	for e := range w.Events() {
		if e.Revision >= rev {
			return
		}
	}
	t.Fatalf("the watch ended before revision %d: %v", rev, w.Err())
}

// waitPassed waits until the watch has read up to the head.
func (s *Store) waitPassed(t *testing.T, w store.Watcher) {
	t.Helper()
	late := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		passed := w.(*watcher).pos >= s.feeds[store.Control].head
		s.mu.Unlock()
		if passed {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the watch stays behind")
		}
	}
}

func TestTombstonesGoWhenNobodyWatches(t *testing.T) {
	s, _ := newSwept(t)
	create(t, s, "kept", "v")
	for i := range 600 {
		key := fmt.Sprint("k", i)
		if err := s.Delete(t.Context(), store.Control, key, create(t, s, key, "v")); err != nil {
			t.Fatal(err)
		}
	}
	s.wantRows(t, 1, 600)
	s.mustSweep(t)
	s.wantRows(t, 1, 0)
}

func TestTombstonesStayForAWatchThatIsBehind(t *testing.T) {
	s, c := newSwept(t)
	ahead, behind := watchAll(t, s), watchAll(t, s)
	gone := create(t, s, "gone", "v")
	takeUntil(t, behind, gone) // and no further
	if err := s.Delete(t.Context(), store.Control, "gone", gone); err != nil {
		t.Fatal(err)
	}
	end := create(t, s, "end", "v")
	takeUntil(t, ahead, end)

	// Whether the row is still there depends on how far behind has read ahead of
	// its consumer. That it tells of the delete does not.
	s.mustSweep(t)
	c.Advance(tombstoneLife - time.Second)
	s.mustSweep(t)
	e := <-behind.Events()
	if !e.Deleted || e.Key != "gone" {
		t.Fatalf("event is %+v (%v), want the delete", e, behind.Err())
	}
	takeUntil(t, behind, end)
	s.waitPassed(t, behind)
	s.waitPassed(t, ahead)
	s.mustSweep(t)
	s.wantRows(t, 1, 0)
}

func TestAWatchTooFarBehindEndsWithAGap(t *testing.T) {
	s, c := newSwept(t)
	var revs []store.Revision
	for i := range 2 * batchRows { // more than a watch reads at once
		revs = append(revs, create(t, s, fmt.Sprint("k", i), "v"))
	}
	behind, ahead := watchAll(t, s), watchAll(t, s)
	takeUntil(t, behind, 1)
	takeUntil(t, ahead, revs[len(revs)-1])
	if err := s.Delete(t.Context(), store.Control, "k7", revs[7]); err != nil {
		t.Fatal(err)
	}
	last := len(revs) - 1
	if err := s.Delete(t.Context(), store.Control, fmt.Sprint("k", last), revs[last]); err != nil {
		t.Fatal(err)
	}
	end := create(t, s, "end", "v")
	takeUntil(t, ahead, end)
	s.waitPassed(t, ahead)

	s.mustSweep(t)
	s.wantRows(t, len(revs)-1, 2)
	c.Advance(tombstoneLife)
	s.mustSweep(t)
	s.wantRows(t, len(revs)-1, 0)

	for e := range behind.Events() {
		if e.Revision > revs[last] {
			t.Fatalf("event %+v comes after deletes that were left out", e)
		}
	}
	if !errors.Is(behind.Err(), bus.ErrGap) {
		t.Fatalf("watch that is too far behind: %v", behind.Err())
	}
	after := create(t, s, "after", "v")
	takeUntil(t, ahead, after)
	takeUntil(t, watchAll(t, s), after)
}

func TestManyEntriesEndAtOnce(t *testing.T) {
	s, c := newSwept(t)
	const count = 2*sweepRows + 10
	for i := range count {
		if _, err := s.Create(t.Context(), store.Control, fmt.Sprint("k", i), nil, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := s.Create(t.Context(), store.Control, "kept", nil, time.Minute+1)
	if err != nil {
		t.Fatal(err)
	}
	w := watchAll(t, s)
	takeUntil(t, w, kept)
	s.mustSweep(t)
	s.wantRows(t, count+1, 0)
	c.Advance(time.Minute - 1)
	s.mustSweep(t)
	s.wantRows(t, count+1, 0)
	c.Advance(1)
	s.mustSweep(t)
	gone := map[string]bool{}
	for e := range w.Events() {
		if e.Deleted {
			gone[e.Key] = true
		}
		if len(gone) == count {
			break
		}
	}
	s.waitPassed(t, w)
	s.mustSweep(t)
	s.wantRows(t, 1, 0)
}

func TestTheStoreSweepsByItself(t *testing.T) {
	c := newClock()
	s := mustOpen(t, filepath.Join(t.TempDir(), "u.db"), Options{Now: c.Now, SweepEvery: time.Millisecond})
	if _, err := s.Create(t.Context(), store.Control, "k", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	w := watchAll(t, s)
	c.Advance(time.Minute)
	for e := range w.Events() {
		if e.Deleted && e.Key == "k" {
			break
		}
	}
	s.waitPassed(t, w)
	late := time.After(time.Minute)
	for {
		if live, dead := s.rows(t); live+dead == 0 {
			return
		}
		select {
		case <-late:
			t.Fatal("the tombstone stays")
		default:
		}
	}
}

func TestRevisionsAreNotUsedTwiceAfterTheNewestWasTrimmed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "u.db")
	s := mustOpen(t, path, Options{})
	rev := create(t, s, "k", "v")
	if err := s.Delete(t.Context(), store.Control, "k", rev); err != nil {
		t.Fatal(err)
	}
	s.mustSweep(t)
	s.wantRows(t, 0, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path, Options{})
	if next := create(t, again, "k", "v"); next != rev+2 {
		t.Fatalf("revision %d after a create at %d and a delete", next, rev)
	}
}

func TestAWatchOfSomethingElseKeepsNoTombstones(t *testing.T) {
	s, _ := newSwept(t)
	w, err := s.Watch(t.Context(), store.Control, "other/")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e := <-w.Events(); !e.Synced {
		t.Fatalf("event is %+v, want synced", e)
	}
	if err := s.Delete(t.Context(), store.Control, "k", create(t, s, "k", "v")); err != nil {
		t.Fatal(err)
	}
	s.waitPassed(t, w)
	s.mustSweep(t)
	s.wantRows(t, 0, 0)
}
