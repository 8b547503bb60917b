package storetest

import (
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// Entries of these tests live this long: enough for a slow driver to see them
// while they do. Where their time must be over, the tests let a second more
// pass, since drivers may count whole seconds.
const (
	life = 4 * time.Second
	over = life + time.Second
)

func (h *harness) createFor(b store.Bucket, key, value string, ttl time.Duration) store.Revision {
	h.Helper()
	rev, err := h.s.Create(h.ctx, b, key, []byte(value), ttl)
	h.want("create "+key, err, "")
	return rev
}

func testTTL(h *harness) {
	const b = store.Nonces
	short := h.createFor(b, "n/short", "v", life)
	long := h.createFor(b, "n/long", "v", time.Hour)
	forever := h.createFor(b, "n/forever", "v", 0)
	h.holds(b, "n/long", "v", long)

	h.opener.Elapse(h.T, over)
	h.lacks(b, "n/short")
	_, err := h.s.Update(h.ctx, b, "n/short", []byte("x"), short)
	h.want("update what is over", err, bus.CodeConflict)
	h.want("delete what is over", h.s.Delete(h.ctx, b, "n/short", short), bus.CodeNotFound)
	if have := h.list(b, "n/"); len(have) != 2 {
		h.Fatalf("list has %q", have)
	}
	h.holds(b, "n/long", "v", long)
	h.holds(b, "n/forever", "v", forever)
	_, err = h.s.Create(h.ctx, b, "n/long", nil, life)
	h.want("create what is not over", err, bus.CodeExists)

	again := h.createFor(b, "n/short", "again", time.Hour)
	if again <= forever {
		h.Fatalf("revision %d after %d", again, forever)
	}
	h.holds(b, "n/short", "again", again)
	h.delete(b, "n/short", again)
	h.lacks(b, "n/short")
	h.createFor(b, "n/short", "third", 0)
}

func testTTLReopen(h *harness) {
	const b = store.Nonces
	h.createFor(b, "short", "v", life)
	long := h.createFor(b, "long", "v", time.Hour)
	h.close()
	h.opener.Elapse(h.T, over)
	h.open()
	h.lacks(b, "short")
	h.holds(b, "long", "v", long)
	h.createFor(b, "short", "again", 0)
}

func testTTLUpdate(h *harness) {
	rev := h.createFor(b, "k", "v", life)
	rev = h.update(b, "k", "kept", rev)
	short := h.createFor(b, "short", "v", life)
	h.delete(b, "short", short)
	stays := h.createFor(b, "short", "stays", 0)
	h.opener.Elapse(h.T, over)
	h.holds(b, "k", "kept", rev)
	h.holds(b, "short", "stays", stays)
}

func testTTLWatch(h *harness) {
	w := h.watch(b, "")
	w.synced()
	rev := h.createFor(b, "short", "v", life)
	w.put("short", "v", rev)
	kept := h.createFor(b, "kept", "v", time.Hour)
	w.put("kept", "v", kept)
	h.opener.Elapse(h.T, over)
	if gone := w.deleted("short"); gone <= kept {
		h.Fatalf("deleted at revision %d after %d", gone, kept)
	}

	after := h.watch(b, "")
	after.put("kept", "v", kept)
	after.synced()
}
