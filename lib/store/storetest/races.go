package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

const workers = 8

// race runs f in several goroutines that begin together.
func race(f func(worker int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range workers {
		all.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	all.Wait()
}

// winner counts the calls that succeeded and fails for any error but lost.
type winner struct {
	h    *harness
	lost []error
	wins atomic.Int32
	rev  atomic.Uint64
	by   atomic.Int32
}

func (w *winner) settle(worker int, rev store.Revision, err error) {
	if err == nil {
		w.wins.Add(1)
		w.rev.Store(uint64(rev))
		w.by.Store(int32(worker))
		return
	}
	for _, lost := range w.lost {
		if errors.Is(err, lost) {
			return
		}
	}
	w.h.Errorf("worker %d: %v", worker, err)
}

func (w *winner) one() {
	w.h.Helper()
	if n := w.wins.Load(); n != 1 || w.h.Failed() {
		w.h.Fatalf("%d winners, want 1", n)
	}
}

func testRaceCreate(h *harness) {
	for round := range 10 {
		key := fmt.Sprint("k", round)
		w := winner{h: h, lost: []error{bus.ErrExists}}
		race(func(i int) {
			rev, err := h.s.Create(h.ctx, b, key, []byte(fmt.Sprint(i)), 0)
			w.settle(i, rev, err)
		})
		w.one()
		h.holds(b, key, fmt.Sprint(w.by.Load()), store.Revision(w.rev.Load()))
	}
}

func testRaceUpdate(h *harness) {
	rev := h.create(b, "k", "start")
	for range 10 {
		w := winner{h: h, lost: []error{bus.ErrConflict}}
		race(func(i int) {
			rev, err := h.s.Update(h.ctx, b, "k", []byte(fmt.Sprint(i)), rev)
			w.settle(i, rev, err)
		})
		w.one()
		rev = store.Revision(w.rev.Load())
		h.holds(b, "k", fmt.Sprint(w.by.Load()), rev)
	}

	// Increments that retry: none is lost, none counts twice.
	const each = 10
	h.create(b, "counter", "0")
	race(func(i int) {
		for range each {
			if err := h.increment("counter"); err != nil {
				h.Errorf("worker %d: %v", i, err)
				return
			}
		}
	})
	e, err := h.s.Get(h.ctx, b, "counter")
	h.want("get", err, "")
	if want := strconv.Itoa(workers * each); string(e.Value) != want {
		h.Fatalf("counter is %s after %s increments", e.Value, want)
	}
}

func (h *harness) increment(key string) error {
	for {
		e, err := h.s.Get(h.ctx, b, key)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(e.Value))
		if err != nil {
			return err
		}
		_, err = h.s.Update(h.ctx, b, key, []byte(strconv.Itoa(n+1)), e.Revision)
		if !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
}

func testRaceDelete(h *harness) {
	for range 10 {
		rev := h.create(b, "k", "v")
		w := winner{h: h, lost: []error{bus.ErrNotFound, bus.ErrConflict}}
		race(func(i int) { w.settle(i, 0, h.s.Delete(h.ctx, b, "k", rev)) })
		w.one()
		h.lacks(b, "k")
	}
	// Deleting and updating one revision exclude each other too.
	for range 10 {
		rev := h.create(b, "k", "v")
		w := winner{h: h, lost: []error{bus.ErrNotFound, bus.ErrConflict}}
		race(func(i int) {
			if i%2 == 0 {
				w.settle(i, 0, h.s.Delete(h.ctx, b, "k", rev))
				return
			}
			next, err := h.s.Update(h.ctx, b, "k", []byte("u"), rev)
			w.settle(i, next, err)
		})
		w.one()
		if next := store.Revision(w.rev.Load()); next > 0 {
			h.delete(b, "k", next)
		} else {
			h.lacks(b, "k")
		}
	}
}

// testReadYourWrites has one goroutine write and tell the others what they must see at least.
func testReadYourWrites(h *harness) {
	rev := h.create(b, "k", "v")
	var written atomic.Uint64
	written.Store(uint64(rev))
	var done atomic.Bool
	race(func(i int) {
		if i == 0 {
			defer done.Store(true)
			for n := range 100 {
				next, err := h.s.Update(h.ctx, b, "k", []byte(fmt.Sprint(n)), rev)
				if err != nil {
					h.Error(err)
					return
				}
				rev = next
				written.Store(uint64(rev))
			}
			return
		}
		for !done.Load() {
			atLeast := store.Revision(written.Load())
			var e store.Entry
			var err error
			if i%2 == 0 {
				e, err = h.s.Get(h.ctx, b, "k")
			} else {
				var all []store.Entry
				if all, err = h.s.List(h.ctx, b, ""); len(all) == 1 {
					e = all[0]
				}
			}
			if err != nil || e.Revision < atLeast {
				h.Errorf("read revision %d, %v, after %d was written", e.Revision, err, atLeast)
				return
			}
		}
	})
}

// onceWritten holds the revisions of keys that were written once, and so must
// reach every watch.
type onceWritten struct {
	mu   sync.Mutex
	revs map[string]store.Revision
}

func (o *onceWritten) add(key string, rev store.Revision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revs[key] = rev
}

func testWatchRace(h *harness) {
	const writers, rounds, watchers = 4, 60, 12
	h.create(b, "shared", "0")
	once := onceWritten{revs: map[string]store.Revision{}}
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			if err := h.churn(&once, i, rounds); err != nil {
				h.Errorf("writer %d: %v", i, err)
			}
		})
	}
	seen := make([][]store.Event, watchers)
	for i := range watchers {
		all.Go(func() {
			events, err := h.collect(i)
			if err != nil {
				h.Errorf("watch %d: %v", i, err)
			}
			seen[i] = events
		})
	}
	all.Wait()
	if h.Failed() {
		return
	}

	entries, err := h.s.List(h.ctx, b, "")
	h.want("list", err, "")
	want := map[string]store.Revision{}
	for _, e := range entries {
		want[e.Key] = e.Revision
	}
	for i, events := range seen {
		have, times := map[string]store.Revision{}, map[store.Revision]int{}
		for _, e := range events {
			times[e.Revision]++
			if have[e.Key] = e.Revision; e.Deleted {
				delete(have, e.Key)
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			h.Fatalf("watch %d ends with another state than the bucket: %s", i, diff)
		}
		for key, rev := range once.revs {
			if times[rev] != 1 {
				h.Fatalf("watch %d saw revision %d of %s, written once, %d times", i, rev, key, times[rev])
			}
		}
	}
}

// churn creates keys of its own, some of which it deletes again, and updates
// the key that all writers share. Its last write creates "end<writer>".
func (h *harness) churn(once *onceWritten, writer, rounds int) error {
	for n := range rounds {
		key := fmt.Sprintf("once/%d/%d", writer, n)
		rev, err := h.s.Create(h.ctx, b, key, []byte("v"), 0)
		if err != nil {
			return err
		}
		once.add(key, rev)
		if err := h.increment("shared"); err != nil {
			return err
		}
		gone := fmt.Sprintf("gone/%d/%d", writer, n)
		if rev, err = h.s.Create(h.ctx, b, gone, []byte("v"), 0); err != nil {
			return err
		}
		if err := h.s.Delete(h.ctx, b, gone, rev); err != nil {
			return err
		}
	}
	end := fmt.Sprintf("end/%d", writer)
	rev, err := h.s.Create(h.ctx, b, end, nil, 0)
	once.add(end, rev)
	return err
}

// collect follows the bucket, beginning when a certain key is there or at
// once, until the last write of every writer was seen.
func (h *harness) collect(watcher int) ([]store.Event, error) {
	if watcher%3 > 0 { // some begin in the middle
		if err := h.await(fmt.Sprintf("once/%d/%d", watcher%4, watcher*4)); err != nil {
			return nil, err
		}
	}
	inner, err := h.s.Watch(h.ctx, b, "")
	if err != nil {
		return nil, err
	}
	defer inner.Stop()
	w := &watch{h: h, Watcher: inner}
	var events []store.Event
	waiting := map[string]bool{"end/0": true, "end/1": true, "end/2": true, "end/3": true}
	for len(waiting) > 0 {
		e, err := w.receive()
		if err != nil {
			return nil, err
		}
		if !e.Synced {
			events = append(events, e)
			delete(waiting, e.Key)
		}
	}
	for !w.caughtUp {
		if _, err := w.receive(); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// await returns when a key exists, which it learns from a watch of its own.
func (h *harness) await(key string) error {
	w, err := h.s.Watch(h.ctx, b, key)
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.Events() {
		if e.Key == key {
			return nil
		}
	}
	return fmt.Errorf("wait for %s: %w", key, w.Err())
}
