package client

import (
	"slices"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// slot is a catch-up.
type slot struct {
	feed *feed
	pull *pull
	last uint64 // the room's last frame when it began
}

// planCatchUps asks for catch-ups as far as there are slots, and has those that
// there are go on.
func (f *follower) planCatchUps(req *request) {
	var waiting []pastRequest
	var from []uint64
	for i := range f.shards {
		for _, w := range f.shards[i].feeds {
			if at, dropped, ok := w.beginPast(); ok {
				waiting = append(waiting, pastRequest{w.feed, dropped})
				from = append(from, at)
			}
		}
	}
	for i := range f.slots {
		s := &f.slots[i]
		if s.feed != nil && s.pull.pending() == 0 {
			if s.feed.wants() {
				frames, _ := f.client.limits.catchUp()
				s.pull.fetch(frames)
			} else if len(waiting) > 0 {
				// Its reader takes its time; others need the slot.
				f.free(s)
			}
		}
		if s.feed == nil && len(waiting) > 0 {
			req.CatchUp = append(req.CatchUp, api.CatchUp{Slot: i, Room: waiting[0].feed.room, From: from[0]})
			req.catchUps = append(req.catchUps, waiting[0])
			waiting, from = waiting[1:], from[1:]
		}
	}
}

// applyCatchUp starts to fetch from the consumer of a slot.
func (f *follower) applyCatchUp(asked api.CatchUp, past pastRequest, got api.CatchUpConsumer) error {
	c := f.client
	if got.Slot != asked.Slot || got.Room != asked.Room || got.Stream != bus.Stream(bus.Shard(asked.Room)) || got.Consumer != bus.CatchUpConsumer(c.id, c.session, asked.Slot) {
		return bus.Errorf(bus.CodeMalformed, "make cursors: the server names consumer %.80q of %.80q for slot %d", got.Consumer, got.Stream, asked.Slot)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.slots[asked.Slot]
	here := slices.ContainsFunc(f.shards[bus.Shard(asked.Room)].feeds, func(w *follow) bool { return w.feed == past.feed })
	if !here || !past.feed.catching(got.Last, past.dropped) {
		return nil
	}
	frames, bytes := c.limits.catchUp()
	p := &pull{client: c, maxBytes: bytes}
	p.frame = func(room string, raw rawFrame) { f.pastFrame(s, p, room, raw) }
	p.idle = func(expired bool) { f.pastIdle(s, p, expired) }
	p.lost = func(err error) {
		c.log.Debug("client", "catch_up", got.Room.String(), "err", err)
		f.endCatchUp(s, p)
	}
	*s = slot{feed: past.feed, pull: p, last: got.Last}
	if err := p.open(got.Stream, got.Consumer); err != nil {
		past.feed.lostPast()
		*s = slot{}
		return err
	}
	p.fetch(frames)
	return nil
}

func (f *follower) pastFrame(s *slot, p *pull, room string, raw rawFrame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.pull != p {
		return
	}
	if room == s.feed.room.Token() && s.feed.offerPast(raw, s.last) {
		p.close()
		*s = slot{}
		f.signal()
	}
}

// pastIdle goes on with a catch-up whose last fetch is over. One that brought
// nothing in all its time is begun anew: what it waits for may have been purged.
func (f *follower) pastIdle(s *slot, p *pull, expired bool) {
	if expired {
		f.endCatchUp(s, p)
		return
	}
	f.signal() // plan has it go on when the reader has room
}

func (f *follower) endCatchUp(s *slot, p *pull) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.pull == p {
		f.free(s)
		f.signal()
	}
}

// free ends a catch-up.
func (f *follower) free(s *slot) {
	if s.pull != nil {
		s.pull.close()
	}
	s.feed.lostPast()
	*s = slot{}
}
