package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

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
	// maxSentEpochs is for how many epochs acknowledged messages are counted.
	maxSentEpochs = 64
)

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
	closed  error             // set once nothing more is taken
	failed  []*batch          // the first since the last flush
	sent    map[bus.Epoch]int // messages acknowledged, of the last maxSentEpochs

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
	p.spaceChanged()
	return b
}

// overdue takes the batches that waited too long to be sealed.
func (p *publisher) overdue(now time.Time) []*batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.batches) && now.Sub(p.batches[n].since) >= bus.PublishTimeout {
		n++
	}
	if n == 0 {
		return nil
	}
	late := slices.Clone(p.batches[:n])
	p.batches = slices.Delete(p.batches, 0, n)
	p.spaceChanged()
	return late
}

// settle gives a batch its outcome.
func (p *publisher) settle(b *batch, receipt Receipt, err error) {
	p.mu.Lock()
	delete(p.open, b)
	b.receipt, b.err = receipt, err
	if err != nil && len(p.failed) < maxFailed {
		p.failed = append(p.failed, b)
	}
	if err == nil {
		p.noteSent(receipt.Epoch, b.budget.Records())
	}
	p.mu.Unlock()
	close(b.done)
}

// noteSent counts acknowledged messages. The caller holds the lock.
func (p *publisher) noteSent(e bus.Epoch, n int) {
	if p.sent == nil {
		p.sent = map[bus.Epoch]int{}
	}
	p.sent[e] += n
	for old := range p.sent {
		if old+maxSentEpochs <= e {
			delete(p.sent, old)
		}
	}
}

// sentSince returns how many messages were acknowledged under an epoch and later
// ones, and forgets them.
func (p *publisher) sentSince(e bus.Epoch) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, sent := range p.sent {
		if at >= e {
			n += sent
			delete(p.sent, at)
		}
	}
	return n
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

// refuse takes nothing more, and has those who wait for room know.
func (p *publisher) refuse(reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == nil {
		p.closed = reason
		p.spaceChanged()
	}
}

// spaceChanged wakes those who wait for room. The caller holds p.mu.
func (p *publisher) spaceChanged() {
	close(p.space)
	p.space = make(chan struct{})
}

// close takes nothing more. What has no outcome yet gets the one that is left,
// at once or, where frames are on their way, from the goroutine that sent them
// when the client's context has ended.
func (p *publisher) close(reason error) {
	p.refuse(reason)
	p.mu.Lock()
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
	p.spaceChanged()
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
