package room

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
)

// ForkError says that a room has two branches, and keeps a record of each: the
// one that was accepted before and the other. Both are signed, so they prove
// it to anybody who has the room's first record.
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

// ForkProof returns two records with their member lists, without which they
// could not be read again, for [ParseForkProof].
//
//	proof: record<4>, members<4>, record<4>, members<4>   known, then other
func ForkProof(known, other *Record) []byte {
	var b cryptobyte.Builder
	for _, r := range []*Record{known, other} {
		for _, part := range [][]byte{r.raw, r.members} {
			b.AddUint32(uint32(len(part)))
			b.AddBytes(part)
		}
	}
	return b.BytesOrPanic()
}

// ParseForkProof reads what [ForkProof] wrote. Both records are checked as
// by [ParseRecord], whose errors it has; whether they are two branches of one
// room is for a [Chain] of that room to say.
func ParseForkProof(raw []byte) (known, other *Record, err error) {
	s := cryptobyte.String(raw)
	var recs [2]*Record
	for i := range recs {
		var record, members cryptobyte.String
		if !readLong(&s, &record) || !readLong(&s, &members) {
			return nil, nil, bus.Errorf(bus.CodeMalformed, "parse fork proof: cut short")
		}
		if recs[i], err = ParseRecord(record, members); err != nil {
			return nil, nil, fmt.Errorf("parse fork proof: %w", err)
		}
	}
	if !s.Empty() {
		return nil, nil, bus.Errorf(bus.CodeMalformed, "parse fork proof: too long")
	}
	return recs[0], recs[1], nil
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
	if known.Signer == other.Signer {
		code = bus.CodeEquivocation
	}
	return newForkError(code, known, other)
}
