package client

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
// [bus.CodeExpired] where the room's record is past its time, [bus.CodeQuota],
// [bus.CodeTooLarge], [bus.CodeUnavailable] where no server was reached,
// [bus.CodeClosed], [bus.CodeRefused]. Body and headers may be reused
// afterwards.
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
// leaves at once. An error means that the message was not taken.
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

const (
	// maxBatches is how many frames' worth of messages may queue before
	// PublishAsync waits.
	maxBatches = 4
	// maxFlights is how many frames of a room may be on their way. Frames that
	// are not full leave only while there are fewer than eagerFlights: what
	// comes meanwhile joins them.
	maxFlights   = 16
	eagerFlights = 2
	// maxFailed is how many failures are kept for Flush to tell of.
	maxFailed = 64
)

// batch is the messages of one frame to be, or that was.
type batch struct {
	recs   []frame.Record
	arena  []byte // what the bodies of recs lie in
	budget frame.Budget
	since  time.Time // when the first message came

	done    chan struct{}
	receipt Receipt
	err     error
	seen    atomic.Bool // somebody was told of err
}

// outcome tells of the error. It is for after done is closed.
func (b *batch) outcome() error {
	if b.err != nil {
		b.seen.Store(true)
	}
	return b.err
}

// arenas are the buffers of batches that were sealed.
var arenas = sync.Pool{New: func() any { return &batchBuffers{} }}

type batchBuffers struct {
	recs  []frame.Record
	arena []byte
}

func newBatch() *batch {
	buf := arenas.Get().(*batchBuffers)
	return &batch{recs: buf.recs[:0], arena: buf.arena[:0], since: time.Now(), done: make(chan struct{})}
}

// add copies a message into the batch, if it still fits, and returns its index.
func (b *batch) add(rec frame.Record) (index int, ok bool) {
	if !b.budget.Take(rec) {
		return 0, false
	}
	// When the arena grows, earlier bodies stay where they are, in its old memory.
	start := len(b.arena)
	b.arena = append(b.arena, rec.Body...)
	rec.Body = b.arena[start:len(b.arena):len(b.arena)]
	if len(rec.Headers) > 0 {
		rec.Headers = slices.Clone(rec.Headers)
	}
	b.recs = append(b.recs, rec)
	return len(b.recs) - 1, true
}

// full reports whether waiting for more would gain little.
func (b *batch) full() bool {
	return b.budget.Records() >= bus.MaxRecords || b.budget.FrameSize() >= bus.MaxFrameSize*3/4
}

// sealed gives the batch's buffers back.
func (b *batch) sealed() {
	clear(b.recs)
	arenas.Put(&batchBuffers{recs: b.recs, arena: b.arena})
	b.recs, b.arena = nil, nil
}

// publisher sends one client's messages to one room: it gathers them into
// batches, seals those into frames in order, and keeps each frame until its
// outcome is known.
type publisher struct {
	room *Room

	mu      sync.Mutex
	batches []*batch            // not sealed yet; the last may take more
	open    map[*batch]struct{} // without an outcome
	space   chan struct{}       // closed, and replaced, when there is room for more
	answers []answer            // for run to look at
	running bool
	closed  error    // set once nothing more is taken
	failed  []*batch // the first since the last flush

	wake chan struct{} // one token: something for run to do

	flights flights // run's alone
}

func newPublisher(r *Room) *publisher {
	p := &publisher{room: r, open: map[*batch]struct{}{}, space: make(chan struct{}), wake: make(chan struct{}, 1)}
	p.flights.init(p)
	return p
}

// add puts a message in the last batch, or a new one, once there is room.
func (p *publisher) add(ctx context.Context, rec frame.Record) (Pending, error) {
	for {
		p.mu.Lock()
		if p.closed != nil {
			err := p.closed
			p.mu.Unlock()
			return Pending{}, err
		}
		if pending, ok := p.tryAdd(rec); ok {
			p.start()
			p.mu.Unlock()
			p.signal()
			return pending, nil
		}
		space := p.space
		p.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return Pending{}, bus.Errorf(bus.CodeTimeout, "publish: too much is queued: %w", ctx.Err())
		}
	}
}

func (p *publisher) tryAdd(rec frame.Record) (Pending, bool) {
	if n := len(p.batches); n > 0 {
		if index, ok := p.batches[n-1].add(rec); ok {
			return Pending{p.batches[n-1], index}, true
		}
		if n >= maxBatches {
			return Pending{}, false
		}
	}
	b := newBatch()
	index, _ := b.add(rec) // a checked record fits an empty frame
	p.batches = append(p.batches, b)
	p.open[b] = struct{}{}
	return Pending{b, index}, true
}

// start runs the goroutine that sends, on first use.
func (p *publisher) start() {
	if !p.running {
		p.running = true
		p.room.client.spawn(p.run)
	}
}

func (p *publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next takes the first batch if it may leave while n frames are on their way.
func (p *publisher) next(n int) *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.batches) == 0 || n >= maxFlights {
		return nil
	}
	b := p.batches[0]
	if n >= eagerFlights && len(p.batches) == 1 && !b.full() {
		return nil
	}
	p.batches = slices.Delete(p.batches, 0, 1)
	close(p.space)
	p.space = make(chan struct{})
	return b
}

// settle gives a batch its outcome.
func (p *publisher) settle(b *batch, receipt Receipt, err error) {
	p.mu.Lock()
	delete(p.open, b)
	b.receipt, b.err = receipt, err
	if err != nil && len(p.failed) < maxFailed {
		p.failed = append(p.failed, b)
	}
	p.mu.Unlock()
	close(b.done)
}

func (p *publisher) flush(ctx context.Context) error {
	p.mu.Lock()
	waiting := make([]*batch, 0, len(p.open))
	for b := range p.open {
		waiting = append(waiting, b)
	}
	p.mu.Unlock()
	for _, b := range waiting {
		select {
		case <-b.done:
		case <-ctx.Done():
			return bus.Errorf(bus.CodeUnknownOutcome, "flush: gave up waiting: %w", ctx.Err())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	failed := p.failed
	p.failed = nil
	for _, b := range failed {
		if !b.seen.Load() {
			return b.outcome()
		}
	}
	return nil
}

// close takes nothing more. What has no outcome yet gets the one that is left,
// at once or, where frames are on their way, from the goroutine that sent them
// when the client's context has ended.
func (p *publisher) close(reason error) {
	p.mu.Lock()
	if p.closed == nil {
		p.closed = reason
	}
	running := p.running
	p.mu.Unlock()
	if !running {
		p.drop()
	}
}

// drop settles what is left once nothing is sent any more.
func (p *publisher) drop() {
	p.mu.Lock()
	if p.closed == nil {
		p.closed = p.room.client.closedErr()
	}
	reason := p.closed
	batches := p.batches
	p.batches = nil
	close(p.space)
	p.space = make(chan struct{})
	p.mu.Unlock()
	p.flights.dropAll(reason)
	for _, b := range batches {
		p.settle(b, Receipt{}, reason)
	}
}

// answer is news for run about the frames on their way.
type answer struct {
	kind   answerKind
	flight *flight // the one it is about, for ack
	ack    ack
	denied error     // for denied
	seq    bus.Seq   // for flushed: up to here
	conn   uint64    // for flushed: connections made until the flush returned
	err    error     // for flushed
	at     time.Time // for flushed: when the flush began
}

type answerKind int

const (
	answerAck       answerKind = iota // a server answered for a frame
	answerDenied                      // a server refused the subject, of which frame it does not say
	answerReconnect                   // a new connection is there, what was on the old one may be lost
	answerFlushed                     // what was sent to a live room has reached the server
)

func (p *publisher) answer(a answer) {
	p.mu.Lock()
	p.answers = append(p.answers, a)
	p.mu.Unlock()
	p.signal()
}

func (p *publisher) takeAnswers() []answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	answers := p.answers
	p.answers = nil
	return answers
}
