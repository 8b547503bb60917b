package directory

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

// View is users, latest cards and room heads in memory, following the store by
// its watch. [Directory.Follow] makes it. Looking something up costs the same
// however many there are, and reads no store. It is safe for concurrent use.
//
// A view that cannot follow any longer says so ([View.Err]) and begins again
// by itself; until it has caught up it shows what it last knew, and whoever
// decides by it must deny. Alone it cannot tell that the store it watches is
// cut off from the others: for that there is [View.LeaseSeen].
type View struct {
	d    *Directory
	stop context.CancelFunc
	done chan struct{} // closed when following has ended

	mu         sync.RWMutex
	err        error // why it is not current; nil if it is
	users      map[bus.ID]User
	cards      map[bus.ID]CardRef
	transports map[bus.TransportPub]bus.ID // zero where several identities claim the key
	rooms      map[bus.RoomID]*room.Record
	memberOf   map[bus.ID][]bus.RoomID
	owned      map[bus.ID]int // rooms that an identity is an owner of
	active     int
	leases     map[string]time.Time
	applied    store.Revision // everything up to here shows and was delivered
	moved      chan struct{}  // closed when applied moves; nil while nobody waits
	handlers   []*handler     // replaced, never changed
}

func newView(d *Directory, stop context.CancelFunc) *View {
	return &View{
		d: d, stop: stop, done: make(chan struct{}),
		err:        bus.Errorf(bus.CodeUnavailable, "follow directory: not caught up yet"),
		users:      make(map[bus.ID]User),
		cards:      make(map[bus.ID]CardRef),
		transports: make(map[bus.TransportPub]bus.ID),
		rooms:      make(map[bus.RoomID]*room.Record),
		memberOf:   make(map[bus.ID][]bus.RoomID),
		owned:      make(map[bus.ID]int),
		leases:     make(map[string]time.Time),
	}
}

// Membership is one room of a member.
type Membership struct {
	Room      bus.RoomID
	Role      bus.Role
	Persisted bool
}

// Err returns nil while the view is current, and why it is not otherwise.
func (v *View) Err() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.err
}

// Close ends following and waits until no change is being delivered. The view
// keeps what it knew and has an error of [bus.CodeClosed] from then on.
func (v *View) Close() {
	v.stop()
	<-v.done
}

// UserByTransport returns the user, revoked or not, whose latest card has the
// transport key.
func (v *View) UserByTransport(key bus.TransportPub) (User, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	id, ok := v.transports[key]
	if !ok || id.IsZero() {
		return User{}, false
	}
	u, ok := v.users[id]
	return u, ok
}

// UserByID returns the user of an identity, revoked or not.
func (v *View) UserByID(id bus.ID) (User, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	u, ok := v.users[id]
	return u, ok
}

// UserBySignPub returns the user of a signing key, revoked or not.
func (v *View) UserBySignPub(sign bus.SignPub) (User, bool) {
	return v.UserByID(identity.IDOf(sign))
}

// Card returns the latest card of an identity.
func (v *View) Card(id bus.ID) (CardRef, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c, ok := v.cards[id]
	return c, ok
}

// Room returns the head of a room.
func (v *View) Room(r bus.RoomID) (*room.Record, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	rec, ok := v.rooms[r]
	return rec, ok
}

// Rooms returns the heads of all rooms, in no order, as they are when the
// iteration begins.
func (v *View) Rooms() iter.Seq[*room.Record] {
	return func(yield func(*room.Record) bool) {
		v.mu.RLock()
		heads := slices.Collect(maps.Values(v.rooms))
		v.mu.RUnlock()
		for _, head := range heads {
			if !yield(head) {
				return
			}
		}
	}
}

// RoomsOf returns the rooms whose heads have the identity as a member, in no
// order.
func (v *View) RoomsOf(id bus.ID) []Membership {
	v.mu.RLock()
	defer v.mu.RUnlock()
	list := make([]Membership, 0, len(v.memberOf[id]))
	for _, r := range v.memberOf[id] {
		rec := v.rooms[r]
		list = append(list, Membership{Room: r, Role: rec.Role(id), Persisted: rec.Policy.Persisted()})
	}
	return list
}

// CountRooms returns how many rooms have the identity as a member, and how many
// of them as an owner.
func (v *View) CountRooms(id bus.ID) (member, owner int) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.memberOf[id]), v.owned[id]
}

// Counts returns how many active users and how many rooms there are.
func (v *View) Counts() (users, rooms int) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.active, len(v.rooms)
}

// Memberships returns how many members all rooms have, added up.
func (v *View) Memberships() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n := 0
	for _, rooms := range v.memberOf {
		n += len(rooms)
	}
	return n
}

// Behind returns how many revisions of the store this process knows of that the
// view does not show yet.
func (v *View) Behind() uint64 {
	wrote := v.d.lastWrote()
	v.mu.RLock()
	defer v.mu.RUnlock()
	return uint64(max(wrote, v.applied) - v.applied)
}

// LeaseSeen returns when the latest renewal of a node's lease was begun that
// this process made by [Directory.RenewLease] and this view has seen come
// back; zero if there is none. At that time the store still took writes from
// here, and the view has everything that was written before.
func (v *View) LeaseSeen(node string) time.Time {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.leases[node]
}

// CatchUp waits until the view shows everything that this process's operations
// on the directory have done so far and has delivered the changes. The error
// has [bus.CodeTimeout] when ctx ends first, and [bus.CodeClosed].
func (v *View) CatchUp(ctx context.Context) error {
	target := v.d.lastWrote()
	for {
		v.mu.Lock()
		if v.applied >= target {
			v.mu.Unlock()
			return nil
		}
		if v.moved == nil {
			v.moved = make(chan struct{})
		}
		moved := v.moved
		v.mu.Unlock()
		select {
		case <-moved:
		case <-v.done:
			return bus.Errorf(bus.CodeClosed, "catch up with the store: %w", v.Err())
		case <-ctx.Done():
			return bus.Errorf(bus.CodeTimeout, "catch up with the store: %w", ctx.Err())
		}
	}
}

// setUser moves one user; after is nil when it is gone.
func (v *View) setUser(id bus.ID, after *User) {
	v.mu.Lock()
	before, had := v.users[id]
	c := Change{Kind: ChangeUser, ID: id, UserAfter: after}
	if had {
		c.UserBefore = &before
	}
	if had == (after != nil) && (!had || before == *after) {
		v.mu.Unlock()
		return
	}
	if had && before.Active() {
		v.active--
	}
	if after == nil {
		delete(v.users, id)
	} else {
		v.users[id] = *after
		if after.Active() {
			v.active++
		}
	}
	v.mu.Unlock()
	v.tell(c)
}

// setCard moves the latest card of one identity; after is nil when it is gone.
func (v *View) setCard(id bus.ID, after *CardRef) {
	v.mu.Lock()
	before, had := v.cards[id]
	c := Change{Kind: ChangeCard, ID: id, CardAfter: after}
	if had {
		c.CardBefore = &before
	}
	if had == (after != nil) && (!had || before == *after) {
		v.mu.Unlock()
		return
	}
	if had && v.transports[before.TransportPub] == id {
		delete(v.transports, before.TransportPub)
	}
	if after == nil {
		delete(v.cards, id)
	} else {
		v.cards[id] = *after
		// Two identities can have one transport key only if somebody holds
		// both; then it proves neither.
		if owner, taken := v.transports[after.TransportPub]; taken && owner != id {
			v.transports[after.TransportPub] = bus.ID{}
		} else {
			v.transports[after.TransportPub] = id
		}
	}
	v.mu.Unlock()
	v.tell(c)
}

// setRoom moves the head of one room; after is nil when it is gone.
func (v *View) setRoom(r bus.RoomID, after *room.Record) {
	v.mu.Lock()
	before := v.rooms[r]
	if before == after || before != nil && after != nil && before.Hash() == after.Hash() {
		v.mu.Unlock()
		return
	}
	v.countOwners(before, -1)
	v.countOwners(after, +1)
	if before != nil {
		for _, m := range before.Members() {
			if after == nil || !after.Role(m.ID).Valid() {
				v.leave(m.ID, r)
			}
		}
	}
	if after == nil {
		delete(v.rooms, r)
	} else {
		v.rooms[r] = after
		for _, m := range after.Members() {
			if before == nil || !before.Role(m.ID).Valid() {
				v.memberOf[m.ID] = append(v.memberOf[m.ID], r)
			}
		}
	}
	v.mu.Unlock()
	v.tell(Change{Kind: ChangeRoom, Room: r, RoomBefore: before, RoomAfter: after})
}

// countOwners counts a room for its owners, or no longer; rec may be nil.
func (v *View) countOwners(rec *room.Record, by int) {
	if rec == nil {
		return
	}
	for _, id := range rec.Owners() {
		if v.owned[id] += by; v.owned[id] == 0 {
			delete(v.owned, id)
		}
	}
}

func (v *View) leave(id bus.ID, r bus.RoomID) {
	rooms := v.memberOf[id]
	if i := slices.Index(rooms, r); i >= 0 {
		rooms[i] = rooms[len(rooms)-1]
		rooms = rooms[:len(rooms)-1]
	}
	if len(rooms) == 0 {
		delete(v.memberOf, id)
		return
	}
	v.memberOf[id] = rooms
}

// move notes that everything up to a revision shows and was delivered.
func (v *View) move(rev store.Revision) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.applied = max(v.applied, rev)
	if v.moved != nil {
		close(v.moved)
		v.moved = nil
	}
}

func (v *View) setErr(err error) {
	v.mu.Lock()
	v.err = err
	v.mu.Unlock()
}

func (v *View) setLease(node string, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leases[node] = at
}

// keys returns what the view has.
func (v *View) keys() (users, cards []bus.ID, rooms []bus.RoomID) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Collect(maps.Keys(v.users)), slices.Collect(maps.Keys(v.cards)), slices.Collect(maps.Keys(v.rooms))
}
