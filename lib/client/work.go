package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// retryFirst and retryMost bound the pause before a message that was not
	// handled is handled again. Half of it is random.
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
)

// WorkOptions say how messages are handled. The zero value is one at a time,
// from now on, each at most once.
type WorkOptions struct {
	// Cursor is where the work begins, and what remembers which messages are
	// done: each is handled at least once, by this process or the next. It is of
	// the room that is worked on. Without one, each message from now on is handled
	// at most once, as live rooms need it, which store nothing.
	Cursor *Cursor
	// Parallel is how many messages are handled at once; 0 is one. Messages of one
	// sender begin in the order they were sent, and with more than one at a time
	// may end in another.
	Parallel int
	// Timeout bounds one call of the handler by its context; 0 is no limit.
	Timeout time.Duration
	// Attempts is how often a message is handled that the handler returns an
	// error for, before it is given up; 0 is until it is handled. Without a cursor
	// it is always one.
	Attempts int
	// Grace is how long handlers that are at work go on after ctx has ended,
	// before theirs ends too; 0 is no limit.
	Grace time.Duration
	// OnReady is called once, when every message sent from then on is sure to be
	// handled; nil is nobody.
	OnReady func()
	// OnError is told, from several goroutines, what went wrong and ended nothing:
	// [*GapError], [*FrameError], [*HandlerError], and messages that could not be
	// acknowledged and so come again. nil ignores it.
	OnError func(error)
}

// HandlerError is that a handler returned an error.
type HandlerError struct {
	Message *Message
	Err     error
	// GaveUp says that the message is not handled again.
	GaveUp bool
}

// Error has the handler's error.
func (e *HandlerError) Error() string {
	what := "it is handled again"
	if e.GaveUp {
		what = "given up"
	}
	return fmt.Sprintf("handle message %d.%d of %s, attempt %d, %s: %v", e.Message.Seq, e.Message.Index, e.Message.Sender.Fingerprint(), e.Message.Attempt, what, e.Err)
}

// Unwrap returns the handler's error.
func (e *HandlerError) Unwrap() error { return e.Err }

// Work calls handle for each message of the room, with up to Parallel of them at
// once, until ctx ends. It takes nothing new then, waits for the handlers that
// are at work, whose contexts go on, and returns nil. Any other end of the
// iteration is an error, as [Room.Messages] has them; handlers at work are waited
// for all the same.
//
// With a cursor, a message whose handler returned nil is acknowledged, durably,
// and one whose handler returned an error is handled again a little later, while
// others go on. A process that ends in between handles it again: handlers must
// put up with that.
func (r *Room) Work(ctx context.Context, opts WorkOptions, handle func(ctx context.Context, m *Message) error) error {
	w := &work{room: r, opts: opts, handle: handle, jobs: make(chan *Message)}
	return w.run(ctx)
}

// Answer is what a request is replied to with.
type Answer struct {
	Body    []byte
	Headers []Header // those that begin with [bus.HeaderPrefix] have their meaning
}

// Serve answers the requests in the room, as [Room.Request] makes them, by way
// of [Room.Work]: what handle returns is sent as the reply, and an error as one
// that says that the request failed, with up to 1 KiB of its text. Other messages
// are passed over. With a cursor, a request counts as done when its reply is
// stored, so that it may be handled, and replied to, more than once.
//
// Several processes that serve one room all answer: each member reads all
// messages.
func (r *Room) Serve(ctx context.Context, opts WorkOptions, handle func(ctx context.Context, m *Message) (Answer, error)) error {
	return r.Work(ctx, opts, func(ctx context.Context, m *Message) error {
		if _, ok := m.RequestID(); !ok {
			return nil
		}
		answer, err := handle(ctx, m)
		if err != nil {
			answer = Answer{Headers: []Header{errorHeader(err)}}
		}
		_, err = m.Reply(context.WithoutCancel(ctx), answer.Body, answer.Headers...)
		return err
	})
}

// work is one call of Work.
type work struct {
	room   *Room
	opts   WorkOptions
	handle func(context.Context, *Message) error
	jobs   chan *Message
}

func (w *work) run(ctx context.Context) error {
	c := w.room.client
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	var from From = Now
	if w.opts.Cursor != nil {
		from = w.opts.Cursor
	}
	rd, err := w.room.newReader(ctx, from)
	switch {
	case ctx.Err() != nil:
		if err == nil {
			rd.release()
		}
		return c.Err()
	case err != nil:
		return err
	}

	if w.opts.OnReady != nil {
		w.opts.OnReady()
	}
	handling, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	defer context.AfterFunc(c.ctx, abort)()
	defer context.AfterFunc(ctx, func() {
		if w.opts.Grace > 0 {
			late := time.AfterFunc(w.opts.Grace, abort)
			context.AfterFunc(handling, func() { late.Stop() })
		}
	})()

	var workers, reader sync.WaitGroup
	for range max(w.opts.Parallel, 1) {
		workers.Go(func() { w.work(ctx, handling) })
	}
	var last error
	reader.Go(func() {
		defer close(w.jobs)
		rd.run(func(m *Message, failure error) bool {
			switch {
			case failure == nil:
				select {
				case w.jobs <- m:
					return true
				case <-ctx.Done():
					return false
				}
			case isPassing(failure):
				w.tell(failure)
				return ctx.Err() == nil
			}
			last = failure
			return false
		})
	})
	workers.Wait()
	reader.Wait()
	if last == nil {
		last = c.Err()
	}
	return last
}

// work handles messages one after the other.
func (w *work) work(ctx, handling context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m, more := <-w.jobs:
			if !more {
				return
			}
			if ctx.Err() != nil {
				return // it comes again
			}
			w.one(ctx, handling, m)
		}
	}
}

// one handles a message and says what became of it.
func (w *work) one(ctx, handling context.Context, m *Message) {
	if w.opts.Timeout > 0 {
		limited, cancel := context.WithTimeout(handling, w.opts.Timeout)
		defer cancel()
		handling = limited
	}
	err := w.handle(handling, m)
	cur := w.opts.Cursor
	gaveUp := err != nil && (cur == nil || w.opts.Attempts > 0 && m.Attempt >= w.opts.Attempts)
	if err != nil {
		w.tell(&HandlerError{Message: m, Err: err, GaveUp: gaveUp})
	}
	switch {
	case cur == nil:
	case err == nil || gaveUp:
		err = cur.Ack(m)
	case ctx.Err() != nil:
		return // the next iteration has it
	default:
		pause := min(retryFirst<<min(m.Attempt-1, 16), retryMost)
		err = cur.Retry(m, pause/2+rand.N(pause/2))
	}
	if cur != nil && err != nil && w.room.client.alive() == nil {
		w.tell(fmt.Errorf("handle message: %w", err))
	}
}

func (w *work) tell(err error) {
	if w.opts.OnError != nil {
		w.opts.OnError(err)
	}
}
