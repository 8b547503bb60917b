package client

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// Message is a message that passed every check. Its body and headers may be
// kept; they keep the other messages of its frame in memory.
type Message struct {
	Room    bus.RoomID
	Sender  bus.ID
	Handle  bus.Handle // of the sender, as pinned by Resolve; "" where it is not known
	Epoch   bus.Epoch
	Session bus.SessionID
	Seq     bus.Seq   // of the frame, in this room and session
	Index   int       // in the frame
	Last    bool      // the last of its frame
	Sent    time.Time // as the sender says
	Headers []Header  // ascending by key; values are the sender's, and may be any bytes
	Body    []byte
	// Late tells that the message comes after the gap it was missing in.
	Late bool
	// StreamSeq is the frame's place in its shard's stream, as the server says; 0
	// in live rooms.
	StreamSeq uint64
	// Attempt is 1, and one more each time that [Cursor.Retry] had the message
	// handed out again.
	Attempt int

	room   *Room
	run    uint64 // of the cursor's iterations, which handed it out
	number uint64 // of what that iteration has handed out
}

// Header returns the value of a header, "" where there is none.
func (m *Message) Header(key string) string {
	value, _ := m.lookup(key)
	return value
}

func (m *Message) lookup(key string) (value string, ok bool) {
	for _, h := range m.Headers {
		if h.Key == key {
			return h.Value, true
		}
	}
	return "", false
}

// GapError tells that frames of a session did not come in time. They may still
// come, as late ones. It ends no iteration.
type GapError struct {
	Room     bus.RoomID
	Sender   bus.ID
	Session  bus.SessionID
	From, To bus.Seq // first and last missing
}

// Error names what is missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("read room %s: frames %d to %d of %s, session %s, are missing", e.Room, e.From, e.To, e.Sender, e.Session)
}

// Unwrap returns an error with [bus.CodeGap].
func (e *GapError) Unwrap() error { return bus.ErrGap }

// FrameError tells that a frame failed a check; nothing of it was delivered. It
// ends no iteration.
type FrameError struct {
	Room      bus.RoomID
	Sender    bus.ID        // as the frame says; nothing of it is proved
	Session   bus.SessionID // as the frame says
	Seq       bus.Seq       // as the frame says
	StreamSeq uint64        // as the server says; 0 in live rooms
	Err       error         // has the code of the check
}

// Error says which frame and why.
func (e *FrameError) Error() string {
	return fmt.Sprintf("read room %s: frame %d of %s: %v", e.Room, e.Seq, e.Sender, e.Err)
}

// Unwrap returns the failure.
func (e *FrameError) Unwrap() error { return e.Err }

// From says where reading begins: [Now], [Start], [Stored] or a [*Cursor].
type From interface{ isFrom() }

// Origin is a place in a room that needs no memory.
type Origin int

// The places.
const (
	// Now is after what has been sent. Everything sent after Messages returned is read.
	Now Origin = iota
	// Start is the first message that is stored and whose key this member has.
	Start
	// Stored is as Start, and the iteration ends after what was stored when it began.
	Stored
)

func (Origin) isFrom() {}

// Messages reads the room. Each message comes with a nil error, in order within
// its session. An error of type [*GapError] or [*FrameError] tells about frames
// that are missing or failed a check, and the iteration goes on; any other is
// the last: [bus.CodeNotMember] after the client was removed, [bus.CodeClosed]
// after Close, [bus.CodeForbidden], [bus.CodeRevoked], [bus.CodePolicy] where the
// room stores nothing that could be read from the past, or the failure of a
// check of the room's records. When ctx ends the iteration just ends.
//
// Reading has begun when Messages returns, and waits: frames of a persisted room
// are fetched as fast as the loop takes them, and none is skipped however slow
// it is; of a live room, what the loop is too slow for is lost and shows as a
// gap.
//
// No iteration hands out a frame twice. One that begins at [Now] refuses, with a
// [*FrameError] of [bus.CodeReplay], what any iteration of this client has read
// from the room before. It also refuses what says that it was sent more than
// [bus.ClockSkew] and [bus.PublishTimeout] before, and so does one with a cursor
// that began at Now. A frame sent shortly before, which this client has not
// read, can be given to it as new.
//
// A connection that breaks interrupts and changes nothing. The iterator can
// be used once. Whoever does not use it must end ctx.
func (r *Room) Messages(ctx context.Context, from From) iter.Seq2[*Message, error] {
	var used atomic.Bool
	rd, err := r.newReader(ctx, from)
	return func(yield func(*Message, error) bool) {
		switch {
		case used.Swap(true):
			yield(nil, bus.Errorf(bus.CodeUsage, "read room %s: the iterator was used before", r.id))
		case err != nil:
			if ctx.Err() == nil {
				yield(nil, err)
			}
		default:
			rd.run(yield)
		}
	}
}

// messages turns an opened frame into messages.
func (rd *reader) messages(d frame.Delivery, streamSeq uint64) []Message {
	h := &d.Frame.Header
	handle := rd.room.client.handleOf(h.Sender)
	out := make([]Message, len(d.Frame.Records))
	for i := range out {
		out[i] = Message{
			Room:      h.Room,
			Sender:    h.Sender,
			Handle:    handle,
			Epoch:     h.Epoch,
			Session:   h.Session,
			Seq:       h.Seq,
			Index:     i,
			Last:      i == len(out)-1,
			Sent:      d.Frame.Sent,
			Headers:   d.Frame.Records[i].Headers,
			Body:      d.Frame.Records[i].Body,
			Late:      d.Late,
			StreamSeq: streamSeq,
			Attempt:   1,
			room:      rd.room,
		}
	}
	return out
}
