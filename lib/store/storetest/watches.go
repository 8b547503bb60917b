package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// watch is a watcher whose events are checked one by one.
type watch struct {
	h *harness
	store.Watcher
	last     store.Revision
	caughtUp bool
}

func (h *harness) watch(b store.Bucket, prefix string) *watch {
	h.Helper()
	w, err := h.s.Watch(h.ctx, b, prefix)
	h.want("watch "+prefix, err, "")
	h.Cleanup(w.Stop)
	return &watch{h: h, Watcher: w}
}

// next returns the next event, having checked what holds for every event.
func (w *watch) next() store.Event {
	w.h.Helper()
	e, err := w.receive()
	if err != nil {
		w.h.Fatal(err)
	}
	return e
}

// receive is next for other goroutines than the test's.
func (w *watch) receive() (store.Event, error) {
	var e store.Event
	var open bool
	select {
	case e, open = <-w.Events():
	case <-time.After(patience):
		return e, fmt.Errorf("no event in %s after revision %d", patience, w.last)
	}
	switch {
	case !open:
		return e, fmt.Errorf("the watch ended after revision %d: %w", w.last, w.Err())
	case e.Synced && w.caughtUp:
		return e, errors.New("synced twice")
	case e.Synced && !cmp.Equal(e, store.Event{Synced: true}):
		return e, fmt.Errorf("the synced event carries %+v", e)
	case !e.Synced && e.Revision <= w.last:
		return e, fmt.Errorf("revision %d after %d", e.Revision, w.last)
	case !e.Synced && e.Key == "":
		return e, fmt.Errorf("event %+v has no key", e)
	case e.Deleted && len(e.Value) != 0:
		return e, fmt.Errorf("the deleted event of %s has a value", e.Key)
	}
	if e.Synced {
		w.caughtUp = true
	} else {
		w.last = e.Revision
	}
	return e, nil
}

func (w *watch) synced() {
	w.h.Helper()
	if e := w.next(); !e.Synced {
		w.h.Fatalf("event is %+v, want synced", e)
	}
}

func (w *watch) put(key, value string, rev store.Revision) {
	w.h.Helper()
	e := w.next()
	if e.Synced || e.Deleted {
		w.h.Fatalf("event is %+v, want %s", e, key)
	}
	w.h.entry(e.Entry, key, value, rev)
}

func (w *watch) deleted(key string) store.Revision {
	w.h.Helper()
	e := w.next()
	if !e.Deleted || e.Key != key {
		w.h.Fatalf("event is %+v, want the delete of %s", e, key)
	}
	return e.Revision
}

// ended waits for the channel to be closed, whatever still comes before.
func (w *watch) ended() {
	w.h.Helper()
	late := time.After(patience)
	for {
		select {
		case _, open := <-w.Events():
			if !open {
				return
			}
		case <-late:
			w.h.Fatal("the watch goes on")
		}
	}
}

func testWatch(h *harness) {
	empty := h.watch(b, "")
	empty.synced()

	one := h.create(b, "one", "1")
	two := h.create(b, "two", "2")
	three := h.create(b, "three", "")
	one2 := h.update(b, "one", "1b", one)

	late := h.watch(b, "")
	late.put("two", "2", two)
	late.put("three", "", three)
	late.put("one", "1b", one2)
	late.synced()

	h.delete(b, "two", two)
	gone := late.deleted("two")
	two2 := h.create(b, "two", "again")
	late.put("two", "again", two2)
	if gone <= one2 || gone >= two2 {
		h.Fatalf("deleted at %d between %d and %d", gone, one2, two2)
	}
	three2 := h.update(b, "three", "3", three)
	late.put("three", "3", three2)

	// The watch that was there all along may leave out what was overwritten.
	have := map[string]string{}
	for empty.last < three2 {
		if e := empty.next(); e.Deleted {
			delete(have, e.Key)
		} else {
			have[e.Key] = string(e.Value)
		}
	}
	if diff := cmp.Diff(map[string]string{"one": "1b", "two": "again", "three": "3"}, have); diff != "" {
		h.Fatal(diff)
	}
}

func testWatchPrefix(h *harness) {
	h.create(b, "users/a", "1")
	before := h.create(b, "rooms/a", "1")
	h.create(b, "room", "1")
	h.create(store.Records, "rooms/a", "elsewhere")
	w := h.watch(b, "rooms/")
	w.put("rooms/a", "1", before)
	w.synced()
	h.create(b, "users/b", "2")
	h.create(b, "rooms-", "2")
	h.create(store.Records, "rooms/b", "elsewhere")
	after := h.create(b, "rooms/b", "2")
	w.put("rooms/b", "2", after)
	h.delete(b, "rooms/a", before)
	w.deleted("rooms/a")

	part := h.watch(b, "rooms/b")
	part.put("rooms/b", "2", after)
	part.synced()
	none := h.watch(b, "none/")
	none.synced()
}

func testWatchAfterDelete(h *harness) {
	for i := range 10 {
		key := fmt.Sprint("gone", i)
		h.delete(b, key, h.create(b, key, "v"))
	}
	kept := h.create(b, "kept", "v")
	h.delete(b, "last", h.create(b, "last", "v"))
	w := h.watch(b, "")
	w.put("kept", "v", kept)
	w.synced()
	next := h.create(b, "next", "v")
	w.put("next", "v", next)
}

func testWatchSlow(h *harness) {
	const keys, rounds = 20, 15
	big := string(make([]byte, 20_000))
	revs := map[string]store.Revision{}
	for i := range keys {
		key := fmt.Sprintf("k%02d", i)
		revs[key] = h.create(b, key, big)
	}
	gone := h.create(b, "gone", "v")
	w := h.watch(b, "")
	first := w.next() // then nothing, for as long as this takes
	for i := range rounds {
		for key, rev := range revs {
			revs[key] = h.update(b, key, fmt.Sprint(big, i), rev)
		}
	}
	h.delete(b, "gone", gone)
	once := map[string]store.Revision{}
	for i := range 300 { // more than any driver may hold ready
		key := fmt.Sprintf("once%03d", i)
		once[key] = h.create(b, key, "v")
	}
	end := h.create(b, "end", "v")

	last := map[string]store.Event{first.Key: first}
	for w.last < end {
		e := w.next()
		last[e.Key] = e
	}
	for !w.caughtUp {
		w.synced()
	}
	for key, rev := range revs {
		h.entry(last[key].Entry, key, fmt.Sprint(big, rounds-1), rev)
	}
	for key, rev := range once {
		h.entry(last[key].Entry, key, "v", rev)
	}
	if !last["gone"].Deleted {
		h.Fatalf("the last event of a deleted key is %+v", last["gone"])
	}
}

func testWatchLarge(h *harness) {
	big := strings.Repeat("v", store.MaxValueSize)
	revs := make([]store.Revision, 6)
	w := h.watch(b, "")
	w.synced()
	for i := range revs {
		revs[i] = h.create(b, fmt.Sprint("k", i), big)
	}
	late := h.watch(b, "")
	for i, rev := range revs {
		w.put(fmt.Sprint("k", i), big, rev)
		late.put(fmt.Sprint("k", i), big, rev)
	}
	late.synced()
}

func testWatchStop(h *harness) {
	for i := range 10 {
		h.create(b, fmt.Sprint("k", i), "v")
	}
	for taken := range 4 { // stopped at the start and with events waiting
		w := h.watch(b, "")
		for range taken {
			w.next()
		}
		if err := w.Err(); err != nil {
			h.Fatalf("a watch that runs has error %v", err)
		}
		race(func(int) { w.Stop() })
		select {
		case _, open := <-w.Events():
			if open {
				h.Fatal("an event after stop returned")
			}
		default:
			h.Fatal("stop returned while the channel was open")
		}
		h.want("error of a stopped watch", w.Err(), "")
	}
	w := h.watch(b, "")
	for !w.next().Synced {
	}
	w.Stop()
	h.create(b, "after", "v") // nobody waits for a stopped watch
}

func testWatchContext(h *harness) {
	h.create(b, "k", "v")
	for name, read := range map[string]bool{"idle": true, "with events waiting": false} {
		ctx, cancel := context.WithCancel(h.ctx)
		inner, err := h.s.Watch(ctx, b, "")
		h.want("watch", err, "")
		w := &watch{h: h, Watcher: inner}
		for read && !w.next().Synced {
		}
		cancel()
		w.ended()
		h.want(name+": error of a watch whose context ended", w.Err(), bus.CodeTimeout)
		if !errors.Is(w.Err(), context.Canceled) {
			h.Fatalf("%v does not wrap the context's error", w.Err())
		}
		before := w.Err()
		w.Stop()
		if w.Err() != before {
			h.Fatalf("%s: stopping an ended watch changed its error to %v", name, w.Err())
		}
	}
}

func testWatchClose(h *harness) {
	h.create(b, "k", "v")
	var all []*watch
	for i := range 6 {
		w := h.watch(b, "")
		for range i % 3 {
			w.next()
		}
		all = append(all, w)
	}
	h.close()
	for _, w := range all {
		w.ended()
		h.want("error of a watch whose store closed", w.Err(), bus.CodeClosed)
		w.Stop()
	}
}

func testWatchReopen(h *harness) {
	revs := map[string]store.Revision{}
	for i := range 5 {
		key := fmt.Sprint("k", i)
		revs[key] = h.create(b, key, "v")
	}
	h.delete(b, "k2", revs["k2"])
	delete(revs, "k2")
	h.reopen()
	w := h.watch(b, "")
	for _, key := range slices.Sorted(maps.Keys(revs)) {
		w.put(key, "v", revs[key])
	}
	w.synced()
	next := h.create(b, "k2", "again")
	w.put("k2", "again", next)
}
