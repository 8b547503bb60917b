package access

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/room"
)

// queue takes the view's changes without making it wait.
type queue struct {
	mu      sync.Mutex
	changes []directory.Change
	settled []chan struct{} // to be closed when everything before is done
	more    chan struct{}   // has one element while something waits
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

func (q *queue) put(c directory.Change) {
	q.mu.Lock()
	q.changes = append(q.changes, c)
	q.mu.Unlock()
	q.wake()
}

// mark returns a channel that closes when every change put before was handled.
func (q *queue) mark() <-chan struct{} {
	done := make(chan struct{})
	q.mu.Lock()
	q.settled = append(q.settled, done)
	q.mu.Unlock()
	q.wake()
	return done
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) take() (changes []directory.Change, settled []chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	changes, settled = q.changes, q.settled
	q.changes, q.settled = nil, nil
	return changes, settled
}

// followChanges brings connections and consumers up to the view after every
// change of it.
func (a *Access) followChanges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changes.more:
			changes, settled := a.changes.take()
			drops := a.apply(ctx, changes)
			a.running.Go(func() {
				drops.Wait()
				for _, done := range settled {
					close(done)
				}
			})
		}
	}
}

// Settle waits until every change that the view told of before was handled:
// permissions are changed, connections cut, consumers deleted. The error has
// [bus.CodeTimeout] when ctx ends first.
func (a *Access) Settle(ctx context.Context) error {
	select {
	case <-a.changes.mark():
		return nil
	case <-ctx.Done():
		return bus.Errorf(bus.CodeTimeout, "wait for connections to follow: %w", ctx.Err())
	}
}

// apply handles changes that came together. What is done for an identity
// depends on what the view shows by now, not on the change that led to it. The
// deletion of consumers goes on behind; it has ended when drops has.
func (a *Access) apply(ctx context.Context, changes []directory.Change) (drops *sync.WaitGroup) {
	touched := make(map[bus.ID]bool)
	for _, c := range changes {
		for _, id := range affected(c) {
			touched[id] = true
		}
	}
	connected := make(map[bus.ID]bool)
	var lost []*conn
	for id := range touched {
		if had, cut := a.update(id); had {
			connected[id] = true
			lost = append(lost, cut...)
		}
	}
	// Notices go to whoever is there, with its new rights, and to those who
	// are cut for what they lost in a room, so that they know why.
	a.notify(changes, connected)
	a.cut(lost)
	drops = new(sync.WaitGroup)
	for id := range touched {
		if a.reads(id) {
			drops.Go(func() { a.dropLostLater(ctx, id) })
		}
	}
	return drops
}

func (a *Access) cut(conns []*conn) {
	for _, c := range conns {
		a.broker.Kick(c.cid)
	}
}

func (a *Access) dropLostLater(ctx context.Context, id bus.ID) {
	ctx, cancel := context.WithTimeout(ctx, admitTimeout)
	defer cancel()
	if err := a.dropLost(ctx, id); err != nil && !errors.Is(err, context.Canceled) {
		a.log.Error("consumers over lost rooms are still there", "id", id, "error", err)
	}
}

// affected returns the identities whose rights a change can touch.
func affected(c directory.Change) []bus.ID {
	if c.Kind != directory.ChangeRoom {
		return []bus.ID{c.ID}
	}
	var ids []bus.ID
	for _, r := range []*room.Record{c.RoomBefore, c.RoomAfter} {
		if r != nil {
			for _, m := range r.Members() {
				ids = append(ids, m.ID)
			}
		}
	}
	return ids
}

// update brings the connections of an identity to the rights it has now. Those
// of one that may no longer be here are cut at once. Those that make use of
// something it lost are returned, forgotten already, and are to be cut; all
// others are narrowed or widened where they are. So nobody ends a connection by
// inviting its owner to a room, unasked, and removing it again. connected
// reports whether there were any.
func (a *Access) update(id bus.ID) (connected bool, lost []*conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := a.conns[id]
	connected = len(mine) > 0
	for cid, c := range mine {
		if err := a.stillGood(c); err != nil {
			a.forget(c, err)
			a.broker.Kick(cid)
			continue
		}
		next := a.currentRights(c)
		gone := c.rights.without(next)
		if !c.rights.equal(next) {
			c.rights = next
			// Without an account, so that only the permissions change. What is
			// published from here on is checked against them.
			c.client.RegisterUser(&server.User{Permissions: next.permissions()})
		}
		if a.uses(c, gone) {
			a.forget(c, bus.Errorf(bus.CodeNotMember, "update connection: it lost a room it reads"))
			lost = append(lost, c)
		}
	}
	return connected, lost
}

// uses reports whether a connection reads what it no longer may: by a
// subscription, which the server checks only when it is made, or through
// consumers, whose deletion takes a moment.
func (a *Access) uses(c *conn, gone rights) bool {
	return a.broker.Subscribes(c.cid, gone.subscribe) || a.fetches(c.id, gone.read)
}

// stillGood returns why the identity of a connection may no longer be here.
func (a *Access) stillGood(c *conn) error {
	user, err := a.userOf(c.transport)
	if err == nil && user.ID != c.id {
		err = bus.Errorf(bus.CodeUnauthenticated, "check connection: the key changed hands")
	}
	return err
}

// forget takes a connection that is to be cut off the list. The caller holds a.mu.
func (a *Access) forget(c *conn, why error) {
	a.metrics.Cut(bus.CodeOf(why))
	a.log.Info("connection cut", "remote", c.remote, "id", c.id, "session", c.session, "code", bus.CodeOf(why), "reason", why)
	delete(a.conns[c.id], c.cid)
	if len(a.conns[c.id]) == 0 {
		delete(a.conns, c.id)
	}
}

// noticeFlush bounds the wait for notices to be on their way before
// connections are cut. A revocation must not wait for a slow reader.
const noticeFlush = 50 * time.Millisecond

// notify tells connected members of changes that concern them.
func (a *Access) notify(changes []directory.Change, connected map[bus.ID]bool) {
	told := false
	tell := func(id bus.ID, n api.Notice) {
		if connected[id] {
			told = true
			a.publishNotice(id, n)
		}
	}
	for _, c := range changes {
		switch c.Kind {
		case directory.ChangeCard:
			tell(c.ID, api.Notice{V: 1, Kind: api.NoticeCard})
		case directory.ChangeRoom:
			noticesOf(c, tell)
		case directory.ChangeUser:
			if c.UserAfter != nil && !c.UserAfter.Active() {
				told = a.tellAuthorities(c.ID) || told
			}
		}
	}
	if told {
		if err := a.notices.FlushTimeout(noticeFlush); err != nil {
			a.log.Warn("notices may be late", "error", err)
		}
	}
}

// tellAuthorities tells those who can take somebody who was revoked out of a room
// that it is time, and reports whether anybody was there to hear it.
func (a *Access) tellAuthorities(revoked bus.ID) (told bool) {
	for _, m := range a.view.RoomsOf(revoked) {
		head, ok := a.view.Room(m.Room)
		if !ok {
			continue
		}
		for _, who := range head.Members() {
			if who.Role.IsAuthority() && who.ID != revoked && a.connected(who.ID) {
				a.publishNotice(who.ID, api.Notice{V: 1, Kind: api.NoticeRevoked, Room: &m.Room, Epoch: head.Epoch})
				told = true
			}
		}
	}
	return told
}

func (a *Access) connected(id bus.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.conns[id]) > 0
}

// noticesOf calls tell for every member of a room before or after a change.
func noticesOf(c directory.Change, tell func(bus.ID, api.Notice)) {
	if c.RoomAfter == nil {
		return
	}
	notice := api.Notice{V: 1, Kind: api.NoticeRoom, Room: &c.Room, Epoch: c.RoomAfter.Epoch}
	for _, m := range c.RoomAfter.Members() {
		tell(m.ID, notice)
	}
	if c.RoomBefore == nil {
		return
	}
	notice.Kind = api.NoticeRemoved
	for _, m := range c.RoomBefore.Members() {
		if !c.RoomAfter.Role(m.ID).Valid() {
			tell(m.ID, notice)
		}
	}
}

func (a *Access) publishNotice(id bus.ID, n api.Notice) {
	data, err := api.Encode(n)
	if err == nil {
		err = a.notices.Publish(bus.NoticeSubject(id), data)
	}
	if err != nil {
		a.log.Warn("notice not sent", "id", id, "kind", n.Kind, "error", err)
	}
}
