package client

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// hearNotice takes a hint that something changed. It proves nothing, so all it
// can do is have the room's records looked at.
func (c *Client) hearNotice(msg *nats.Msg) {
	var n api.Notice
	if err := json.Unmarshal(msg.Data, &n); err != nil {
		c.log.Debug("client", "notice", err)
		return
	}
	if n.Room == nil {
		return
	}
	c.mu.Lock()
	r, ok := c.rooms[*n.Room]
	c.mu.Unlock()
	if !ok {
		if n.Kind == api.NoticeRoom {
			c.events.raise(EventInvited, *n.Room, nil, "")
		}
		return
	}
	if n.Kind == api.NoticeRevoked {
		r.revokes.Store(true)
	}
	if head, _, _ := r.model.current(); head == nil || n.Kind == api.NoticeRoom && head.Epoch >= n.Epoch {
		return
	}
	r.hint()
}

const (
	// hintPause is the least time between two looks that hints led to.
	hintPause = 250 * time.Millisecond
	// refreshLimit bounds a look in the background. What was accepted by then
	// counts, and the next one goes on from there.
	refreshLimit = bus.HeadPoll
	// upkeepLimit bounds an attempt to renew or rotate.
	upkeepLimit = 5 * time.Minute
)

// hint has the room's records looked at in the background. Any number of hints
// that come while that is under way lead to one more look: whoever sends them,
// it costs a client one goroutine a room.
func (r *Room) hint() {
	if r.hints.Add(1) > 1 {
		return // whoever is at it will see
	}
	c := r.client
	c.spawn(func() {
		for {
			seen := r.hints.Load()
			r.refresh(c.ctx)
			if r.hints.CompareAndSwap(seen, 0) || !sleep(c.ctx, hintPause) {
				return
			}
		}
	})
}

// refresh is sync in the background: failures are events, and end nothing.
func (r *Room) refresh(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	// Who made the record may be another process of this identity, which has
	// pinned the handle of whom it added.
	if err := r.client.loadHandles(); err != nil {
		r.client.log.Warn("client", "room", r.id.String(), "refresh", err)
	}
	if err := r.sync(limited); err != nil && ctx.Err() == nil {
		r.client.log.Warn("client", "room", r.id.String(), "refresh", err)
	}
	if r.revokes.Swap(false) {
		r.tellRevoked(ctx)
	}
}

// watchRooms asks for heads every [bus.HeadPoll], since notices may be lost or
// withheld, looks for what other processes have pinned, and keeps rooms and the
// own card from growing old.
func (c *Client) watchRooms() {
	var sealed time.Time // when keys were last sealed again, or that was tried
	for sleep(c.ctx, bus.HeadPoll/2+rand.N(bus.HeadPoll/2)) {
		c.checkRooms()
		if err := c.loadHandles(); err != nil {
			c.log.Warn("client", "poll", err)
		}
		if err := c.loadRevocations(); err != nil {
			c.log.Warn("client", "poll", err)
		}
		if halfLife(c.card(), c.config.Now()) {
			if err := c.ensureCard(c.ctx); err != nil && c.ctx.Err() == nil {
				c.events.raise(EventCard, bus.RoomID{}, err, "")
			}
		}
		if now := c.config.Now(); now.Sub(sealed) > resealPause && c.resealDue() {
			sealed = now
			c.resealUnasked()
		}
		for _, r := range c.loaded() {
			r.upkeep(c.ctx)
		}
	}
}

// checkRooms has every open room read its records whose head is another than
// the servers say, or than the pin that another process may have moved.
func (c *Client) checkRooms() {
	rooms := c.loaded()
	if len(rooms) == 0 {
		return
	}
	heads, err := c.heads(c.ctx)
	if err != nil && c.ctx.Err() == nil {
		c.log.Warn("client", "poll", err)
	}
	now := map[bus.RoomID]bus.RecordHash{}
	revoked := map[bus.RoomID]bool{}
	for _, h := range heads {
		now[h.Room], revoked[h.Room] = h.Hash, h.Revoked > 0
	}
	for _, r := range rooms {
		head, _, _ := r.model.current()
		_, member := head.Member(c.id)
		hash, listed := now[r.id]
		// A room that is not listed any more has a record that says why.
		changed := err == nil && (listed && hash != head.Hash() || !listed && member)
		if changed || r.astray(head) {
			r.refresh(c.ctx)
		}
		if revoked[r.id] || r.hasRevoked(head) {
			r.tellRevoked(c.ctx)
		}
	}
}

// astray reports whether the head may not be the newest record that processes of
// this identity have accepted, which no server would have to say.
func (r *Room) astray(head *room.Record) bool {
	pin, pinned, err := r.client.pins.Get(r.client.ctx, r.id)
	return err != nil || pinned && pin != room.PinOf(head) || r.model.doubted() != nil
}

// upkeep removes members who are proven to be revoked, renews the room's record at
// half-life and rotates its key when the policy wants it, where this client has the authority. Whoever is first does
// it for all, so each waits a different time.
func (r *Room) upkeep(ctx context.Context) {
	head, _, _ := r.model.current()
	if !head.Role(r.client.ID()).IsAuthority() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, upkeepLimit)
	defer cancel()
	if r.hasRevoked(head) {
		// Whose key is known to be somebody else's is not to get the next one.
		_, err := r.removeRevoked(limited, unasked, false)
		r.reportUpkeep(ctx, err)
	}
	if due(head, r.client.config.Now()) {
		r.reportUpkeep(ctx, r.renew(limited, unasked))
	}
}

// renew makes the next record unless the head is not due any more.
func (r *Room) renew(ctx context.Context, why occasion) error {
	return r.change(ctx, "renew", why, func(d *change) error {
		d.done = !due(d.head, r.client.config.Now())
		return nil
	})
}

// RenewIfDue renews the room as [Room.Rotate] does if it is past half of its life, or
// its key past the time of its policy, and changes nothing otherwise: any number of
// clients may call it at once, and one record is made.
func (r *Room) RenewIfDue(ctx context.Context) error {
	if err := r.sync(ctx); err != nil {
		return err
	}
	if head, _, _ := r.model.current(); !due(head, r.client.config.Now()) {
		return nil
	}
	return r.renew(ctx, asked)
}

func (r *Room) reportUpkeep(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && bus.CodeOf(err) != bus.CodeConflict {
		r.client.events.raise(EventUpkeep, r.id, err, "")
	}
}

// due reports whether a record is past half of its life, or its key past the
// policy's.
func due(rec *room.Record, now time.Time) bool {
	age := now.Sub(rec.Created)
	return age > rec.NotAfter.Sub(rec.Created)/2 || rec.Policy.Rotate > 0 && age > rec.Policy.Rotate
}
