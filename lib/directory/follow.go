package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

// How long a view waits before it begins again after it could not follow.
const (
	firstRetry = 10 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Follow returns a view that has caught up with the store. The end of ctx only
// ends the wait for that; the view follows until its Close, or until the store
// is closed. The error is that of ctx, with what kept the view from catching
// up, or [bus.CodeClosed].
func (d *Directory) Follow(ctx context.Context) (*View, error) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	v := newView(d, stop)
	synced := make(chan struct{})
	go v.run(life, synced)
	select {
	case <-synced:
		return v, nil
	case <-v.done:
		stop()
		return nil, v.Err()
	case <-ctx.Done():
		err := v.Err()
		v.Close()
		return nil, bus.Errorf(bus.CodeTimeout, "follow directory: %w; %v", ctx.Err(), err)
	}
}

// run follows until ctx ends or the store is closed, and closes synced when it
// has caught up for the first time.
func (v *View) run(ctx context.Context, synced chan struct{}) {
	defer close(v.done)
	wait := firstRetry
	for {
		f := follower{v: v, synced: func() {
			if synced != nil {
				close(synced)
				synced = nil
			}
			wait = firstRetry
		}}
		err := f.follow(ctx)
		if ctx.Err() != nil {
			v.setErr(bus.Errorf(bus.CodeClosed, "follow directory: the view was closed"))
			return
		}
		v.setErr(bus.Errorf(bus.CodeUnavailable, "follow directory: %w", err))
		if errors.Is(err, bus.ErrClosed) {
			v.setErr(bus.Errorf(bus.CodeClosed, "follow directory: %w", err))
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, lastRetry)
	}
}

// follower is one watch of the control bucket from its beginning.
type follower struct {
	v      *View
	synced func()

	// Until the watch has caught up: heads wait, so that each room's record
	// is loaded once and many at a time, and leases, which vouch for all of
	// it. What was seen tells what the view has that the store has no longer.
	catching bool
	heads    map[bus.RoomID]Head
	leases   map[string]time.Time
	seen     seen
}

type seen struct {
	users, cards map[bus.ID]bool
}

func (f *follower) follow(ctx context.Context) error {
	last := f.v.d.lastWrote() // what was written before the watch began is in it
	w, err := f.v.d.store.Watch(ctx, store.Control, "")
	if err != nil {
		return err
	}
	defer w.Stop()
	f.catching = true
	f.heads, f.leases = make(map[bus.RoomID]Head), make(map[string]time.Time)
	f.seen = seen{users: make(map[bus.ID]bool), cards: make(map[bus.ID]bool)}
	for e := range w.Events() {
		if e.Synced {
			if err := f.caughtUp(ctx); err != nil {
				return err
			}
			f.v.move(last)
			f.v.setErr(nil)
			f.synced()
			continue
		}
		if err := f.apply(ctx, e); err != nil {
			return fmt.Errorf("apply %s: %w", e.Key, err)
		}
		last = max(last, e.Revision)
		if !f.catching {
			f.v.move(last)
		}
	}
	if err := w.Err(); err != nil {
		return err
	}
	return bus.Errorf(bus.CodeUnavailable, "the watch ended")
}

// apply moves the view by one event. Keys that the view has no use for, such as
// cards of the past, are passed over.
func (f *follower) apply(ctx context.Context, e store.Event) error {
	kind, name, _ := strings.Cut(e.Key, "/")
	switch kind + "/" {
	case usersPrefix:
		return f.applyUser(e, name)
	case cardsPrefix:
		if id, last, _ := strings.Cut(name, "/"); last == latestCard {
			return f.applyCard(e, id)
		}
	case headsPrefix:
		return f.applyHead(ctx, e, name)
	case nodesPrefix:
		return f.applyLease(e, name)
	}
	return nil
}

func (f *follower) applyUser(e store.Event, name string) error {
	sign, err := bus.ParseSignPub(name)
	if err != nil {
		return err
	}
	id := identity.IDOf(sign)
	if e.Deleted {
		delete(f.seen.users, id)
		f.v.setUser(id, nil)
		return nil
	}
	u, err := decodeUser(e.Value)
	if err != nil {
		return err
	}
	if u.SignPub != sign {
		return corrupt("user")
	}
	if f.catching {
		f.seen.users[id] = true
	}
	f.v.setUser(id, &u)
	return nil
}

func (f *follower) applyCard(e store.Event, name string) error {
	id, err := bus.ParseID(name)
	if err != nil {
		return err
	}
	if e.Deleted {
		delete(f.seen.cards, id)
		f.v.setCard(id, nil)
		return nil
	}
	c, err := decodeLatest(id, e.Value)
	if err != nil {
		return err
	}
	if f.catching {
		f.seen.cards[id] = true
	}
	f.v.setCard(id, &c)
	return nil
}

func (f *follower) applyHead(ctx context.Context, e store.Event, name string) error {
	r, err := bus.ParseRoomID(name)
	if err != nil {
		return err
	}
	if e.Deleted {
		delete(f.heads, r)
		f.v.setRoom(r, nil)
		return nil
	}
	h, err := decodeHead(e.Value)
	if err != nil {
		return err
	}
	if f.catching {
		f.heads[r] = h
		return nil
	}
	rec, err := f.load(ctx, r, h)
	if err != nil {
		return err
	}
	f.v.setRoom(r, rec)
	return nil
}

func (f *follower) applyLease(e store.Event, node string) error {
	if e.Deleted {
		return nil
	}
	m, err := decodeLease(e.Value)
	if err != nil {
		return err
	}
	at, ours := f.v.d.leases.begunAt(node, m)
	switch {
	case !ours:
	case f.catching:
		f.leases[node] = at
	default:
		f.v.setLease(node, at)
	}
	return nil
}

// load returns the record of a head, without reading it where the view has it.
func (f *follower) load(ctx context.Context, r bus.RoomID, h Head) (*room.Record, error) {
	if rec, ok := f.v.Room(r); ok && rec.Hash() == h.Hash {
		return rec, nil
	}
	rec, err := f.v.d.loadRecord(ctx, r, h.Hash)
	if err != nil {
		return nil, err
	}
	if rec.Epoch != h.Epoch {
		return nil, corrupt("head")
	}
	return rec, nil
}

// caughtUp applies what waited, and drops what the store no longer has.
func (f *follower) caughtUp(ctx context.Context) error {
	type loaded struct {
		room bus.RoomID
		rec  *room.Record
	}
	records, failed := make(chan loaded), make(chan error, 1)
	go func() {
		loads, ctx := errgroup.WithContext(ctx)
		loads.SetLimit(parallelReads)
		for r, h := range f.heads {
			loads.Go(func() error {
				rec, err := f.load(ctx, r, h)
				if err != nil {
					return fmt.Errorf("head of room %s: %w", r, err)
				}
				records <- loaded{r, rec}
				return nil
			})
		}
		failed <- loads.Wait()
		close(records)
	}()
	for l := range records {
		f.v.setRoom(l.room, l.rec)
	}
	if err := <-failed; err != nil {
		return err
	}
	f.dropUnseen()
	for node, at := range f.leases {
		f.v.setLease(node, at)
	}
	f.catching, f.heads, f.leases, f.seen = false, nil, nil, seen{}
	return nil
}

// dropUnseen is for a store that was replaced while nobody watched: nothing in
// it is deleted otherwise.
func (f *follower) dropUnseen() {
	users, cards, rooms := f.v.keys()
	for _, id := range users {
		if !f.seen.users[id] {
			f.v.setUser(id, nil)
		}
	}
	for _, id := range cards {
		if !f.seen.cards[id] {
			f.v.setCard(id, nil)
		}
	}
	for _, r := range rooms {
		if _, ok := f.heads[r]; !ok {
			f.v.setRoom(r, nil)
		}
	}
}
