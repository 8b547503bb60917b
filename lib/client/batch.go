package client

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
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

// sealed gives the batch's buffers back. Doing so again changes nothing.
func (b *batch) sealed() {
	if b.recs == nil {
		return
	}
	clear(b.recs)
	arenas.Put(&batchBuffers{recs: b.recs, arena: b.arena})
	b.recs, b.arena = nil, nil
}
