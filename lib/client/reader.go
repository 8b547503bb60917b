package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// reader is one iteration over a room. Everything it does happens in the
// goroutine of the loop, but for fetching records, keys and cards.
type reader struct {
	room      *Room
	ctx       context.Context
	feed      *feed
	persisted bool
	stopAtEnd bool
	only      map[string]bool // tokens of the senders whose frames are counted; nil is all
	counted   *seenFrames     // what was counted, nil where frames are opened
	cursor    *Cursor         // nil where the place is not kept
	begun     *beginning      // nil where the past is read too

	view    view
	window  *frame.Window
	opener  *frame.Opener
	order   *frame.Order
	places  map[*frame.Opened]uint64 // stream places of what the order holds
	waiting frame.FetchQueue[waitingFrame]
	waits   map[sessionKey]bool // sessions with frames in waiting
	held    int                 // bytes in waiting
	stalled bool                // later frames wait too
	needs   needs               // of what is in waiting and not being fetched
	fetched chan error          // answers once while a fetch is under way, else nil
	covered int                 // frames in waiting whose needs are being fetched
	looked  time.Time           // when records were last looked for
	breaks  int                 // of a live room's feed, before the last frame
	resumed map[sessionKey]bool // sessions heard since the last break

	release func() // ends the feed
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
		needs:     newNeeds(),
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
		if since, ok := f.since(); ok {
			rd.begun = &beginning{at: since}
		}
	default:
		return nil, bus.Errorf(bus.CodeUsage, "read room %s: from nowhere", r.id)
	}
	if now {
		// Before the feed has its place: what is seen after that may be new here.
		rd.begun = &beginning{at: c.config.Now(), seen: r.seen.snapshot()}
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
	if rd.cursor != nil {
		rd.cursor.attend(rd.feed.signal)
		if now {
			rd.cursor.placed(rd.feed.origin)
		}
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
	return bus.Errorf(bus.CodeNotMember, "read room %s: no longer a member since epoch %d", r.id, r.Epoch())
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
		retryAt, ok := rd.handAgain(yield)
		if !ok {
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
		if !held || retryAt.Before(at) {
			at = retryAt
		}
		timer.Reset(time.Until(at))
		select {
		case <-rd.ctx.Done():
		case <-rd.room.client.ctx.Done():
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
	if err := rd.room.client.alive(); err != nil {
		return err
	}
	head, _, _ := rd.room.model.current()
	if _, member := head.Member(rd.room.client.id); !member {
		return rd.room.notMember()
	}
	if head.Policy.Persisted() != rd.persisted {
		return bus.Errorf(bus.CodePolicy, "read room %s: epoch %d changes whether it is stored; read it again", rd.room.id, head.Epoch)
	}
	return nil
}

// handAgain hands out what is to be handed out again by now. It returns when to
// look again, and false where the loop broke.
func (rd *reader) handAgain(yield func(*Message, error) bool) (at time.Time, ok bool) {
	now := time.Now()
	at = now.Add(time.Hour)
	if rd.cursor == nil {
		return at, true
	}
	msgs, next, waits := rd.cursor.due(now)
	for _, m := range msgs {
		if !yield(m, nil) {
			return at, false
		}
	}
	if waits && next.Before(at) {
		at = next
	}
	return at, true
}

// next takes a frame from the feed, unless too many wait to be opened or to be
// acknowledged.
func (rd *reader) next() (raw rawFrame, ok, atEnd bool, err error) {
	if rd.cursor != nil && rd.cursor.crowded() {
		return raw, false, false, nil
	}
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
	w := waitingFrame{rawFrame: raw, header: h}
	if err := rd.misdirected(&w); err != nil {
		return rd.refuse(raw, &h, err, yield)
	}
	ok := rd.try(w, yield)
	rd.startFetch()
	return ok
}

// try opens a frame, or has it wait for what it needs.
func (rd *reader) try(w waitingFrame, yield func(*Message, error) bool) bool {
	rd.view.mu.RLock()
	need, foreign := rd.view.missingFor(&w.header, rd.counted != nil)
	key := sessionKey{w.header.Sender, w.header.Session}
	if foreign {
		rd.view.mu.RUnlock()
		rd.skip(w.rawFrame)
		return true
	}
	lacks := need.any()
	if need = need.without(w.had); (need.any() || rd.waits[key] || rd.stalled) && rd.wait(w, need) {
		rd.view.mu.RUnlock()
		return true
	}
	if rd.counted != nil {
		err := rd.count(&w)
		rd.view.mu.RUnlock()
		return err == nil || rd.refuse(w.rawFrame, &w.header, err, yield)
	}
	opened, err := rd.open(w)
	rd.view.mu.RUnlock()
	if err == nil {
		err = rd.begun.check(opened)
	}
	if err != nil && lacks && w.err != nil {
		err = w.err // why it cannot be opened
	}
	switch {
	case errors.Is(err, frame.ErrDuplicate), err != nil && rd.cursor != nil && rd.cursor.expects(w.streamSeq, err):
		rd.skip(w.rawFrame)
		return true
	case err != nil:
		if fork := rd.room.model.forked(err); fork != nil {
			// It may be of the branch that an owner will keep: it is not passed.
			yield(nil, fork)
			return false
		}
		return rd.refuse(w.rawFrame, &w.header, err, yield)
	}
	rd.room.seen.note(&w.header)
	rd.places[opened] = w.streamSeq
	if rd.cursor != nil && rd.cursor.found(&w.header) {
		return rd.hand([]frame.Delivery{{Frame: opened, Late: true}}, yield)
	}
	ready := rd.order.Push(opened, time.Now())
	if rd.missed(key, w.rawFrame) {
		ready = append(ready, rd.order.Flush()...)
	}
	return rd.hand(ready, yield)
}

// missed reports whether what is missing of a live room's session before a frame
// is sure not to come any more: the connection was away, or this reader too slow,
// since the session was last heard.
func (rd *reader) missed(key sessionKey, raw rawFrame) bool {
	if raw.breaks > rd.breaks {
		rd.breaks, rd.resumed = raw.breaks, map[sessionKey]bool{}
	}
	if raw.breaks == 0 || raw.breaks < rd.breaks || rd.resumed[key] {
		return false
	}
	if len(rd.resumed) >= bus.WindowHeights {
		clear(rd.resumed)
	}
	rd.resumed[key] = true
	return true
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

// refuse tells that a frame failed a check.
func (rd *reader) refuse(raw rawFrame, h *frame.Header, err error, yield func(*Message, error) bool) bool {
	if e, ok := errors.AsType[*frame.EquivocationError](err); ok {
		rd.room.client.keepEquivocation(h, &e.Proof)
	}
	rd.room.client.refusals.note(err)
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
			rd.room.client.refusals.note(gap)
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
