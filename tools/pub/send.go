package pub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

const (
	// maxPending is how many messages may be without an outcome: some more than
	// the client itself has on its way at most, so that the client sets the pace.
	maxPending = 20 * bus.MaxRecords
	// grace is how long what is on its way is waited for after an interruption.
	grace = 5 * time.Second
)

// tally counts messages by what became of them. Every message that was taken
// is in exactly one of the other counts at the end.
type tally struct {
	taken        int64
	bytes        int64 // of their bodies
	acknowledged int64
	refused      int64
	unknown      int64
	first        error // of a message that was not acknowledged
}

// String says it in a line.
func (t *tally) String() string {
	text := fmt.Sprintf("%d messages, %d bytes, %d acknowledged", t.taken, t.bytes, t.acknowledged)
	if t.refused > 0 {
		text += fmt.Sprintf(", %d refused", t.refused)
	}
	if t.unknown > 0 {
		text += fmt.Sprintf(", %d unknown", t.unknown)
	}
	return text
}

// result is a tally as --json prints it.
type result struct {
	Room         bus.RoomID `json:"room"`
	Messages     int64      `json:"messages"`
	Bytes        int64      `json:"bytes"`
	Acknowledged int64      `json:"acknowledged"`
	Refused      int64      `json:"refused"`
	Unknown      int64      `json:"unknown"`
}

func (t *tally) result(r *client.Room) result {
	return result{Room: r.ID(), Messages: t.taken, Bytes: t.bytes, Acknowledged: t.acknowledged, Refused: t.refused, Unknown: t.unknown}
}

// count takes the outcome of a message.
func (t *tally) count(err error) {
	switch {
	case err == nil:
		t.acknowledged++
		return
	case errors.Is(err, bus.ErrUnknownOutcome):
		t.unknown++
	default:
		t.refused++
	}
	if t.first == nil {
		t.first = err
	}
}

// err is what to say of the messages that were not acknowledged. If all were
// refused, that is why the command failed; otherwise a part of the work is done.
func (t *tally) err() error {
	switch {
	case t.first == nil:
		return nil
	case t.acknowledged == 0 && t.unknown == 0:
		return fmt.Errorf("send: %w", t.first)
	}
	return cli.WithExit(fmt.Errorf("send: %d of %d messages were not acknowledged: %w", t.refused+t.unknown, t.taken, t.first), cli.ExitPartial)
}

// sent is a message that was taken.
type sent struct {
	pending client.Pending
	size    int
}

// send sends everything and returns when every message that was taken has its
// outcome. The error is that of reading, that of the first message that was not
// acknowledged, or [context.Canceled] after an interruption that lost nothing.
// done is told of the bytes that are through.
func send(ctx context.Context, r *client.Room, in *inputs, h headers, done func(int64)) (*tally, error) {
	taking, stop := context.WithCancel(ctx)
	defer stop()
	patient, impatient := context.WithCancel(context.WithoutCancel(ctx))
	defer impatient()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, impatient) })()

	t := &tally{}
	outcomes := make(chan sent, maxPending)
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for s := range outcomes {
			err := outcome(patient, s.pending)
			t.count(err)
			done(int64(s.size))
			if err != nil {
				stop()
			}
		}
	}()
	var taken, bytes int64
	err := take(taking, in, h.room(), func(p piece) error {
		with := h.line
		if p.open {
			with = h.open
		}
		pending, err := r.PublishAsync(taking, p.body, with...)
		if err != nil {
			return err
		}
		taken, bytes = taken+1, bytes+int64(len(p.body))
		outcomes <- sent{pending, len(p.body)}
		return nil
	})
	close(outcomes)
	<-counted
	t.taken, t.bytes = taken, bytes
	switch {
	case t.first != nil:
		return t, t.err()
	case ctx.Err() != nil:
		return t, context.Canceled
	case err != nil && t.acknowledged > 0:
		return t, cli.WithExit(err, cli.ExitPartial)
	}
	return t, err
}

// outcome waits for what became of a message, until ctx ends.
func outcome(ctx context.Context, p client.Pending) error {
	select {
	case <-p.Done():
		return p.Err()
	default:
	}
	select {
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		// Not wrapped: to the frame an interruption is a reason to say nothing.
		return bus.Errorf(bus.CodeUnknownOutcome, "no answer came within %s of the interruption", grace)
	}
}

// take cuts the inputs one after the other and hands over the pieces, none longer
// than room, until ctx ends. Reading goes on in the background then, since nothing wakes a read of
// a terminal, but nothing more is handed over.
func take(ctx context.Context, in *inputs, room int, use func(piece) error) error {
	type read struct {
		piece piece
		err   error
	}
	reads := make(chan read)
	hand := func(r read) bool {
		select {
		case reads <- r:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(reads)
		for _, f := range in.files {
			for cut := in.cut(f, room); ; {
				p, err := cut.next()
				if err == io.EOF {
					break
				}
				if err != nil {
					hand(read{err: fmt.Errorf("read %s: %w", f.name, err)})
					return
				}
				if !hand(read{piece: p}) {
					return
				}
			}
		}
	}()
	for {
		select {
		case r, more := <-reads:
			switch {
			case !more:
				return nil
			case r.err != nil:
				return r.err
			}
			if err := use(r.piece); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cut returns the pieces of one file, none longer than room.
func (in *inputs) cut(f input, room int) pieces {
	if in.whole {
		return &whole{r: f, longest: room}
	}
	return newLines(f, min(maxPiece, room))
}
