package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/room"
)

const (
	// answerWait is how long the first attempt waits for an answer; later ones
	// wait longer, up to answerWaitMax. A cluster that lost a leader needs about
	// one second for the next.
	answerWait    = 750 * time.Millisecond
	answerWaitMax = 3 * time.Second
	// retryPause is how soon a frame that was turned away is tried again.
	retryPause    = 100 * time.Millisecond
	retryPauseMax = 2 * time.Second
	// grantWait is how long a server may refuse a subject that the room's records
	// allow: it hears of them a little later.
	grantWait = 3 * time.Second
	// flushWait bounds a flush of what was sent to a live room.
	flushWait = 10 * time.Second
)

// flight is a sealed frame without an outcome. Once a server may have it, its
// bytes and its id stay what they are, however often it is sent.
type flight struct {
	batch    *batch
	head     *room.Record // under which it is sealed
	receipt  Receipt
	subject  string
	shard    int
	stored   bool // in a persisted room
	data     []byte
	msgID    string
	token    string // under which answers come
	deadline time.Time

	attempts  int
	negatives int // attempts that a server answered: not stored
	lastSent  time.Time
	retryAt   time.Time // not before it is sent again; zero while an answer is awaited
	conn      uint64    // connections made until it was sent
	denied    time.Time // when a server first refused its subject
	after     uint64    // place of the last frame acknowledged before this one was first sent
	lastErr   error
	resolved  bool
}

// giveUp returns the outcome of a flight that will get no other.
func (f *flight) giveUp(reason error) error {
	if f.attempts > f.negatives {
		return bus.Errorf(bus.CodeUnknownOutcome, "publish: sent %d times, without an answer that tells: %w", f.attempts, reason)
	}
	return reason
}

// flights are the frames on their way, ascending by seq. Only the publisher's
// goroutine uses them.
type flights struct {
	pub      *publisher
	list     []*flight
	sealer   *frame.Sealer
	head     *room.Record // the sealer's
	seq      bus.Seq      // of the next frame
	placed   uint64       // where the store says that it has the last one acknowledged
	settled  bool         // the session's first frame has its outcome
	flushing bool
}

func (fs *flights) init(p *publisher) { fs.pub = p }

// frameBuffers are the memory of frames whose outcome is known.
var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// run sends batches as they come and frames again as they need it, until the
// client closes.
func (p *publisher) run() {
	ctx := p.room.client.ctx
	defer p.drop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		for _, a := range p.takeAnswers() {
			p.flights.handle(a, now)
		}
		p.flights.expire(now)
		p.flights.sendAgain(ctx, now)
		for p.flights.mayLaunch() {
			b := p.next(len(p.flights.list))
			if b == nil {
				break
			}
			p.flights.launch(ctx, b)
		}
		p.flights.flushLive(ctx)
		timer.Reset(time.Until(p.flights.due(time.Now().Add(time.Hour))))
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// mayLaunch reports whether a new frame may leave now. Behind a frame that is
// sent again nothing new leaves, so that the store gets them in order as far as
// that is in a sender's hands; and the first of a session travels alone, because
// readers take the first they see for the beginning.
func (fs *flights) mayLaunch() bool {
	if !fs.pub.room.client.online() || !fs.settled && len(fs.list) > 0 {
		return false
	}
	for _, f := range fs.list {
		if f.attempts > 1 || !f.retryAt.IsZero() {
			return false
		}
	}
	return true
}

// launch seals a batch and sends it for the first time.
func (fs *flights) launch(ctx context.Context, b *batch) {
	f := &flight{batch: b, shard: bus.Shard(fs.pub.room.id), deadline: b.since.Add(bus.PublishTimeout)}
	err := fs.ready(ctx)
	if err == nil {
		err = fs.seal(f, fs.seq)
	}
	if err != nil {
		f.free()
		fs.pub.settle(b, Receipt{}, err)
		return
	}
	fs.seq++
	fs.list = append(fs.list, f)
	fs.send(f)
}

// ready makes the sealer that of the head. Where the head does not let this
// client send it looks for a newer one first.
func (fs *flights) ready(ctx context.Context) error {
	r := fs.pub.room
	head, key, _ := r.model.current()
	if err := fs.check(head); err != nil {
		if syncErr := r.sync(ctx); syncErr != nil {
			return errors.Join(err, syncErr)
		}
		head, key, _ = r.model.current()
		if err := fs.check(head); err != nil {
			return err
		}
	}
	if head == fs.head {
		return nil
	}
	sealer, err := frame.NewSealer(r.client.identity(), head, key, r.client.Session(), rand.Reader)
	if err != nil {
		return err
	}
	fs.sealer, fs.head = sealer, head
	return nil
}

// check refuses to send under a record that does not let this client send, and
// under one that may not be the room's newest.
func (fs *flights) check(head *room.Record) error {
	c := fs.pub.room.client
	if err := fs.pub.room.model.doubted(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	role := head.Role(c.ID())
	switch {
	case !role.Valid():
		return bus.Errorf(bus.CodeNotMember, "publish: this client is no member of room %s since epoch %d", head.Room, head.Epoch)
	case !role.CanWrite():
		return bus.Errorf(bus.CodeForbidden, "publish: a %s may not send to room %s", role, head.Room)
	}
	return head.CheckTime(c.config.Now())
}

// seal makes the frame of a flight under the sealer's record.
func (fs *flights) seal(f *flight, seq bus.Seq) error {
	c, r, now := fs.pub.room.client, fs.pub.room, fs.pub.room.client.config.Now()
	if f.data == nil {
		f.data = *frameBuffers.Get().(*[]byte)
	}
	data, hash, err := fs.sealer.Seal(f.data[:0], seq, now, f.batch.recs)
	f.data = data
	if err != nil {
		return err
	}
	f.head, f.msgID, f.stored = fs.head, frame.MsgID(hash), fs.head.Policy.Persisted()
	f.receipt = Receipt{
		Room: r.id, Epoch: fs.head.Epoch, Session: c.Session(),
		Seq: seq, Sent: now.UTC().Truncate(time.Microsecond),
	}
	f.subject = bus.DataSubject(r.id, c.ID(), f.stored)
	switch {
	case !f.stored:
		fs.settled = true // nothing of a live room is sent out of order
	case f.token == "":
		f.token = c.acks.expect(fs.pub, f)
	}
	return nil
}

// reseal makes the frame of a flight that no server has seen anew where there is
// a newer record: the one before may have had a reader who is gone since.
func (fs *flights) reseal(ctx context.Context, f *flight) error {
	if err := fs.ready(ctx); err != nil || fs.head == f.head {
		return err
	}
	return fs.seal(f, f.receipt.Seq)
}

// free gives the memory of a flight back.
func (f *flight) free() {
	f.batch.sealed()
	if f.data != nil {
		data := f.data
		f.data = nil
		frameBuffers.Put(&data)
	}
}

// send makes one attempt. A connection that is down does not count as one.
func (fs *flights) send(f *flight) {
	c := fs.pub.room.client
	msg := &nats.Msg{Subject: f.subject, Data: f.data}
	if f.stored {
		msg.Reply = c.acks.prefix + f.token
		msg.Header = nats.Header{nats.MsgIdHdr: []string{f.msgID}}
	}
	if f.attempts == 0 {
		f.after = fs.placed
	}
	conn := c.connections()
	err := c.nc.PublishMsg(msg)
	now := time.Now()
	switch {
	case err == nil:
	case errors.Is(err, nats.ErrMaxPayload):
		fs.resolve(f, bus.Errorf(bus.CodeTooLarge, "publish: %w", err))
		return
	case neverWritten(err):
		f.lastErr = bus.Errorf(bus.CodeUnavailable, "publish: %w", err)
		f.retryAt = now.Add(retryPause)
		return
	default:
		// The connection broke over it, and the server may have it all.
		f.lastErr = bus.Errorf(bus.CodeUnavailable, "publish: %w", err)
		conn = 0
	}
	f.attempts++
	f.lastSent, f.retryAt, f.conn = now, time.Time{}, conn
	f.batch.sealed()
}

// neverWritten reports whether nothing of a message has left this process when
// publishing it failed.
func neverWritten(err error) bool {
	for _, early := range []error{
		nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrConnectionDraining,
		nats.ErrInvalidConnection, nats.ErrBadSubject, nats.ErrHeadersNotSupported,
	} {
		if errors.Is(err, early) {
			return true
		}
	}
	return false
}

// sendAgain sends what was turned away, got no answer or never left, in order.
func (fs *flights) sendAgain(ctx context.Context, now time.Time) {
	if !fs.pub.room.client.online() {
		return
	}
	for _, f := range slices.Clone(fs.list) {
		if at, ok := f.again(); !ok || now.Before(at) {
			continue
		}
		if f.attempts == 0 {
			if err := fs.reseal(ctx, f); err != nil {
				fs.resolve(f, err)
				continue
			}
		}
		fs.send(f)
	}
}

// again returns when the flight is to be sent again if nothing happens before.
func (f *flight) again() (at time.Time, ok bool) {
	switch {
	case !f.retryAt.IsZero():
		return f.retryAt, true
	case f.stored:
		return f.lastSent.Add(min(time.Duration(f.attempts)*answerWait, answerWaitMax)), true
	}
	return time.Time{}, false // a live room's is flushed, or lost
}

// expire ends what has run out of time, and what was never sealed for want of a
// connection.
func (fs *flights) expire(now time.Time) {
	for _, f := range slices.Clone(fs.list) {
		if now.Before(f.deadline) {
			continue
		}
		reason := f.lastErr
		if reason == nil {
			reason = bus.Errorf(bus.CodeTimeout, "no answer within %s", bus.PublishTimeout)
		}
		fs.resolve(f, f.giveUp(reason))
	}
	for _, b := range fs.pub.overdue(now) {
		b.sealed()
		fs.pub.settle(b, Receipt{}, bus.Errorf(bus.CodeUnavailable, "publish: no server was reached within %s; it was not sent", bus.PublishTimeout))
	}
}

// due returns when run has to look again if nothing happens before.
func (fs *flights) due(at time.Time) time.Time {
	earlier := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	online := fs.pub.room.client.online()
	for _, f := range fs.list {
		earlier(f.deadline)
		if next, ok := f.again(); ok && online {
			earlier(next)
		}
	}
	fs.pub.mu.Lock()
	defer fs.pub.mu.Unlock()
	if len(fs.pub.batches) > 0 {
		earlier(fs.pub.batches[0].since.Add(bus.PublishTimeout))
	}
	return at
}

// handle takes in one piece of news.
func (fs *flights) handle(a answer, now time.Time) {
	switch a.kind {
	case answerAck:
		if !a.flight.resolved {
			fs.handleAck(a.flight, a.ack, now)
		}
	case answerDenied:
		fs.handleDenied(a.denied, now)
	case answerReconnect:
		for _, f := range fs.list {
			if f.stored {
				f.retryAt = now
			}
		}
	case answerFlushed:
		fs.handleFlushed(a)
	}
}

func (fs *flights) handleAck(f *flight, a ack, now time.Time) {
	switch {
	case a.verdict == ackStored && a.duplicate && f.attempts == 1:
		err := bus.Errorf(bus.CodeDedupPoisoned, "publish: the server says that frame %d was stored before it was first sent", f.receipt.Seq)
		fs.pub.room.client.events.raise(EventSecurity, fs.pub.room.id, err, "")
		fs.resolve(f, err)
	case a.verdict == ackStored && a.streamSeq <= f.after:
		err := bus.Errorf(bus.CodeRollback, "publish: the server says that frame %d is stored at %d, and one that was sent before it at %d", f.receipt.Seq, a.streamSeq, f.after)
		fs.pub.room.client.events.raise(EventSecurity, fs.pub.room.id, err, "")
		fs.placed = a.streamSeq // a store that was restored is told of once
		fs.resolve(f, err)
	case a.verdict == ackStored:
		f.receipt.StreamSeq, fs.placed = a.streamSeq, max(fs.placed, a.streamSeq)
		fs.resolve(f, nil)
	case a.verdict == ackRefuse:
		f.negatives++
		fs.resolve(f, f.giveUp(a.err))
	default:
		f.negatives++
		f.lastErr = a.err
		f.retryAt = now.Add(min(retryPause<<min(f.negatives-1, 8), retryPauseMax))
	}
}

// handleDenied takes in that a server refused the subject. It refused the
// oldest frame that has no answer, or a later one whose own denial then follows.
func (fs *flights) handleDenied(reason error, now time.Time) {
	i := slices.IndexFunc(fs.list, func(f *flight) bool { return f.attempts > f.negatives })
	if i < 0 {
		return
	}
	f := fs.list[i]
	f.negatives++
	f.lastErr = reason
	if f.denied.IsZero() {
		f.denied = now
	}
	head, _, _ := fs.pub.room.model.current()
	if fs.check(head) != nil || now.Sub(f.denied) > grantWait {
		fs.pub.room.client.events.raise(EventDenied, fs.pub.room.id, reason, "")
		fs.resolve(f, f.giveUp(reason))
		return
	}
	f.retryAt = now.Add(retryPause)
}

// flushLive asks, if nobody does yet, whether what was sent to a live room has
// reached the server.
func (fs *flights) flushLive(ctx context.Context) {
	if fs.flushing {
		return
	}
	i := slices.IndexFunc(fs.list, func(f *flight) bool { return !f.stored && f.attempts > f.negatives })
	if i < 0 {
		return
	}
	last := fs.list[len(fs.list)-1].receipt.Seq
	fs.flushing = true
	p, c := fs.pub, fs.pub.room.client
	c.spawn(func() {
		began := time.Now()
		err := c.flushServer(ctx, flushWait)
		p.answer(answer{kind: answerFlushed, seq: last, conn: c.connections(), err: err, at: began})
	})
}

func (fs *flights) handleFlushed(a answer) {
	fs.flushing = false
	for _, f := range slices.Clone(fs.list) {
		if f.stored || f.receipt.Seq > a.seq || f.attempts == f.negatives || f.lastSent.After(a.at) {
			continue
		}
		switch {
		case a.err == nil && f.conn == a.conn:
			fs.resolve(f, nil)
		case a.err != nil:
			fs.resolve(f, f.giveUp(a.err))
		default:
			fs.resolve(f, f.giveUp(bus.Errorf(bus.CodeUnavailable, "the connection broke")))
		}
	}
}

// resolve gives a flight its outcome and its memory back.
func (fs *flights) resolve(f *flight, err error) {
	if f.resolved {
		return
	}
	f.resolved = true
	fs.settled = true
	fs.list = slices.DeleteFunc(fs.list, func(g *flight) bool { return g == f })
	if f.token != "" {
		fs.pub.room.client.acks.forget(f.token)
	}
	f.free()
	fs.pub.settle(f.batch, f.receipt, err)
}

// dropAll gives every flight the outcome it has when nothing is sent any more.
func (fs *flights) dropAll(reason error) {
	for _, f := range slices.Clone(fs.list) {
		fs.resolve(f, f.giveUp(reason))
	}
}
