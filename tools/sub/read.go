package sub

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/show"
	"github.com/enmanuel/unibus/lib/client"
)

// ahead is how many messages may wait to be written.
const ahead = 256

// options say when reading ends by itself.
type options struct {
	count int64         // messages, 0 for no limit
	idle  time.Duration // without a message, 0 for no limit
}

// event is one step of an iteration.
type event struct {
	message *client.Message
	err     error
}

// read writes the messages of an iteration to out until ctx or the iteration
// ends, or o says so. What is wrong but ends nothing goes to warn. It returns an
// error with [bus.CodeGap] if messages are missing, and the error that ended
// the iteration. The end of ctx is none: this is how people end the command.
// The caller ends ctx.
func read(ctx context.Context, messages iter.Seq2[*client.Message, error], out show.Output, warn func(string, ...any), o options) error {
	events := make(chan event, ahead)
	go func() {
		defer close(events)
		for m, err := range messages {
			select {
			case events <- event{m, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var idle <-chan time.Time // never, without a limit
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	if o.idle > 0 {
		timer.Reset(o.idle)
		idle = timer.C
	}
	t := totals{warn: warn}
	for {
		e, more, err := next(ctx, events, idle, out)
		if err != nil || !more {
			return errors.Join(t.err(), err)
		}
		if e.err != nil {
			if err := t.note(e.err); err != nil {
				return errors.Join(t.err(), err, out.Flush())
			}
			continue
		}
		if e.message.Late {
			warn("message %d of %s comes late, after the gap it was missing in", e.message.Seq, show.Name(e.message))
		}
		if err := out.Write(e.message); err != nil {
			return err
		}
		if t.messages++; t.messages == o.count {
			return errors.Join(t.err(), out.Flush())
		}
		if o.idle > 0 {
			timer.Reset(o.idle)
		}
	}
}

// next returns the next event, flushing out before it waits for one. more is
// false where nothing is to come.
func next(ctx context.Context, events <-chan event, idle <-chan time.Time, out show.Output) (e event, more bool, err error) {
	select {
	case e, more = <-events:
		if !more {
			err = out.Flush()
		}
		return e, more, err
	default:
	}
	if err := out.Flush(); err != nil {
		return event{}, false, err
	}
	select {
	case e, more = <-events:
		return e, more, nil
	case <-idle:
	case <-ctx.Done():
	}
	return event{}, false, nil
}

// totals count what came and what did not.
type totals struct {
	warn     func(string, ...any)
	messages int64
	gaps     int64
	missing  uint64 // frames, of which each holds one or more messages
}

// note takes in an error of the iteration and returns it if it is the last.
func (t *totals) note(err error) error {
	if gap, ok := errors.AsType[*client.GapError](err); ok {
		t.gaps++
		t.missing += uint64(gap.To-gap.From) + 1
		t.warn("%s", err)
		return nil
	}
	if _, ok := errors.AsType[*client.FrameError](err); ok {
		t.warn("%s (%s); nothing of it is put out", err, bus.CodeOf(err))
		return nil
	}
	return err
}

// err is what to say at the end of messages that are missing.
func (t *totals) err() error {
	if t.gaps == 0 {
		return nil
	}
	return cli.WithExit(bus.Errorf(bus.CodeGap, "read room: %d frames are missing in %d gaps", t.missing, t.gaps), cli.ExitPartial)
}
