// Package storetest is the conformance suite of package store: what the
// comments of [store.Store] and [store.Watcher] promise, checked against a
// driver.
//
// A driver's own test calls [Run] with a function that makes empty stores. The
// suite knows nothing of any driver and goes by the interface alone, from many
// goroutines where the promise is about them. It does not kill processes or
// fail disks: that is for the tests of each driver.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// Opener is one store, empty when it is first opened.
type Opener struct {
	// Open opens the store, again after it was closed. The suite closes what it opens.
	Open func(t *testing.T) store.Store

	// Elapse lets at least d pass by the clock that ends entries, by waiting
	// or by moving an injected clock.
	Elapse func(t *testing.T, d time.Duration)
}

// Run checks a driver. It calls fresh for every store it needs; the stores
// are independent of each other and used at the same time.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for _, tt := range []struct {
		name string
		test func(*harness)
	}{
		{"an entry is what was written", testRoundTrip},
		{"create makes only what does not exist", testCreate},
		{"update replaces only the revision it names", testUpdate},
		{"delete removes only the revision it names", testDelete},
		{"revisions grow within a bucket", testRevisions},
		{"buckets are separate", testBuckets},
		{"list is sorted and complete", testList},
		{"arguments out of bounds are refused", testArguments},
		{"an ended context changes nothing", testContext},
		{"a closed store refuses everything", testClose},
		{"reopening finds everything", testReopen},
		{"random operations agree with a model", testModel},

		{"time to live ends an entry", testTTL},
		{"time to live goes on while closed", testTTLReopen},
		{"update takes the end away", testTTLUpdate},
		{"watches see an entry end", testTTLWatch},

		{"one of many creators wins", testRaceCreate},
		{"one of many updates wins", testRaceUpdate},
		{"one of many deletes wins", testRaceDelete},
		{"reads see every write that returned", testReadYourWrites},

		{"a watch tells what is there and then what changes", testWatch},
		{"a watch keeps to its prefix", testWatchPrefix},
		{"a watch leaves out what was gone before", testWatchAfterDelete},
		{"a slow watch holds up nobody and misses nothing", testWatchSlow},
		{"a watch carries values of any size", testWatchLarge},
		{"watches among concurrent writers see each revision once and in order", testWatchRace},
		{"a watch ends when it is told to", testWatchStop},
		{"a watch ends with its context", testWatchContext},
		{"a watch ends with its store", testWatchClose},
		{"a watch follows a reopened store", testWatchReopen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			h := &harness{T: t, ctx: ctx, opener: fresh(t)}
			h.open()
			tt.test(h)
			h.close()
		})
	}
}

// patience is how long the suite waits for what must happen. It is long because
// only a failure ever takes it.
const patience = 2 * time.Minute

// harness is one test with its store.
type harness struct {
	*testing.T
	ctx    context.Context
	opener Opener
	s      store.Store
}

func (h *harness) open() {
	h.Helper()
	s := h.opener.Open(h.T)
	h.s = s
	h.Cleanup(func() {
		if err := s.Close(); err != nil {
			h.Errorf("close: %v", err)
		}
	})
}

func (h *harness) close() {
	h.Helper()
	if err := h.s.Close(); err != nil {
		h.Fatalf("close: %v", err)
	}
}

func (h *harness) reopen() {
	h.Helper()
	h.close()
	h.open()
}

// want fails unless err has the code, or is nil where the code is empty.
func (h *harness) want(what string, err error, code bus.Code) {
	h.Helper()
	if bus.CodeOf(err) != code {
		h.Fatalf("%s: error is %v (%s), want %q", what, err, bus.CodeOf(err), code)
	}
	if err != nil && !errors.Is(err, &bus.Error{Code: code}) {
		h.Fatalf("%s: %T does not match the sentinel of %s", what, err, code)
	}
}

func (h *harness) create(b store.Bucket, key, value string) store.Revision {
	h.Helper()
	rev, err := h.s.Create(h.ctx, b, key, []byte(value), 0)
	h.want("create "+key, err, "")
	return rev
}

func (h *harness) update(b store.Bucket, key, value string, last store.Revision) store.Revision {
	h.Helper()
	rev, err := h.s.Update(h.ctx, b, key, []byte(value), last)
	h.want("update "+key, err, "")
	return rev
}

func (h *harness) delete(b store.Bucket, key string, last store.Revision) {
	h.Helper()
	h.want("delete "+key, h.s.Delete(h.ctx, b, key, last), "")
}

// holds fails unless the key has this value at this revision.
func (h *harness) holds(b store.Bucket, key, value string, rev store.Revision) {
	h.Helper()
	e, err := h.s.Get(h.ctx, b, key)
	h.want("get "+key, err, "")
	h.entry(e, key, value, rev)
}

func (h *harness) entry(e store.Entry, key, value string, rev store.Revision) {
	h.Helper()
	if e.Key != key || !bytes.Equal(e.Value, []byte(value)) || e.Revision != rev {
		h.Fatalf("entry is %.60q = %.60q (%d bytes) at %d, want %.60q = %.60q at %d",
			e.Key, e.Value, len(e.Value), e.Revision, key, value, rev)
	}
}

// lacks fails if the key exists.
func (h *harness) lacks(b store.Bucket, key string) {
	h.Helper()
	_, err := h.s.Get(h.ctx, b, key)
	h.want("get "+key, err, bus.CodeNotFound)
}

// list returns the entries below prefix as "key=value" in the order given.
func (h *harness) list(b store.Bucket, prefix string) []string {
	h.Helper()
	entries, err := h.s.List(h.ctx, b, prefix)
	h.want("list "+prefix, err, "")
	var all []string
	for _, e := range entries {
		all = append(all, e.Key+"="+string(e.Value))
	}
	return all
}
