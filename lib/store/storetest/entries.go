package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

const b = store.Control // where a test does not care

func testRoundTrip(h *harness) {
	every := "AZaz09_=.-/x/..=/-/a.b"
	long := strings.Repeat("k", store.MaxKeyLen)
	for _, e := range []struct{ key, value string }{
		{"a", "1"},
		{"empty", ""},
		{"binary", "\x00\xff\x00\n\r\xc3\x28"},
		{every, every},
		{"A", "not a"},
		{long, "long"},
		{"max", strings.Repeat("v", store.MaxValueSize)},
	} {
		h.lacks(b, e.key)
		rev := h.create(b, e.key, e.value)
		h.holds(b, e.key, e.value, rev)
		rev = h.update(b, e.key, "x"+e.value[:len(e.value)/2], rev)
		h.holds(b, e.key, "x"+e.value[:len(e.value)/2], rev)
	}
	for _, near := range []string{long[1:], "aa", "max/", "ma"} {
		if store.CheckKey(near) == nil {
			h.lacks(b, near)
		}
	}

	value := []byte("before")
	rev, err := h.s.Create(h.ctx, b, "copied", value, 0)
	h.want("create", err, "")
	copy(value, "after!")
	h.holds(b, "copied", "before", rev)
	e, err := h.s.Get(h.ctx, b, "copied")
	h.want("get", err, "")
	copy(e.Value, "after!")
	h.holds(b, "copied", "before", rev)
}

func testCreate(h *harness) {
	rev := h.create(b, "k", "first")
	for _, ttl := range []time.Duration{0, time.Hour} {
		_, err := h.s.Create(h.ctx, b, "k", []byte("second"), ttl)
		h.want("create what exists", err, bus.CodeExists)
	}
	h.holds(b, "k", "first", rev)
	h.delete(b, "k", rev)
	again := h.create(b, "k", "third")
	h.holds(b, "k", "third", again)
}

func testUpdate(h *harness) {
	_, err := h.s.Update(h.ctx, b, "k", []byte("x"), 0)
	h.want("update what does not exist from 0", err, bus.CodeConflict)
	_, err = h.s.Update(h.ctx, b, "k", []byte("x"), 1)
	h.want("update what does not exist from 1", err, bus.CodeConflict)
	h.lacks(b, "k")

	first := h.create(b, "k", "first")
	second := h.update(b, "k", "second", first)
	for _, last := range []store.Revision{0, first, first - 1, second + 1, second + 1000} {
		_, err := h.s.Update(h.ctx, b, "k", []byte("x"), last)
		h.want(fmt.Sprintf("update %d from %d", second, last), err, bus.CodeConflict)
	}
	h.holds(b, "k", "second", second)

	third := h.update(b, "k", "second", second) // the same value is a write all the same
	if third == second {
		h.Fatalf("an update kept revision %d", second)
	}
	h.delete(b, "k", third)
	_, err = h.s.Update(h.ctx, b, "k", []byte("x"), third)
	h.want("update what was deleted", err, bus.CodeConflict)
	h.lacks(b, "k")
}

func testDelete(h *harness) {
	h.want("delete what never was", h.s.Delete(h.ctx, b, "k", 1), bus.CodeNotFound)
	first := h.create(b, "k", "first")
	second := h.update(b, "k", "second", first)
	for _, last := range []store.Revision{0, first, second + 1} {
		h.want(fmt.Sprintf("delete %d as %d", second, last), h.s.Delete(h.ctx, b, "k", last), bus.CodeConflict)
	}
	h.holds(b, "k", "second", second)
	h.delete(b, "k", second)
	h.lacks(b, "k")
	h.want("delete twice", h.s.Delete(h.ctx, b, "k", second), bus.CodeNotFound)
	third := h.create(b, "k", "third")
	h.want("delete as before", h.s.Delete(h.ctx, b, "k", second), bus.CodeConflict)
	h.holds(b, "k", "third", third)
}

func testRevisions(h *harness) {
	var last store.Revision
	grows := func(rev store.Revision) store.Revision {
		h.Helper()
		if rev <= last {
			h.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
		return rev
	}
	for i := range 5 {
		key := fmt.Sprint("k", i)
		rev := grows(h.create(b, key, ""))
		rev = grows(h.update(b, key, "x", rev))
		h.delete(b, key, rev)
		again := grows(h.create(b, key, "y"))
		if again < rev+2 {
			h.Fatalf("created at %d, right after a delete of %d, which is a write of its own", again, rev)
		}
		h.delete(b, key, again)
	}
	// The newest writes were deletes, and may have been forgotten while closed.
	h.reopen()
	deleted := last + 1
	if rev := grows(h.create(b, "k0", "")); rev <= deleted {
		h.Fatalf("revision %d after the delete that had at least %d", rev, deleted)
	}
}

func testBuckets(h *harness) {
	revs := map[store.Bucket]store.Revision{}
	for _, b := range store.Buckets() {
		h.lacks(b, "k")
		revs[b] = h.create(b, "k", "in "+string(b))
	}
	for b, rev := range revs {
		h.holds(b, "k", "in "+string(b), rev)
		if diff := cmp.Diff([]string{"k=in " + string(b)}, h.list(b, "")); diff != "" {
			h.Fatalf("list %s: %s", b, diff)
		}
	}
	h.delete(store.Records, "k", revs[store.Records])
	h.lacks(store.Records, "k")
	h.holds(store.Sealed, "k", "in sealed", revs[store.Sealed])
}

func testList(h *harness) {
	if have := h.list(b, ""); len(have) != 0 {
		h.Fatalf("an empty bucket lists %q", have)
	}
	keys := []string{"A", "a", "a-", "a.", "a/0", "a/1/x", "a/b", "a0", "a=", "aZ", "a_", "aa", "b", "b/a/a", "z"}
	revs := map[string]store.Revision{}
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(keys)) {
		revs[keys[i]] = h.create(b, keys[i], "v")
	}
	check := func(prefixes ...string) {
		h.Helper()
		for _, prefix := range prefixes {
			var want []string
			for _, key := range slices.Sorted(maps.Keys(revs)) {
				if strings.HasPrefix(key, prefix) {
					want = append(want, key+"=v")
				}
			}
			if diff := cmp.Diff(want, h.list(b, prefix)); diff != "" {
				h.Fatalf("list %q: %s", prefix, diff)
			}
		}
	}
	prefixes := []string{"", "a", "a/", "a/1", "a/1/", "a-", "a.", "a_", "a=", "b/a/a", "b/a/a/", "c", "zz", "Z"}
	check(prefixes...)
	entries, err := h.s.List(h.ctx, b, "a/")
	h.want("list", err, "")
	for _, e := range entries {
		h.entry(e, e.Key, "v", revs[e.Key])
	}
	for _, key := range []string{"a/b", "A", "z"} {
		h.delete(b, key, revs[key])
		delete(revs, key)
	}
	check(prefixes...)
	for i := range 300 {
		key := fmt.Sprintf("many/%04d", i*7919%300)
		revs[key] = h.create(b, key, "v")
	}
	check("", "many/", "many/00", "many/0299")
}

// calls are every method that takes arguments, as functions of them.
func (h *harness) calls(ctx context.Context, b store.Bucket, key string, value []byte) map[string]func() error {
	return map[string]func() error{
		"get":    func() error { _, err := h.s.Get(ctx, b, key); return err },
		"create": func() error { _, err := h.s.Create(ctx, b, key, value, 0); return err },
		"update": func() error { _, err := h.s.Update(ctx, b, key, value, 1); return err },
		"delete": func() error { return h.s.Delete(ctx, b, key, 1) },
		"list":   func() error { _, err := h.s.List(ctx, b, key); return err },
		"watch":  func() error { return h.tryWatch(ctx, b, key) },
	}
}

func (h *harness) tryWatch(ctx context.Context, b store.Bucket, prefix string) error {
	w, err := h.s.Watch(ctx, b, prefix)
	if err != nil {
		return err
	}
	w.Stop()
	return nil
}

func testArguments(h *harness) {
	refused := func(what string, calls map[string]func() error, code bus.Code, names ...string) {
		h.Helper()
		for _, name := range names {
			h.want(name+" with "+what, calls[name](), code)
		}
	}
	every := []string{"get", "create", "update", "delete", "list", "watch"}
	for _, bucket := range []store.Bucket{"", "users", "Control"} {
		refused(fmt.Sprintf("bucket %q", bucket), h.calls(h.ctx, bucket, "k", nil), bus.CodeMalformed, every...)
	}
	for _, key := range []string{"/", "/k", "k//k", "k k", "k*", "k>", "k%", "é", "k\x00", strings.Repeat("k", store.MaxKeyLen+1)} {
		refused(fmt.Sprintf("key %.20q", key), h.calls(h.ctx, b, key, nil), bus.CodeMalformed, every...)
	}
	for _, key := range []string{"", "k/"} {
		refused(fmt.Sprintf("key %q", key), h.calls(h.ctx, b, key, nil), bus.CodeMalformed, "get", "create", "update", "delete")
	}
	refused("a value too large", h.calls(h.ctx, b, "k", make([]byte, store.MaxValueSize+1)), bus.CodeTooLarge, "create", "update")
	_, err := h.s.Create(h.ctx, b, "k", nil, -time.Second)
	h.want("create with a negative time to live", err, bus.CodeMalformed)
	if have := h.list(b, ""); len(have) != 0 {
		h.Fatalf("refused calls left %q", have)
	}
}

func testContext(h *harness) {
	rev := h.create(b, "k", "v")
	canceled, cancel := context.WithCancel(h.ctx)
	cancel()
	late, cancel := context.WithDeadline(h.ctx, time.Unix(0, 0))
	defer cancel()
	for want, ctx := range map[error]context.Context{context.Canceled: canceled, context.DeadlineExceeded: late} {
		calls := h.calls(ctx, b, "k", []byte("x"))
		calls["update"] = func() error { _, err := h.s.Update(ctx, b, "k", []byte("x"), rev); return err }
		calls["delete"] = func() error { return h.s.Delete(ctx, b, "k", rev) }
		calls["create"] = func() error { _, err := h.s.Create(ctx, b, "other", []byte("x"), 0); return err }
		for name, call := range calls {
			err := call()
			h.want(name+" with an ended context", err, bus.CodeTimeout)
			if !errors.Is(err, want) {
				h.Fatalf("%s: %v does not wrap %v", name, err, want)
			}
		}
	}
	h.holds(b, "k", "v", rev)
	h.lacks(b, "other")
}

func testClose(h *harness) {
	rev := h.create(b, "k", "v")
	closed := h.s
	h.close()
	h.want("close twice", closed.Close(), "")
	for name, call := range h.calls(h.ctx, b, "k", nil) {
		h.want(name+" on a closed store", call(), bus.CodeClosed)
	}
	h.open()
	h.holds(b, "k", "v", rev)
	h.want("get from the store that was closed", func() error { _, err := closed.Get(h.ctx, b, "k"); return err }(), bus.CodeClosed)
}

func testReopen(h *harness) {
	kept := h.create(b, "kept", "v")
	changed := h.update(b, "changed", "new", h.create(b, "changed", "old"))
	h.delete(b, "gone", h.create(b, "gone", "v"))
	big := strings.Repeat("big", 100_000)
	sealed := h.create(store.Sealed, "r/1", big)
	for range 2 {
		h.reopen()
		h.holds(b, "kept", "v", kept)
		h.holds(b, "changed", "new", changed)
		h.lacks(b, "gone")
		h.holds(store.Sealed, "r/1", big, sealed)
		_, err := h.s.Create(h.ctx, b, "kept", nil, 0)
		h.want("create what exists", err, bus.CodeExists)
		_, err = h.s.Update(h.ctx, b, "changed", nil, changed-1)
		h.want("update from an old revision", err, bus.CodeConflict)
	}
	if rev := h.update(b, "kept", "v2", kept); rev <= changed {
		h.Fatalf("revision %d after %d", rev, changed)
	}
}

// testModel does the same to the store and to a map, and expects the same.
func testModel(h *harness) {
	seed := rand.Uint64()
	h.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	type value struct {
		text string
		rev  store.Revision
	}
	model := map[string]value{}
	var newest store.Revision
	for i := range 400 {
		key := fmt.Sprint("k", rng.IntN(6))
		old, exists := model[key]
		last, right := old.rev, true
		if rng.IntN(4) == 0 {
			last = store.Revision(rng.Uint64N(uint64(newest) + 2))
			right = exists && last == old.rev
		}
		text := fmt.Sprint("v", i)
		var rev store.Revision
		var err error
		var want bus.Code
		op := []string{"create", "update", "update", "delete", "reopen"}[rng.IntN(5)]
		switch op {
		case "create":
			if exists {
				want = bus.CodeExists
			}
			rev, err = h.s.Create(h.ctx, b, key, []byte(text), 0)
		case "update":
			if !exists || !right {
				want = bus.CodeConflict
			}
			rev, err = h.s.Update(h.ctx, b, key, []byte(text), last)
		case "delete":
			if want = bus.CodeConflict; !exists {
				want = bus.CodeNotFound
			} else if right {
				want = ""
			}
			err = h.s.Delete(h.ctx, b, key, last)
		case "reopen":
			if rng.IntN(20) == 0 {
				h.reopen()
			}
			continue
		}
		h.want(fmt.Sprintf("step %d, %s %s from %d, have %+v", i, op, key, last, old), err, want)
		switch {
		case err != nil:
		case op == "delete":
			delete(model, key)
		case rev <= newest:
			h.Fatalf("step %d, %s %s: revision %d after %d", i, op, key, rev, newest)
		default:
			newest = rev
			model[key] = value{text, rev}
		}
		if v, exists := model[key]; exists {
			h.holds(b, key, v.text, v.rev)
		} else {
			h.lacks(b, key)
		}
	}
	var want []string
	for _, key := range slices.Sorted(maps.Keys(model)) {
		want = append(want, key+"="+model[key].text)
	}
	if diff := cmp.Diff(want, h.list(b, "")); diff != "" {
		h.Fatal(diff)
	}
}
