package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

const (
	// fetchPause is the least time between two looks for the record of an epoch
	// that a frame names: anybody can name epochs that do not exist.
	fetchPause = 250 * time.Millisecond
	// fetchTries is how often a frame may wait for something else that is missing.
	fetchTries = 3
)

// reader is one iteration over a room. Everything it does happens in the
// goroutine of the loop, but for fetching records, keys and cards.
type reader struct {
	room      *Room
	ctx       context.Context
	feed      *feed
	persisted bool
	stopAtEnd bool
	only      map[string]bool // tokens of the senders that count; nil is all
	cursor    *Cursor         // nil where the place is not kept

	view    view
	window  *frame.Window
	opener  *frame.Opener
	order   *frame.Order
	places  map[*frame.Opened]uint64 // stream places of what the order holds
	waiting frame.FetchQueue[waitingFrame]
	waits   map[sessionKey]bool // sessions with frames in waiting
	held    int                 // bytes in waiting
	stalled bool                // later frames wait too
	fetched chan error          // answers once while a fetch is under way, else nil
	looked  time.Time           // when records were last looked for

	release func() // ends the feed
}

// waitingFrame is a frame that cannot be opened yet.
type waitingFrame struct {
	rawFrame
	header frame.Header
	tries  int
}

// newReader begins to read.
func (r *Room) newReader(ctx context.Context, from From) (*reader, error) {
	c := r.client
	if err := c.alive(); err != nil {
		return nil, err
	}
	head, _, _ := r.model.current()
	if _, member := head.Member(c.id); !member {
		return nil, r.notMember()
	}
	rd := &reader{
		room:      r,
		ctx:       ctx,
		persisted: head.Policy.Persisted(),
		view:      view{r.model, &c.signers},
		places:    map[*frame.Opened]uint64{},
		waits:     map[sessionKey]bool{},
	}
	var heights []frame.Height
	var start uint64
	now := false
	switch f := from.(type) {
	case Origin:
		now, rd.stopAtEnd = f == Now, f == Stored
	case *Cursor:
		if f.room != r {
			return nil, bus.Errorf(bus.CodeUsage, "read room %s: the cursor is of room %s", r.id, f.room.id)
		}
		var err error
		if start, heights, now, err = f.begin(); err != nil {
			return nil, err
		}
		rd.cursor = f
	default:
		return nil, bus.Errorf(bus.CodeUsage, "read room %s: from nowhere", r.id)
	}
	rd.window = frame.NewWindow(heights)
	rd.opener = frame.NewOpener(rd.view, rd.window, c.config.Now)
	rd.order = frame.NewOrder(heights)
	if err := rd.connect(start, now); err != nil {
		if rd.cursor != nil {
			rd.cursor.end()
		}
		return nil, err
	}
	return rd, nil
}

// connect begins the feed, which ends with the context at the latest.
func (rd *reader) connect(start uint64, now bool) (err error) {
	r, c := rd.room, rd.room.client
	remove := c.follower.remove
	switch {
	case rd.persisted:
		rd.feed, err = c.follower.add(rd.ctx, r.id, start, now)
	case !now:
		return bus.Errorf(bus.CodePolicy, "read room %s: it stores nothing, so it can be read from now on only", r.id)
	default:
		rd.feed, err = r.live.add(rd.ctx)
		remove = r.live.remove
	}
	if err != nil {
		return err
	}
	if rd.cursor != nil && now {
		rd.cursor.placed(rd.feed.origin)
	}
	end := sync.OnceFunc(func() {
		remove(rd.feed)
		if rd.cursor != nil {
			rd.cursor.end()
		}
	})
	stop := context.AfterFunc(rd.ctx, end)
	rd.release = func() { stop(); end() }
	return nil
}

func (r *Room) notMember() error {
	return bus.Errorf(bus.CodeNotMember, "read room %s: this client is no member since epoch %d", r.id, r.Epoch())
}

// run hands out what comes until the loop breaks or nothing more can come.
func (rd *reader) run(yield func(*Message, error) bool) {
	defer rd.release()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for rd.ctx.Err() == nil {
		_, _, moved := rd.room.model.current()
		if err := rd.ended(); err != nil {
			yield(nil, err)
			return
		}
		if !rd.collect(yield) || !rd.hand(rd.order.Tick(time.Now()), yield) {
			return
		}
		raw, ok, atEnd, err := rd.next()
		switch {
		case ok:
			if !rd.accept(raw, yield) {
				return
			}
			continue
		case err != nil:
			yield(nil, err)
			return
		case rd.stopAtEnd && atEnd && rd.fetched == nil:
			rd.hand(rd.order.Flush(), yield)
			return
		}
		at, held := rd.order.Deadline()
		if !held {
			at = time.Now().Add(time.Hour)
		}
		timer.Reset(time.Until(at))
		select {
		case <-rd.ctx.Done():
		case <-rd.feed.wake:
		case <-moved:
		case <-timer.C:
		case err := <-rd.fetched:
			if !rd.retry(err, yield) {
				return
			}
		}
	}
}

// ended returns why nothing more may be read, if so.
func (rd *reader) ended() error {
	head, _, _ := rd.room.model.current()
	if _, member := head.Member(rd.room.client.id); !member {
		return rd.room.notMember()
	}
	if head.Policy.Persisted() != rd.persisted {
		return bus.Errorf(bus.CodePolicy, "read room %s: epoch %d changes whether it is stored; read it again", rd.room.id, head.Epoch)
	}
	return nil
}

// next takes a frame from the feed, unless too many wait to be opened.
func (rd *reader) next() (raw rawFrame, ok, atEnd bool, err error) {
	if rd.waiting.Len() >= bus.FetchQueueFrames || rd.held > bus.FetchQueueBytes-bus.MaxFrameSize {
		return raw, false, false, nil
	}
	return rd.feed.take()
}

// collect takes in a fetch that is over without waiting for one.
func (rd *reader) collect(yield func(*Message, error) bool) bool {
	select {
	case err := <-rd.fetched:
		return rd.retry(err, yield)
	default:
		return true
	}
}

// accept takes one frame as it came.
func (rd *reader) accept(raw rawFrame, yield func(*Message, error) bool) bool {
	if rd.cursor != nil {
		rd.cursor.take(raw.streamSeq)
	}
	if rd.only != nil && !rd.only[raw.sender] {
		return true
	}
	h, err := frame.ParseHeader(raw.data)
	if err != nil {
		return rd.refuse(raw, &h, err, yield)
	}
	return rd.try(waitingFrame{rawFrame: raw, header: h}, yield)
}

// try opens a frame, or has it wait for what it needs.
func (rd *reader) try(w waitingFrame, yield func(*Message, error) bool) bool {
	rd.view.mu.RLock()
	need, foreign := rd.view.missingFor(&w.header, rd.room.client.id)
	key := sessionKey{w.header.Sender, w.header.Session}
	if foreign {
		rd.view.mu.RUnlock()
		rd.skip(w.rawFrame)
		return true
	}
	if (need.any() && w.tries < fetchTries || rd.waits[key] || rd.stalled) && rd.wait(w, need) {
		rd.view.mu.RUnlock()
		return true
	}
	opened, err := rd.open(w)
	rd.view.mu.RUnlock()
	switch {
	case errors.Is(err, frame.ErrDuplicate), err != nil && rd.cursor != nil && rd.cursor.expects(w.streamSeq, err):
		rd.skip(w.rawFrame)
		return true
	case err != nil:
		return rd.refuse(w.rawFrame, &w.header, err, yield)
	}
	if !rd.persisted {
		rd.room.live.note(&w.header)
	}
	rd.places[opened] = w.streamSeq
	if rd.cursor != nil && rd.cursor.found(&w.header) {
		return rd.hand([]frame.Delivery{{Frame: opened, Late: true}}, yield)
	}
	return rd.hand(rd.order.Push(opened, time.Now()), yield)
}

// open opens a frame under the model's read lock. A frame that was given up in
// an earlier run, which the window no longer tells from a replay, has a window
// of its own.
func (rd *reader) open(w waitingFrame) (*frame.Opened, error) {
	opener := rd.opener
	if rd.cursor != nil && rd.cursor.misses(&w.header) {
		opener = frame.NewOpener(rd.view, frame.NewWindow(nil), rd.room.client.config.Now)
	}
	return opener.Open(rd.room.id.Token(), w.sender, w.data)
}

// wait puts a frame aside until what it needs was fetched, and starts the
// fetch. It is false where there is no room for it.
func (rd *reader) wait(w waitingFrame, need missing) bool {
	w.tries++
	if !rd.waiting.Add(w, len(w.data)) {
		return false
	}
	rd.waits[sessionKey{w.header.Sender, w.header.Session}] = true
	rd.held += len(w.data)
	// What a member is sure to have is fetched in no time, and members then all
	// read a room in one order. An epoch that nobody has seen may be invented.
	rd.stalled = rd.stalled || need.key || need.sender
	if rd.fetched != nil {
		return true // it is looked at again when that is over
	}
	fetched := make(chan error, 1)
	rd.fetched = fetched
	pause := time.Duration(0)
	if need.record {
		pause = max(0, fetchPause-time.Since(rd.looked))
		rd.looked = time.Now().Add(pause)
	}
	h := w.header
	rd.room.client.spawn(func() {
		err := context.Cause(rd.ctx)
		if pause == 0 || sleep(rd.ctx, pause) {
			err = rd.room.fetch(rd.ctx, &h, need)
		}
		fetched <- err
	})
	return true
}

// fetch gets what a frame needs.
func (r *Room) fetch(ctx context.Context, h *frame.Header, need missing) error {
	if need.record {
		if err := r.syncTo(ctx, h.Epoch); err != nil {
			return err
		}
	}
	if need.key {
		if err := r.openEarlier(ctx, h.Epoch); err != nil {
			return err
		}
	}
	if need.sender {
		if rec := r.model.at(h.Epoch); rec != nil {
			if m, ok := rec.Member(h.Sender); ok {
				return r.client.learnSigner(ctx, m.ID, m.CardHash)
			}
		}
	}
	return nil
}

// retry looks again at the frames that waited. Where the servers could not be
// reached they go on waiting; any other failure is told.
func (rd *reader) retry(err error, yield func(*Message, error) bool) bool {
	rd.fetched = nil
	clear(rd.waits)
	rd.held, rd.stalled = 0, false
	frames := rd.waiting.Take()
	code := bus.CodeOf(err)
	unreached := code == bus.CodeUnavailable || code == bus.CodeTimeout || code == bus.CodeRateLimited
	if err != nil && !unreached && rd.ctx.Err() == nil && !yield(nil, &FrameError{
		Room: rd.room.id, Sender: frames[0].header.Sender, Session: frames[0].header.Session,
		Seq: frames[0].header.Seq, StreamSeq: frames[0].streamSeq, Err: err,
	}) {
		return false
	}
	for i, w := range frames {
		switch {
		case unreached:
			w.tries--
		case err != nil && i == 0:
			rd.skip(w.rawFrame) // told already
			continue
		case err != nil:
			w.tries = fetchTries
		}
		if !rd.try(w, yield) {
			return false
		}
	}
	return true
}

// refuse tells that a frame failed a check.
func (rd *reader) refuse(raw rawFrame, h *frame.Header, err error, yield func(*Message, error) bool) bool {
	if e, ok := errors.AsType[*frame.EquivocationError](err); ok {
		rd.room.client.keepProof("equivocation", e.Proof.Bytes())
	}
	rd.skip(raw)
	return yield(nil, &FrameError{Room: rd.room.id, Sender: h.Sender, Session: h.Session, Seq: h.Seq, StreamSeq: raw.streamSeq, Err: err})
}

// skip is done with a frame without delivering it.
func (rd *reader) skip(raw rawFrame) {
	if rd.cursor != nil {
		rd.cursor.skip(raw.streamSeq)
	}
}

// hand delivers frames and gaps to the loop.
func (rd *reader) hand(deliveries []frame.Delivery, yield func(*Message, error) bool) bool {
	for _, d := range deliveries {
		if d.Gap != nil {
			if rd.cursor != nil {
				rd.cursor.miss(d.Gap)
			}
			gap := &GapError{Room: rd.room.id, Sender: d.Gap.Sender, Session: d.Gap.Session, From: d.Gap.From, To: d.Gap.To}
			if !yield(nil, gap) {
				return false
			}
			continue
		}
		place := rd.places[d.Frame]
		delete(rd.places, d.Frame)
		msgs := rd.messages(d, place)
		if rd.cursor != nil {
			msgs = rd.cursor.deliver(msgs)
		}
		for i := range msgs {
			if !yield(&msgs[i], nil) {
				return false
			}
		}
	}
	return true
}

// heightsOf returns how far the sessions of senders have come, by reading what
// is stored.
func (r *Room) heightsOf(ctx context.Context, persisted bool, senders map[bus.ID]bool) ([]frame.Height, error) {
	if !persisted {
		return r.live.heights(senders), nil
	}
	rd, err := r.newReader(ctx, Stored)
	if err != nil {
		return nil, err
	}
	rd.only = map[string]bool{}
	for id := range senders {
		rd.only[id.Token()] = true
	}
	var failed error
	rd.run(func(_ *Message, err error) bool {
		switch err.(type) {
		case nil, *GapError, *FrameError:
			return true // what fails a check counts for nobody
		}
		failed = err
		return false
	})
	if failed == nil && ctx.Err() != nil {
		failed = bus.Errorf(bus.CodeTimeout, "read room %s: %w", r.id, ctx.Err())
	}
	if failed != nil {
		return nil, failed
	}
	return slices.DeleteFunc(rd.window.Heights(), func(h frame.Height) bool { return !senders[h.Sender] }), nil
}
