// Package vectors is a second opinion on the protocol: a decoder and verifier of every structure, written from
// docs/protocol.md alone. It shares no code with the packages whose golden files its tests replay (standard library,
// x/crypto and filippo.io/edwards25519 only), so a mistake in one of the two shows as a difference.
//
// Start at [ParseCard], [ParseRecord] and [Frame.Open]. Every parser keeps the fields in the order in which they stood
// in the bytes, under the names of docs/protocol.md, which is what golden files are compared with.
//
// It is in no binary, and not made to be: it keeps no state (no pins, windows or clocks), compares secrets in variable
// time and leaves them in memory.
package vectors

import (
	"bytes"
	"fmt"
)

// Hash32 is a SHA-256 digest, an id, or anything else of 32 bytes.
type Hash32 = [32]byte

// Error is a refusal: the protocol's code for it, the field that is wrong, and what is wrong with it.
type Error struct {
	Code, Field, Why string
}

// Error gives code, field and reason, in this order.
func (e *Error) Error() string { return e.Code + ": " + e.Field + ": " + e.Why }

func refuse(code, field, format string, args ...any) error {
	return &Error{Code: code, Field: field, Why: fmt.Sprintf(format, args...)}
}

// Field is one field as it stood in the bytes; a length in front is a field of its own, named x_length.
type Field struct {
	Name  string
	Value []byte
}

// reader takes fields off the front of in. The first error stays: after it every read gives nothing, and callers look
// at err once, at the end.
type reader struct {
	in     []byte
	off    int
	end    int // of the list or structure being read
	fields []Field
	err    error
}

func newReader(in []byte) *reader { return &reader{in: in, end: len(in)} }

func (r *reader) fail(code, field, format string, args ...any) {
	if r.err == nil {
		r.err = refuse(code, field, format, args...)
	}
}

// check fails with malformed unless ok.
func (r *reader) check(ok bool, field, format string, args ...any) {
	if !ok {
		r.fail("malformed", field, format, args...)
	}
}

func (r *reader) more() bool { return r.err == nil && r.off < r.end }

func (r *reader) take(name string, n int) []byte {
	if r.err == nil && n > r.end-r.off {
		r.fail("malformed", name, "%d bytes where %d are left", n, r.end-r.off)
	}
	if r.err != nil {
		return nil
	}
	v := r.in[r.off : r.off+n : r.off+n]
	r.off += n
	r.fields = append(r.fields, Field{name, v})
	return v
}

func (r *reader) rest(name string) []byte { return r.take(name, r.end-r.off) }

func (r *reader) uint(name string, size int) uint64 {
	var n uint64
	for _, b := range r.take(name, size) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) hash(name string) (h Hash32) {
	copy(h[:], r.take(name, len(h)))
	return h
}

// list reads the length of name in size bytes and hands what it covers to item, again and again until it is used up.
func (r *reader) list(name string, size int, item func()) {
	n := r.uint(name+"_length", size)
	if r.err == nil && n > uint64(r.end-r.off) {
		r.fail("malformed", name, "%d bytes where %d are left", n, r.end-r.off)
	}
	outer := r.end
	r.end = r.off + int(n)
	for r.more() {
		item()
	}
	r.end = outer
}

// blob reads bytes behind a length of size bytes.
func (r *reader) blob(name string, size int) (v []byte) {
	r.list(name, size, func() { v = r.rest(name) })
	return v
}

// head reads version and type.
func (r *reader) head(kind uint64) {
	r.check(r.uint("version", 1) == 1, "version", "not 1")
	r.check(r.uint("type", 1) == kind, "type", "not %d", kind)
}

// sig reads the signature at the end and returns all before it too.
func (r *reader) sig() (before, sig []byte) {
	before = r.in[:r.off]
	return before, r.take("sig", 64)
}

func (r *reader) done() error {
	r.check(!r.more(), "end", "%d bytes left over", r.end-r.off)
	return r.err
}

// key reads an Ed25519 public key.
func (r *reader) key(name string) Hash32 {
	k := r.hash(name)
	if r.err == nil && CheckKey(k) != nil {
		r.fail("weak_key", name, "not canonical or of small order")
	}
	return k
}

// times checks that a lifetime is positive, at most 90 days, and ends by the year 9999.
func (r *reader) times(from, to uint64) {
	r.check(to <= maxTime, "not_after", "%d is after the year 9999", to)
	r.check(from < to && to-from <= 90*86400, "not_after", "%d is not within 90 days after %d", to, from)
}

const maxTime = 253402300799

// ascends reports whether next may stand behind last; the first may always.
func ascends(last, next []byte) bool { return last == nil || bytes.Compare(last, next) < 0 }
