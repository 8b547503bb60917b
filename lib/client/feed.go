package client

import (
	"slices"
	"sync"

	"github.com/enmanuel/unibus/lib/bus"
)

// limits bound what a client keeps of a room for a reader that takes its time.
type limits struct {
	frames int // that wait, of a persisted room; at least 4
	bytes  int // of them
	live   int // bytes of a live room's, which cannot be fetched again
}

// defaultLimits are those of every client outside of tests.
var defaultLimits = limits{frames: 1024, bytes: 8 << 20, live: 64 << 20}

// catchUp returns how many frames and bytes one fetch of a catch-up may bring. A
// feed has room for both while it is half empty.
func (l limits) catchUp() (frames, bytes int) { return l.frames / 4, l.bytes / 2 }

// rawFrame is a frame as it came, with nothing checked.
type rawFrame struct {
	sender    string // token of its subject
	data      []byte
	streamSeq uint64 // 0 in live rooms
	breaks    int    // how often frames of a live room may have been missed before it
}

// shareFrame offers a frame to several readers. Opening one uses up its bytes,
// and a reader may open it as soon as it has it: all but the last get copies.
func shareFrame(raw rawFrame, readers []*feed, offer func(*feed, rawFrame)) {
	for i, f := range readers {
		each := raw
		if i < len(readers)-1 {
			each.data = slices.Clone(raw.data)
		}
		offer(f, each)
	}
}

// frameQueue is a bounded row of frames.
type frameQueue struct {
	limits limits
	frames []rawFrame
	bytes  int
}

// add takes a frame if there is room.
func (q *frameQueue) add(f rawFrame) bool {
	if len(q.frames) >= q.limits.frames || q.bytes+len(f.data) > q.limits.bytes && len(q.frames) > 0 {
		return false
	}
	q.put(f)
	return true
}

func (q *frameQueue) put(f rawFrame) {
	q.frames = append(q.frames, f)
	q.bytes += len(f.data)
}

func (q *frameQueue) take() (rawFrame, bool) {
	if len(q.frames) == 0 {
		return rawFrame{}, false
	}
	f := q.frames[0]
	q.frames[0] = rawFrame{}
	q.frames = q.frames[1:]
	q.bytes -= len(f.data)
	return f, true
}

// half reports whether at most half of the room is used.
func (q *frameQueue) half() bool {
	return len(q.frames) <= q.limits.frames/2 && q.bytes <= q.limits.bytes/2
}

// feedMode says where a feed's frames come from.
type feedMode int

const (
	// feedStarting: its place is not known yet. What the tail brings is held.
	feedStarting feedMode = iota
	// feedFollowing: the tail brings the frames.
	feedFollowing
	// feedBehind: it waits for a catch-up, because it starts in the past or its
	// reader was too slow for the tail. What the tail brings is held.
	feedBehind
	// feedCatching: a catch-up brings the frames. What the tail brings is held.
	feedCatching
)

// feed gives the frames of one room to one reader, in the order of the stream
// and without holes: from the tail that all rooms of a shard share while the
// reader keeps up, and from a catch-up of its own, which waits for the reader,
// while it does not. It has no goroutine.
//
// Frames that the tail brings during a catch-up are held. Where that becomes
// too much they are dropped, and the catch-up reads on until it has brought
// them. A live room's feed only follows, and drops what its reader is too slow
// for, which shows as a gap.
type feed struct {
	room   bus.RoomID
	behind func() // tells the follower that the feed is behind, or ready for more

	mu      sync.Mutex
	mode    feedMode
	pos     uint64 // all frames of the room up to here are in the queue, or were
	origin  uint64 // pos at first
	queue   frameQueue
	held    frameQueue
	dropped uint64 // place of the last frame that was dropped
	end     uint64 // place up to which a reader that stops at the end reads
	breaks  int    // how often a live room's frames may have been missed
	err     error  // why nothing more comes
	wake    chan struct{}
}

func newFeed(room bus.RoomID, l limits, behind func()) *feed {
	return &feed{
		room: room, behind: behind, wake: make(chan struct{}, 1),
		queue: frameQueue{limits: l}, held: frameQueue{limits: l},
	}
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// place begins a feed after a place in the stream that the tail goes on from:
// pos is where the reader wants to begin.
func (f *feed) place(pos, tail uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pos, f.origin = pos, pos
	f.end = tail
	f.mode = feedBehind
	if pos >= tail {
		f.catchUp()
	}
	f.signal()
}

// rewind takes in that the stream now ends at a place before the feed's.
func (f *feed) rewind(end uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pos, f.dropped = min(f.pos, end), min(f.dropped, end)
}

// offerTail takes a frame that the tail brought.
func (f *feed) offerTail(raw rawFrame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil || f.mode != feedStarting && raw.streamSeq <= f.pos:
	case f.mode == feedFollowing && f.push(raw):
	case f.mode == feedFollowing:
		f.dropped, f.mode = raw.streamSeq, feedBehind
		f.behind()
	case !f.held.add(raw):
		f.held = frameQueue{limits: f.held.limits}
		f.dropped = raw.streamSeq
	}
}

// push queues a frame for the reader.
func (f *feed) push(raw rawFrame) bool {
	if !f.queue.add(raw) {
		return false
	}
	f.pos = raw.streamSeq
	f.signal()
	return true
}

// offerPast takes a frame that the catch-up brought. last is the room's last
// frame when the catch-up began. done says that the tail goes on from here, or
// that the catch-up is of no use any more.
func (f *feed) offerPast(raw rawFrame, last uint64) (done bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != feedCatching {
		return true
	}
	if raw.streamSeq > f.pos && !f.push(raw) {
		// More came than was asked for.
		f.mode = feedBehind
		return true
	}
	return f.pos >= last && f.catchUp()
}

// catchUp goes over to the tail if nothing lies between.
func (f *feed) catchUp() bool {
	if f.pos < f.dropped {
		return false
	}
	f.mode = feedFollowing
	for raw, ok := f.held.take(); ok; raw, ok = f.held.take() {
		if raw.streamSeq <= f.pos {
			continue
		}
		if !f.push(raw) {
			// The reader is too slow again. The rest is for another catch-up.
			for ; ok; raw, ok = f.held.take() {
				f.dropped = raw.streamSeq
			}
			f.mode = feedBehind
			f.behind()
			return true
		}
	}
	f.held = frameQueue{limits: f.held.limits}
	f.signal()
	return true
}

// beginPast returns where a catch-up is to begin, and the last frame that the
// tail brought in vain so far. ok is false for a feed that needs no catch-up, or
// whose reader has too much already.
func (f *feed) beginPast() (from, dropped uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != feedBehind || f.err != nil || !f.queue.half() {
		return 0, 0, false
	}
	return f.pos + 1, f.dropped, true
}

// catching makes the feed one that a catch-up serves. last is the room's last
// frame, asked for when dropped was what beginPast returned. needed is false
// where there is nothing to catch up with.
func (f *feed) catching(last, dropped uint64) (needed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != feedBehind {
		return false
	}
	if last <= f.pos {
		// Dropped frames that lie behind the last one are not stored any more.
		if f.dropped == dropped {
			f.dropped = 0
		}
		f.catchUp()
		return false
	}
	f.mode = feedCatching
	return true
}

// lostPast takes in that the catch-up was lost, or taken away.
func (f *feed) lostPast() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == feedCatching {
		f.mode = feedBehind
	}
}

// wants reports whether a catch-up may bring more now.
func (f *feed) wants() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mode == feedCatching && f.queue.half()
}

// offerLive takes a frame of a live room, or drops it.
func (f *feed) offerLive(raw rawFrame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
	case f.queue.bytes+len(raw.data) > f.queue.limits.live:
		f.breaks++
	default:
		raw.breaks = f.breaks
		f.queue.put(raw)
		f.signal()
	}
}

// broke takes in that frames of a live room may have been missed.
func (f *feed) broke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.breaks++
	f.signal()
}

// stop ends the feed: the reader gets what is queued and then err.
func (f *feed) stop(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.held = frameQueue{limits: f.held.limits}
	f.signal()
}

// take returns the next frame. Without one, err says why none will come, and
// ended that all frames are taken that were stored when the feed began.
func (f *feed) take() (raw rawFrame, ok, ended bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	full := !f.queue.half()
	raw, ok = f.queue.take()
	if ok {
		if full && f.queue.half() && (f.mode == feedBehind || f.mode == feedCatching) {
			f.behind()
		}
		return raw, true, false, nil
	}
	return raw, false, f.mode == feedFollowing || f.mode != feedStarting && f.pos >= f.end, f.err
}
