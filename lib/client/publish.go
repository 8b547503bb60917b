package client

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// Header is one header of a message. Keys of one message differ.
type Header = frame.HeaderField

// Receipt says where a message went.
type Receipt struct {
	Room    bus.RoomID
	Epoch   bus.Epoch
	Session bus.SessionID
	Seq     bus.Seq   // of its frame, in this room and session
	Index   int       // of the message in its frame
	Sent    time.Time // as the frame says
	// StreamSeq is the place in the shard's stream that a server named; 0 in
	// rooms that are not stored.
	StreamSeq uint64
}

// Pending is a message on its way. The zero value is of no use.
type Pending struct {
	batch *batch
	index int
}

// Done returns a channel that closes when the outcome is there.
func (p Pending) Done() <-chan struct{} { return p.batch.done }

// Err returns the outcome once Done is closed, and nil before: nil for
// acknowledged, [bus.CodeUnknownOutcome] where it is not known, any other error
// for refused, as [Room.Publish] has them.
func (p Pending) Err() error {
	select {
	case <-p.batch.done:
		return p.batch.outcome()
	default:
		return nil
	}
}

// Receipt returns where the message went, once Done is closed and Err is nil;
// before, and otherwise, its StreamSeq and Sent say nothing.
func (p Pending) Receipt() Receipt {
	select {
	case <-p.batch.done:
	default:
		return Receipt{}
	}
	receipt := p.batch.receipt
	receipt.Index = p.index
	return receipt
}

// Wait waits for the outcome. Where ctx ends first the outcome is unknown; the
// message goes its way all the same.
func (p Pending) Wait(ctx context.Context) (Receipt, error) {
	select {
	case <-p.batch.done:
		return p.Receipt(), p.batch.outcome()
	case <-ctx.Done():
	}
	select {
	case <-p.batch.done:
		return p.Receipt(), p.batch.outcome()
	default:
		return Receipt{}, bus.Errorf(bus.CodeUnknownOutcome, "publish: gave up waiting: %w", ctx.Err())
	}
}

// Publish sends one message and waits for its outcome, of which there are
// three. nil: a persisted room has stored it on as many disks as the bus keeps
// copies; a live room's server has it. [bus.CodeUnknownOutcome]: it was sent,
// and nobody has said in time what became of it. Any other error: it was
// refused, by this client or by a server, and was not stored:
// [bus.CodeForbidden] and [bus.CodeNotMember] without the right to write,
// [bus.CodeExpired] where the room's record is past its time, [bus.CodeFork],
// [bus.CodeEquivocation] and [bus.CodeRollback] while it is in doubt which record
// is the room's newest, [bus.CodeQuota],
// [bus.CodeTooLarge], [bus.CodeUnavailable] where no server was reached,
// [bus.CodeClosed], [bus.CodeRefused]. Where the server's own acknowledgement
// cannot be true, which is [bus.CodeDedupPoisoned], or [bus.CodeRollback] for a
// place before that of an earlier frame, nobody knows. Body and headers may be
// reused afterwards.
func (r *Room) Publish(ctx context.Context, body []byte, headers ...Header) (Receipt, error) {
	p, err := r.PublishAsync(ctx, body, headers...)
	if err != nil {
		return Receipt{}, err
	}
	return p.Wait(ctx)
}

// PublishAsync queues one message and returns at once, unless so much is queued
// already that it has to wait for room, for which ctx is. Messages of one
// goroutine are sent in the order of its calls. What has queued up leaves in one
// frame, encrypted and signed once; a message that finds nothing on its way
// leaves at once. An error means that the message was not taken:
// [bus.CodeTimeout] where ctx ended first, [bus.CodeClosed] after Close.
//
// A room holds at most 20 frames of messages without an outcome, 4 that gather
// and 16 on their way: 20,480 messages or 5 MiB, whichever is less. Whoever sends
// faster than the servers take it waits. A Pending costs what its caller keeps of
// it, and nothing more once its frame has left.
func (r *Room) PublishAsync(ctx context.Context, body []byte, headers ...Header) (Pending, error) {
	rec := frame.Record{Headers: headers, Body: body}
	if !slices.IsSortedFunc(headers, compareHeaders) {
		rec.Headers = slices.SortedFunc(slices.Values(headers), compareHeaders)
	}
	if err := frame.CheckRecord(rec); err != nil {
		return Pending{}, err
	}
	return r.pub.add(ctx, rec)
}

func compareHeaders(a, b Header) int { return strings.Compare(a.Key, b.Key) }

// Flush waits until every message taken so far has its outcome. It returns the
// first error since the last Flush that nobody has seen: neither Publish nor Err
// or Wait of a Pending has returned it.
func (r *Room) Flush(ctx context.Context) error { return r.pub.flush(ctx) }
