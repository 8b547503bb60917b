// Package quota counts what persisted rooms store against their owners, and
// says which rooms take no more.
//
// [New] follows the rooms of a view. Package broker tells it what is stored and
// deleted ([Quota.Stored]) and asks before it takes a frame ([Quota.Full]).
//
// A room counts in full against each of its owners, and is full as soon as one
// of them has used up what a user may have. So a bus never stores more than its
// users may have together, and each owner sees what it is in for without
// knowing the others.
//
// The counts are those of the streams: nothing is kept on disk. After a start
// they grow until the streams have been read once, and at any time they are
// behind by what is being stored just now, so a user can end up a little beyond
// the limit.
package quota

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
)

// Config says what a quota counts with.
type Config struct {
	// Limit is how many bytes the rooms of a user may store. It is positive.
	Limit int64
	// View has the rooms and their owners.
	View *directory.View
	// Logger is told when a user fills up.
	Logger *slog.Logger
}

// Quota has what each user's rooms store. It is safe for concurrent use.
type Quota struct {
	limit int64
	view  *directory.View
	log   *slog.Logger
	stop  func()

	mu     sync.RWMutex
	rooms  map[string]*roomUse // by token
	owners map[bus.ID]*ownerUse
}

// roomUse is what is known of one room.
type roomUse struct {
	bytes  int64
	owners []bus.ID // none while the view does not have the room
}

// ownerUse is what is known of one who owns rooms that store something.
type ownerUse struct {
	bytes int64
	told  level
}

// level is how much of its bytes an owner has used.
type level uint8

const (
	roomy level = iota
	nearly
	full
)

// levelOf has nine tenths as nearly full: time enough to act.
func (q *Quota) levelOf(bytes int64) level {
	switch {
	case bytes >= q.limit:
		return full
	case bytes >= q.limit-q.limit/10:
		return nearly
	}
	return roomy
}

// New begins to follow the rooms of the view. End it with [Quota.Close].
func New(cfg Config) *Quota {
	q := &Quota{
		limit: cfg.Limit, view: cfg.View, log: cfg.Logger,
		rooms: make(map[string]*roomUse), owners: make(map[bus.ID]*ownerUse),
	}
	q.stop = q.view.OnChange(func(c directory.Change) {
		if c.Kind == directory.ChangeRoom {
			q.follow(c.Room)
		}
	})
	for rec := range q.view.Rooms() {
		q.follow(rec.Room)
	}
	return q
}

// Close ends following.
func (q *Quota) Close() { q.stop() }

// follow has a room count against those who own it now.
func (q *Quota) follow(id bus.RoomID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// The view is asked under the lock: whoever comes last sees the newest head.
	var owners []bus.ID
	if rec, ok := q.view.Room(id); ok && rec.Policy.Persisted() {
		owners = rec.Owners()
	}
	token := id.Token()
	r := q.rooms[token]
	if r == nil {
		if len(owners) == 0 {
			return
		}
		r = &roomUse{}
		q.rooms[token] = r
	}
	if slices.Equal(owners, r.owners) {
		return
	}
	before := r.owners
	r.owners = owners
	q.charge(without(before, owners), -r.bytes)
	q.charge(without(owners, before), r.bytes)
	q.forget(token, r)
}

// without returns the ids that are not among others.
func without(ids, others []bus.ID) []bus.ID {
	return slices.DeleteFunc(slices.Clone(ids), func(id bus.ID) bool { return slices.Contains(others, id) })
}

// Stored adds what a room stores more, in bytes; negative is less.
func (q *Quota) Stored(token string, bytes int64) {
	if bytes == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.rooms[token]
	if r == nil {
		r = &roomUse{}
		q.rooms[token] = r
	}
	r.bytes += bytes
	q.charge(r.owners, bytes)
	q.forget(token, r)
}

// forget drops a room that neither stores anything nor is in the view.
func (q *Quota) forget(token string, r *roomUse) {
	if r.bytes == 0 && len(r.owners) == 0 {
		delete(q.rooms, token)
	}
}

// charge adds to what owners have used, and tells the operator of those who
// reach another level.
func (q *Quota) charge(owners []bus.ID, bytes int64) {
	if bytes == 0 {
		return
	}
	for _, id := range owners {
		o := q.owners[id]
		if o == nil {
			o = &ownerUse{}
			q.owners[id] = o
		}
		o.bytes += bytes
		now := q.levelOf(o.bytes)
		if now != o.told {
			q.tell(id, o, now)
			o.told = now
		}
		if o.bytes == 0 {
			delete(q.owners, id)
		}
	}
}

// tell logs once for each level on the way up, and once when there is room again.
func (q *Quota) tell(id bus.ID, o *ownerUse, now level) {
	handle := bus.Handle("?")
	if u, ok := q.view.UserByID(id); ok {
		handle = u.Handle
	}
	log := q.log.With("handle", handle, "id", id, "bytes", o.bytes, "limit", q.limit)
	switch {
	case now == full:
		log.Warn("user has stored all it may; messages to its rooms are refused")
	case now == nearly && o.told == roomy:
		log.Warn("user has stored nearly all it may")
	case now == roomy:
		log.Info("user may store again")
	}
}

// Full reports whether a room takes no more: one of its owners has used up what
// it may have.
func (q *Quota) Full(token []byte) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	r := q.rooms[string(token)]
	if r == nil {
		return false
	}
	return slices.ContainsFunc(r.owners, func(id bus.ID) bool {
		o := q.owners[id]
		return o != nil && o.told == full
	})
}

// Used returns how many bytes the rooms of a user store, as far as counted.
func (q *Quota) Used(id bus.ID) int64 {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if o := q.owners[id]; o != nil {
		return o.bytes
	}
	return 0
}
