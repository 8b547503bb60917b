package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// maxReplies bounds the replies to one request that wait to be taken.
	maxReplies = 1024
	// repliesLinger is how long a room's replies are still read after the last
	// request: one that comes soon needs no new reader.
	repliesLinger = 30 * time.Second
)

// RequestOptions say whose replies count, and where they come. The zero value
// is a reply of anybody, in the room of the request.
type RequestOptions struct {
	// Headers go with the request. Keys that begin with [bus.HeaderPrefix] are refused.
	Headers []Header
	// From is the member whose replies count; zero is every member.
	From bus.ID
	// In is the room where replies come, of which the client is a member too; nil
	// is the room of the request.
	In *Room
}

// NoReplyError tells that a request was sent, or perhaps was, and that no reply
// came before the context ended. Its code is [bus.CodeNoReply], or
// [bus.CodeUnknownOutcome] where it is not known either whether the request was
// stored; it wraps the context's error.
type NoReplyError struct {
	Room bus.RoomID // where a reply was waited for
	// Lost is the last [*GapError] or [*FrameError] of that room meanwhile: what
	// it tells of may have been the reply. nil if there was none.
	Lost error
	// Err is what became of the request without an outcome, or the context's error.
	Err error
}

// Error says what was waited for in vain.
func (e *NoReplyError) Error() string {
	text := fmt.Sprintf("request: no reply in room %s: %v", e.Room, e.Err)
	if e.Lost != nil {
		text += fmt.Sprintf("; meanwhile: %v", e.Lost)
	}
	return text
}

// Unwrap returns the error's code and its causes.
func (e *NoReplyError) Unwrap() []error {
	errs := []error{e.Err}
	if !errors.Is(e.Err, bus.ErrUnknownOutcome) {
		errs = []error{bus.ErrNoReply, e.Err}
	}
	if e.Lost != nil {
		errs = append(errs, e.Lost)
	}
	return errs
}

// ReplyError is that a member took a request and answered that it failed. Its
// code is [bus.CodeRequestFailed].
type ReplyError struct {
	Reply  *Message
	Reason string // as the member says, for people
}

// Error has the member's reason.
func (e *ReplyError) Error() string {
	return fmt.Sprintf("request: %s says: %s", e.Reply.Sender.Fingerprint(), e.Reason)
}

// Unwrap returns an error with [bus.CodeRequestFailed].
func (e *ReplyError) Unwrap() error { return bus.ErrRequestFailed }

// Request sends a message that asks for a reply and returns the first one that
// comes until ctx ends; give ctx a deadline. Requests and replies are messages
// like others, which the room's other members can read; each request has an id
// that nobody can guess, and replies name it.
//
// Whoever may write to the room can reply, and RequestOptions.From says whose
// replies count. In a persisted room the request waits for whoever answers
// there; of several replies, or one that is sent twice, the first counts.
//
// Errors: [*ReplyError] together with the reply, where a member says that it
// failed; [*NoReplyError] where nobody answered, or what did was lost; those of
// [Room.Publish] where the request was refused, and those that end
// [Room.Messages] where replies cannot be read.
func (r *Room) Request(ctx context.Context, body []byte, opts RequestOptions) (*Message, error) {
	for m, err := range r.RequestAll(ctx, body, opts) {
		return m, err
	}
	return nil, bus.Errorf(bus.CodeInternal, "request: the replies ended without an outcome")
}

// RequestAll is [Room.Request] for every reply that comes until ctx ends or the
// loop breaks, such as those of several members; one member may send several. A
// reply that says that the request failed comes with its [*ReplyError]. If none
// came until ctx ended, or if the iteration cannot go on, an error without a
// message is the last. The request is sent when the loop begins.
func (r *Room) RequestAll(ctx context.Context, body []byte, opts RequestOptions) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		if err := r.ask(ctx, body, opts, yield); err != nil {
			yield(nil, err)
		}
	}
}

// ask sends a request and hands out replies. The error is one to hand out last.
func (r *Room) ask(ctx context.Context, body []byte, opts RequestOptions, yield func(*Message, error) bool) error {
	for _, h := range opts.Headers {
		if strings.HasPrefix(h.Key, bus.HeaderPrefix) {
			return bus.Errorf(bus.CodeUsage, "request: header %.80q: keys that begin with %q have a meaning of their own", h.Key, bus.HeaderPrefix)
		}
	}
	in := opts.In
	if in == nil {
		in = r
	}
	a := &pendingRequest{from: opts.From, change: make(chan struct{}, 1)}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return bus.Errorf(bus.CodeInternal, "request: draw id: %w", err)
	}
	a.id = base64.RawURLEncoding.EncodeToString(id[:])
	if err := in.replies.expect(ctx, a); err != nil {
		return err
	}
	defer in.replies.forget(a)
	p, err := r.PublishAsync(ctx, body, append([]Header{{Key: bus.HeaderRequest, Value: a.id}}, opts.Headers...)...)
	if err != nil {
		return err
	}
	sent := p.Done()
	for got := 0; ; {
		m, err := a.next()
		switch {
		case m != nil:
			got++
			if !yield(m, failureOf(m)) {
				return nil
			}
			continue
		case err != nil:
			return err
		}
		select {
		case <-sent:
			// Without an outcome it may have been stored, and be answered yet.
			if err := p.Err(); err != nil && !errors.Is(err, bus.ErrUnknownOutcome) {
				return err
			}
			sent = nil
		case <-a.change:
		case <-ctx.Done():
			if got > 0 {
				return nil
			}
			_, err := p.Wait(ctx)
			if err == nil {
				err = ctx.Err()
			}
			return &NoReplyError{Room: in.id, Lost: a.lostSoFar(), Err: err}
		}
	}
}

// failureOf returns what a reply says that went wrong, nil if nothing.
func failureOf(m *Message) error {
	reason, failed := m.lookup(bus.HeaderError)
	if !failed {
		return nil
	}
	return &ReplyError{Reply: m, Reason: strings.ToValidUTF8(reason, "\uFFFD")}
}

// pendingRequest is a request that waits for replies.
type pendingRequest struct {
	id     string
	from   bus.ID
	change chan struct{} // one token: something came

	mu      sync.Mutex
	replies []*Message
	lost    error
	err     error // why no more will come
}

func (a *pendingRequest) next() (*Message, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.replies) > 0 {
		m := a.replies[0]
		a.replies = a.replies[1:]
		return m, nil
	}
	return nil, a.err
}

func (a *pendingRequest) lostSoFar() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost
}

// update lets change work on the request's state and wakes whoever waits.
func (a *pendingRequest) update(change func()) {
	a.mu.Lock()
	change()
	a.mu.Unlock()
	select {
	case a.change <- struct{}{}:
	default:
	}
}

func (a *pendingRequest) take(m *Message) {
	if !a.from.IsZero() && m.Sender != a.from {
		return
	}
	a.update(func() {
		switch {
		case a.err != nil:
		case len(a.replies) >= maxReplies:
			a.err = bus.Errorf(bus.CodeTooLarge, "request: more than %d replies wait to be taken", maxReplies)
		default:
			a.replies = append(a.replies, m)
		}
	})
}

// replyHub reads a room for the requests that wait for replies there. All of
// them share one reader, which begins with the first.
type replyHub struct {
	room *Room

	mu      sync.Mutex
	waiting map[string]*pendingRequest
	reading *replyReading // nil while nobody reads
}

// replyReading is one reader of a hub.
type replyReading struct {
	started chan struct{} // closed once everything sent later is sure to come, or err is set
	err     error
	end     context.CancelFunc
	linger  *time.Timer // ends it; nil while a request waits
}

func newReplyHub(r *Room) *replyHub { return &replyHub{room: r, waiting: map[string]*pendingRequest{}} }

// expect has the replies to a request collected, from when it returns.
func (h *replyHub) expect(ctx context.Context, a *pendingRequest) error {
	c := h.room.client
	if err := c.alive(); err != nil {
		return err
	}
	h.mu.Lock()
	rd := h.reading
	if rd == nil {
		rd = &replyReading{started: make(chan struct{})}
		reading, cancel := context.WithCancel(c.ctx)
		rd.end = cancel
		h.reading = rd
		c.spawn(func() { h.read(reading, rd) })
	}
	if rd.linger != nil {
		rd.linger.Stop()
		rd.linger = nil
	}
	h.waiting[a.id] = a
	h.mu.Unlock()
	var err error
	select {
	case <-rd.started:
		err = rd.err
	case <-ctx.Done():
		err = bus.Errorf(bus.CodeTimeout, "request: begin to read replies: %w", ctx.Err())
	case <-c.ctx.Done():
		err = c.closedErr()
	}
	if err != nil {
		h.forget(a)
	}
	return err
}

// forget ends the wait of a request. With the last one reading ends too, a
// while later.
func (h *replyHub) forget(a *pendingRequest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting, a.id)
	rd := h.reading
	if len(h.waiting) > 0 || rd == nil || rd.linger != nil {
		return
	}
	rd.linger = time.AfterFunc(repliesLinger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.reading == rd && len(h.waiting) == 0 {
			h.reading = nil
			rd.end()
		}
	})
}

// read hands out replies until ctx ends or the room cannot be read any more.
func (h *replyHub) read(ctx context.Context, rd *replyReading) {
	defer rd.end()
	begin := sync.OnceFunc(func() { close(rd.started) })
	reader, err := h.room.newReader(ctx, Now)
	if err == nil {
		begin()
		reader.run(func(m *Message, failure error) bool {
			err = h.hear(m, failure)
			return err == nil
		})
	}
	if err == nil {
		err = h.room.client.closedErr() // nobody waits otherwise
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	rd.err = err
	begin()
	if rd.linger != nil {
		rd.linger.Stop()
	}
	if h.reading != rd {
		return
	}
	h.reading = nil
	for id, a := range h.waiting {
		delete(h.waiting, id)
		a.update(func() {
			if a.err == nil {
				a.err = err
			}
		})
	}
}

// hear takes one step of the iteration. An error is the last of it.
func (h *replyHub) hear(m *Message, failure error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if failure == nil {
		if id, ok := m.lookup(bus.HeaderReply); ok && h.waiting[id] != nil {
			h.waiting[id].take(m)
		}
		return nil
	}
	if !isPassing(failure) {
		return failure
	}
	for _, a := range h.waiting {
		a.update(func() { a.lost = failure })
	}
	return nil
}

// isPassing reports whether an error of an iteration leaves it going on.
func isPassing(err error) bool {
	if _, ok := errors.AsType[*GapError](err); ok {
		return true
	}
	_, ok := errors.AsType[*FrameError](err)
	return ok
}

// RequestID returns the id of the request that a message is. ok is false for
// one that asks for no reply.
func (m *Message) RequestID() (id string, ok bool) {
	id, ok = m.lookup(bus.HeaderRequest)
	return id, ok && id != "" && len(id) <= bus.MaxRequestID
}

// Reply answers a request in its room. It is [Room.Publish] with the header that
// names the request; errors are those, and [bus.CodeUsage] for a message that is
// no request. A header of key [bus.HeaderError] says that the request failed.
func (m *Message) Reply(ctx context.Context, body []byte, headers ...Header) (Receipt, error) {
	if m.room == nil {
		return Receipt{}, bus.Errorf(bus.CodeUsage, "reply: the message was not read from a room")
	}
	return m.ReplyIn(ctx, m.room, body, headers...)
}

// ReplyIn is [Message.Reply] in another room, for those who wait there.
func (m *Message) ReplyIn(ctx context.Context, r *Room, body []byte, headers ...Header) (Receipt, error) {
	id, ok := m.RequestID()
	if !ok {
		return Receipt{}, bus.Errorf(bus.CodeUsage, "reply: the message asks for no reply")
	}
	return r.Publish(ctx, body, append([]Header{{Key: bus.HeaderReply, Value: id}}, headers...)...)
}

// errorHeader makes the header of a reply that says that a request failed.
func errorHeader(reason error) Header {
	text := strings.ToValidUTF8(reason.Error(), "\uFFFD")
	for len(text) > bus.MaxDetailLen {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return Header{Key: bus.HeaderError, Value: text}
}
