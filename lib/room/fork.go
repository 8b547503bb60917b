package room

import (
	"fmt"

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
