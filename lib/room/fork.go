package room

import (
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
)

// ForkError says that a room has two branches, and keeps a record of each: the
// one that was accepted before and the other. Both are signed. With the record
// that they follow they prove it to anybody: [Fork].
//
// Its code is [bus.CodeEquivocation] when both were allowed to follow the same
// record and one key signed both: that signer is to blame. Otherwise it is
// [bus.CodeFork] and nobody is: two authorities may have acted at once, and
// whoever joined the branches may be the server. In either case the room stops
// until an owner resolves the fork.
type ForkError struct {
	Known, Other *Record
	err          *bus.Error
}

func newForkError(code bus.Code, known, other *Record) *ForkError {
	return &ForkError{Known: known, Other: other, err: bus.Errorf(code,
		"record %s of epoch %d, where %s of epoch %d is known", other.hash, other.Epoch, known.hash, known.Epoch)}
}

// Error returns the message.
func (e *ForkError) Error() string { return e.err.Error() }

// Unwrap returns the error that has the code.
func (e *ForkError) Unwrap() error { return e.err }

// Fork proves that a room has two branches: the last record that both have, and
// the records that follow it on either. It comes from [ParseFork] or is checked by
// [Fork.Verify].
type Fork struct {
	Before *Record
	Known  *Record // that whoever kept the proof had accepted
	Other  *Record // that was shown to them too
}

// Equivocation reports whether one key signed both branches, whose owner is then
// to blame; two signers may have raced. It is none where one of the two records
// says itself that it gives up the other.
func (f *Fork) Equivocation() bool { return equivocate(f.Known, f.Other) }

func equivocate(a, b *Record) bool {
	return a.Signer == b.Signer && !slices.Contains(a.Resolves, b.hash) && !slices.Contains(b.Resolves, a.hash)
}

// Verify checks that Known and Other are two records and that either may follow
// Before. What it cannot check is that Before is of the room, unless it is the
// first record, whose hash is the room's id: whoever knows the room compares its
// hash. The errors are those of [Record.Follows], and [bus.CodeMalformed] for one
// record twice.
func (f *Fork) Verify() error {
	if f.Known.hash == f.Other.hash {
		return bus.Errorf(bus.CodeMalformed, "verify fork: one record, %s, twice", f.Known.hash)
	}
	for _, r := range []*Record{f.Known, f.Other} {
		if err := r.Follows(f.Before); err != nil {
			return fmt.Errorf("verify fork: %w", err)
		}
	}
	return nil
}

// MaxForkProof is how many bytes [Fork.Bytes] returns at most.
const MaxForkProof = 3 * (4 + bus.MaxRoomRecord + 4 + lengthSize + bus.MaxMembers*memberSize)

// Bytes returns the records with their member lists, without which they could
// not be read again.
//
//	proof: 3 × { record<4>, members<4> }   before, known, other
func (f *Fork) Bytes() []byte {
	var b cryptobyte.Builder
	for _, r := range []*Record{f.Before, f.Known, f.Other} {
		for _, part := range [][]byte{r.raw, r.members} {
			b.AddUint32(uint32(len(part)))
			b.AddBytes(part)
		}
	}
	return b.BytesOrPanic()
}

// ParseFork reads what [Fork.Bytes] returns, and verifies it. The errors are those
// of [ParseRecord] and [Fork.Verify].
func ParseFork(raw []byte) (*Fork, error) {
	if len(raw) > MaxForkProof {
		return nil, bus.Errorf(bus.CodeMalformed, "parse fork: %d bytes, at most %d", len(raw), MaxForkProof)
	}
	s := cryptobyte.String(raw)
	var f Fork
	for _, r := range []**Record{&f.Before, &f.Known, &f.Other} {
		var record, members cryptobyte.String
		if !readLong(&s, &record) || !readLong(&s, &members) {
			return nil, bus.Errorf(bus.CodeMalformed, "parse fork: cut short")
		}
		var err error
		if *r, err = ParseRecord(record, members); err != nil {
			return nil, fmt.Errorf("parse fork: %w", err)
		}
	}
	if !s.Empty() {
		return nil, bus.Errorf(bus.CodeMalformed, "parse fork: too long")
	}
	if err := f.Verify(); err != nil {
		return nil, err
	}
	return &f, nil
}

// readLong reads bytes with a length of four bytes.
func readLong(s, out *cryptobyte.String) bool {
	var n uint32
	return s.ReadUint32(&n) && int64(n) <= int64(len(*s)) && s.ReadBytes((*[]byte)(out), int(n))
}

// compareSiblings returns the error for a record that follows the same record,
// before, as known does. A record that was not allowed there is no branch, only
// noise.
func compareSiblings(before, known, other *Record) error {
	if err := other.permitted(before); err != nil {
		return fmt.Errorf("follow record %d: %w", before.Epoch, err)
	}
	code := bus.CodeFork
	if equivocate(known, other) {
		code = bus.CodeEquivocation
	}
	return newForkError(code, known, other)
}
