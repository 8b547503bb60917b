package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// tailBatch is how many frames of a shard are asked for ahead.
	tailBatch = 256
	// followPause bounds the pause after the control plane refused the cursors.
	followPauseMax = 2 * time.Second
)

// follower keeps the consumers of the client's readers of persisted rooms: one
// tail for each shard with all of its rooms, and up to [bus.CatchUpSlots]
// catch-ups. Whenever one is lost, it has it made again from the place after
// the last frame that came.
type follower struct {
	client *Client
	wake   chan struct{}

	mu      sync.Mutex
	running bool
	shards  [bus.Shards]shardTail
	slots   [bus.CatchUpSlots]slot
}

// shardTail is what follows the rooms of one shard.
type shardTail struct {
	feeds  []*follow
	pull   *pull
	rooms  []bus.RoomID // the consumer's, in ascending order
	pos    uint64       // place of the last frame that came
	placed bool         // pos says something
}

// follow is a reader's wish to follow a room.
type follow struct {
	*feed
	token string        // of the room
	start uint64        // place to begin after, where fromNow is not set
	now   bool          // begin after what is stored now
	ready chan struct{} // closed when the feed has its place, or failed
	since time.Time
}

func newFollower(c *Client) *follower {
	return &follower{client: c, wake: make(chan struct{}, 1)}
}

func (f *follower) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// add begins to follow a room, after the place start or after what is stored
// now, and returns when everything later is sure to come.
func (f *follower) add(ctx context.Context, room bus.RoomID, start uint64, now bool) (*feed, error) {
	w := &follow{feed: newFeed(room, f.client.limits, f.signal), token: room.Token(), start: start, now: now, ready: make(chan struct{}), since: time.Now()}
	f.mu.Lock()
	s := &f.shards[bus.Shard(room)]
	s.feeds = append(s.feeds, w)
	if !f.running {
		f.running = true
		f.client.spawn(f.run)
	}
	f.mu.Unlock()
	f.signal()
	select {
	case <-w.ready:
	case <-ctx.Done():
		w.stop(bus.Errorf(bus.CodeTimeout, "follow room %s: %w", room, ctx.Err()))
	case <-f.client.ctx.Done():
		w.stop(f.client.closedErr())
	}
	if err := w.failed(); err != nil {
		f.remove(w.feed)
		return nil, err
	}
	return w.feed, nil
}

// failed returns why the feed was stopped.
func (f *feed) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// remove stops following for one reader.
func (f *follower) remove(gone *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.shards[bus.Shard(gone.room)]
	s.feeds = slices.DeleteFunc(s.feeds, func(w *follow) bool { return w.feed == gone })
	if len(s.feeds) == 0 {
		// The consumer ends by itself when nobody fetches from it.
		if s.pull != nil {
			s.pull.close()
		}
		*s = shardTail{}
	}
	for i := range f.slots {
		if f.slots[i].feed == gone {
			f.free(&f.slots[i])
		}
	}
	f.signal()
}

// reconnected has everything made again: what was on its way is lost.
func (f *follower) reconnected() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.shards {
		if p := f.shards[i].pull; p != nil {
			p.close()
			f.shards[i].pull = nil
		}
	}
	for i := range f.slots {
		if f.slots[i].feed != nil {
			f.free(&f.slots[i])
		}
	}
	f.signal()
}

// run keeps consumers as they should be until the client ends.
func (f *follower) run() {
	c := f.client
	defer f.stopAll()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	pause := controlFirstPause
	for {
		req := f.plan()
		if req == nil {
			select {
			case <-c.ctx.Done():
				return
			case <-f.wake:
			case <-tick.C:
				f.check(time.Now())
			}
			continue
		}
		var reply api.CursorReply
		err := c.control.call(c.ctx, http.MethodPost, api.CursorsPath(), req.CursorRequest, &reply)
		if err == nil {
			err = f.apply(req, reply)
		}
		if c.ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = controlFirstPause
			continue
		}
		f.refused(req, err)
		if !sleep(c.ctx, pause/2+rand.N(pause/2)) {
			return
		}
		pause = min(2*pause, followPauseMax)
	}
}

// stopAll ends every feed.
func (f *follower) stopAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	reason := f.client.closedErr()
	for i := range f.shards {
		for _, w := range f.shards[i].feeds {
			w.stop(reason)
		}
		if p := f.shards[i].pull; p != nil {
			p.close()
		}
	}
	for i := range f.slots {
		if p := f.slots[i].pull; p != nil {
			p.close()
		}
	}
}

// check looks after consumers that have fallen silent.
func (f *follower) check(now time.Time) {
	f.mu.Lock()
	var pulls []*pull
	for i := range f.shards {
		if p := f.shards[i].pull; p != nil {
			pulls = append(pulls, p)
		}
	}
	for i := range f.slots {
		if p := f.slots[i].pull; p != nil {
			pulls = append(pulls, p)
		}
	}
	f.mu.Unlock()
	for _, p := range pulls {
		p.check(now)
	}
}

// request is a request for consumers and what it is to serve.
type request struct {
	api.CursorRequest
	catchUps []pastRequest // as CatchUp, in the same order
}

type pastRequest struct {
	feed    *feed
	dropped uint64
}

// plan returns the request that brings consumers nearer to what readers need,
// nil where nothing is missing. Tails come first: a catch-up must be made after
// the tail that goes on from it.
func (f *follower) plan() *request {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.client.online() {
		return nil
	}
	req := &request{CursorRequest: api.CursorRequest{Session: f.client.session}}
	for i := range f.shards {
		if t, needed := f.shards[i].plan(i); needed {
			req.Tail = append(req.Tail, t)
		}
	}
	if len(req.Tail) > 0 {
		return req
	}
	f.planCatchUps(req)
	if len(req.CatchUp) > 0 {
		return req
	}
	return nil
}

func (s *shardTail) plan(shard int) (t api.TailShard, needed bool) {
	if len(s.feeds) == 0 {
		return t, false
	}
	var rooms []bus.RoomID
	for _, w := range s.feeds {
		rooms = append(rooms, w.room)
	}
	slices.SortFunc(rooms, func(a, b bus.RoomID) int { return slices.Compare(a[:], b[:]) })
	rooms = slices.Compact(rooms)
	starting := slices.ContainsFunc(s.feeds, func(w *follow) bool { return !w.isPlaced() })
	if s.pull != nil && !starting && !slices.ContainsFunc(rooms, func(r bus.RoomID) bool { return !slices.Contains(s.rooms, r) }) {
		return t, false
	}
	t = api.TailShard{Shard: shard, Rooms: rooms, Keep: s.pull != nil}
	if s.placed {
		t.From = s.pos + 1
	}
	return t, true
}

func (w *follow) isPlaced() bool {
	select {
	case <-w.ready:
		return true
	default:
		return false
	}
}

// apply takes over the consumers that the control plane made.
func (f *follower) apply(req *request, reply api.CursorReply) error {
	if len(reply.Tail) != len(req.Tail) || len(reply.CatchUp) != len(req.CatchUp) {
		return bus.Errorf(bus.CodeMalformed, "make cursors: the server answered another question")
	}
	for i, t := range reply.Tail {
		if err := f.applyTail(req.Tail[i], t); err != nil {
			return err
		}
	}
	for i, u := range reply.CatchUp {
		if err := f.applyCatchUp(req.CatchUp[i], req.catchUps[i], u); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) applyTail(asked api.TailShard, got api.TailConsumer) error {
	c := f.client
	if got.Shard != asked.Shard || got.Stream != bus.Stream(asked.Shard) || got.Consumer != bus.TailConsumer(c.id, c.session) {
		return bus.Errorf(bus.CodeMalformed, "make cursors: the server names consumer %.80q of %.80q for shard %d", got.Consumer, got.Stream, asked.Shard)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.shards[asked.Shard]
	if len(s.feeds) == 0 {
		return nil
	}
	switch {
	case !s.placed:
		s.pos, s.placed = got.Last, true
	case got.Last < s.pos:
		f.rolledBack(got, s.pos)
		s.pos = got.Last
		for _, w := range s.feeds {
			w.rewind(got.Last)
		}
	}
	if s.pull == nil || !got.Kept {
		if s.pull != nil {
			s.pull.close()
		}
		if err := f.openTail(s, got); err != nil {
			return err
		}
	}
	s.rooms = asked.Rooms
	for _, w := range s.feeds {
		if w.isPlaced() || !slices.Contains(s.rooms, w.room) {
			continue
		}
		start := w.start
		if w.now {
			start = got.Last
		}
		if start > got.Last {
			f.rolledBack(got, start)
			start = got.Last
		}
		w.place(start, got.Last)
		close(w.ready)
	}
	return nil
}

// rolledBack tells that a stream ends before a frame that had come from it.
// What is stored there from now on is read all the same.
func (f *follower) rolledBack(got api.TailConsumer, had uint64) {
	err := bus.Errorf(bus.CodeRollback, "make cursors: stream %s ends at %d, frame %d had come", got.Stream, got.Last, had)
	f.client.events.raise(EventSecurity, bus.RoomID{}, err, "")
}

// openTail starts to fetch from a shard's consumer. The caller holds f.mu.
func (f *follower) openTail(s *shardTail, got api.TailConsumer) error {
	p := &pull{client: f.client}
	p.frame = func(room string, raw rawFrame) { f.tailFrame(s, p, room, raw) }
	p.idle = func(bool) { p.fetch(tailBatch) }
	p.lost = func(err error) {
		f.client.log.Debug("client", "tail", got.Stream, "err", err)
		f.mu.Lock()
		defer f.mu.Unlock()
		if s.pull == p {
			s.pull = nil
			f.signal()
		}
	}
	if err := p.open(got.Stream, got.Consumer); err != nil {
		s.pull = nil
		return err
	}
	s.pull = p
	p.fetch(tailBatch)
	return nil
}

// tailFrame hands a frame to the readers of its room. They get it before any
// later consumer of the shard can bring the next, hence the lock.
func (f *follower) tailFrame(s *shardTail, p *pull, room string, raw rawFrame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.pull != p || raw.streamSeq <= s.pos {
		return
	}
	s.pos = raw.streamSeq
	var readers []*feed
	for _, w := range s.feeds {
		if w.token == room {
			readers = append(readers, w.feed)
		}
	}
	shareFrame(raw, readers, (*feed).offerTail)
	if p.pending() == tailBatch/2 {
		p.fetch(tailBatch / 2)
	}
}

// refused deals with a request that the control plane did not carry out. A
// room that this client has lost is the end of its feeds; for one that the
// servers have not heard of yet it is too early.
func (f *follower) refused(req *request, err error) {
	c := f.client
	c.log.Warn("client", "cursors", err)
	switch bus.CodeOf(err) {
	case bus.CodeUnavailable, bus.CodeTimeout, bus.CodeUnknownOutcome, bus.CodeRateLimited:
		return
	}
	if errors.Is(err, bus.ErrNotMember) || errors.Is(err, bus.ErrForbidden) || errors.Is(err, bus.ErrNotFound) {
		heads, headsErr := c.heads(c.ctx)
		if headsErr != nil {
			return
		}
		in := map[bus.RoomID]bool{}
		for _, h := range heads {
			in[h.Room] = true
		}
		if f.stopFeeds(req, err, func(w *follow) bool { return !in[w.room] }) > 0 {
			return
		}
	}
	f.stopFeeds(req, err, func(w *follow) bool { return !w.isPlaced() && time.Since(w.since) > grantWait })
}

// stopFeeds ends the feeds that a request was for and that match.
func (f *follower) stopFeeds(req *request, reason error, match func(*follow) bool) (n int) {
	asked := map[bus.RoomID]bool{}
	for _, t := range req.Tail {
		for _, r := range t.Rooms {
			asked[r] = true
		}
	}
	for _, u := range req.CatchUp {
		asked[u.Room] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.shards {
		s := &f.shards[i]
		s.feeds = slices.DeleteFunc(s.feeds, func(w *follow) bool {
			if !asked[w.room] || !match(w) {
				return false
			}
			w.stop(reason)
			if !w.isPlaced() {
				close(w.ready)
			}
			n++
			return true
		})
	}
	return n
}
