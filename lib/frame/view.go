package frame

import (
	"fmt"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// View is what an [Opener] has to know about its room. It answers from memory
// and changes only between calls to [Opener.Open].
type View interface {
	// Head returns the newest accepted record; never nil, and the same pointer
	// until the head moves.
	Head() *room.Record
	// Epoch returns what is known about an epoch up to the head's. ok is false
	// when its record is not known.
	Epoch(e bus.Epoch) (epoch Epoch, ok bool)
	// SignPub returns the signing key of a member. ok is false when no card of
	// it was fetched yet. That the key belongs to the id is for the opener to check.
	SignPub(id bus.ID) (pub bus.SignPub, ok bool)
}

// Epoch is one epoch of a room.
type Epoch struct {
	Record *room.Record
	Key    *room.Key // nil when it is not known, or nothing is encrypted
	// Closed is when the record after this one was accepted here. It matters for
	// all epochs of live rooms but the head's.
	Closed time.Time
}

// UnknownEpochError is the cause inside an error with [bus.CodeEpochUnknown]
// from [Opener.Open], for errors.AsType: with the records up to Epoch, the same
// frame can be tried again. Nothing about the frame is proved: the epoch may
// be invented.
type UnknownEpochError struct {
	Epoch bus.Epoch // whose record is not known
	Head  bus.Epoch
}

// Error names both epochs.
func (e *UnknownEpochError) Error() string {
	return fmt.Sprintf("no record of epoch %d, head is %d", e.Epoch, e.Head)
}

// UnknownSenderError is the cause inside an error with [bus.CodeNotFound] from
// [Opener.Open], for errors.AsType: the sender is a member, but its signing key
// is not known. With its card, the same frame can be tried again.
type UnknownSenderError struct {
	Sender bus.ID
}

// Error names the sender.
func (e *UnknownSenderError) Error() string { return "no signing key of " + e.Sender.String() }
