package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/room"
)

// model is what has been verified about a room, up to the head: the newest
// record whose pin has moved. The chain ends with it.
type model struct {
	syncing gate // whoever fetches and accepts records; the chain changes under it only

	mu    sync.RWMutex
	chain *room.Chain
	head  *room.Record
	// closed is when the record after an epoch was accepted here.
	closed map[bus.Epoch]time.Time
	// keyless are the epochs whose key this member cannot have.
	keyless map[bus.Epoch]bool
	// moved is closed, and replaced, when the head moves.
	moved chan struct{}
	// doubt is why nothing may be sent under the head, nil where it may.
	doubt error
}

func newModel(id bus.RoomID) *model {
	return &model{
		syncing: make(gate, 1),
		chain:   room.NewChain(id),
		closed:  map[bus.Epoch]time.Time{},
		keyless: map[bus.Epoch]bool{},
		moved:   make(chan struct{}),
	}
}

// gate lets one in at a time. Those who wait give up with their context.
type gate chan struct{}

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return bus.Errorf(bus.CodeTimeout, "wait for records that are being read: %w", ctx.Err())
	}
}

func (g gate) leave() { <-g }

// current returns the head, its key where there is one, and a channel that
// closes when it moves.
func (m *model) current() (head *room.Record, key room.Key, moved <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.head != nil {
		key, _ = m.chain.Key(m.head.Epoch)
	}
	return m.head, key, m.moved
}

// at returns the record of an epoch up to the head's, nil where there is none.
func (m *model) at(e bus.Epoch) *room.Record {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.head == nil || e > m.head.Epoch {
		return nil
	}
	return m.chain.At(e)
}

// install puts a chain to use that goes on from the one before or, where it is
// of another branch, takes its place.
func (m *model) install(chain *room.Chain, otherBranch bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := chain.Head()
	for e := next.Epoch; e > 0; e-- {
		if _, ok := m.closed[e-1]; ok && m.head != nil && e <= m.head.Epoch {
			break
		}
		// What was replaced before this client looked ended when its successor
		// was made, or now if that is said to be later.
		at := now
		if made := chain.At(e).Created; m.head == nil && made.Before(now) {
			at = made
		}
		m.closed[e-1] = at
	}
	if otherBranch {
		clear(m.keyless)
	}
	m.chain, m.head = chain, next
	close(m.moved)
	m.moved = make(chan struct{})
}

// judge takes in how a look for records ended. Where the head turned out to be
// on one of two branches, behind what another process of this identity has
// accepted, or followed by a record whose key was withheld or swapped, nothing is
// sent under it until a look ends well: whoever a later record removed could
// read it.
func (m *model) judge(err error) {
	_, forked := errors.AsType[*room.ForkError](err)
	_, elsewhere := errors.AsType[*pinError](err)
	_, unopened := errors.AsType[*unopenedError](err)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.doubt = nil
	case forked || elsewhere || unopened:
		m.doubt = err
	}
}

// doubted returns why nothing may be sent under the head, nil where it may.
func (m *model) doubted() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.doubt
}

// forked returns why the room stands still if err, the failure of a frame, may come
// of the frame being of another branch than the one followed here; nil where it does
// not, or no other branch was seen.
func (m *model) forked(err error) error {
	switch bus.CodeOf(err) {
	case bus.CodeFork, bus.CodeEquivocation, bus.CodeRollback, bus.CodeEpochUnknown:
	default:
		return nil
	}
	doubt := m.doubted()
	_, fork := errors.AsType[*room.ForkError](doubt)
	_, elsewhere := errors.AsType[*pinError](doubt)
	if fork || elsewhere {
		return doubt
	}
	return nil
}

// view shows a model to a [frame.Opener], whose calls its owner brackets with
// the model's read lock.
type view struct {
	*model
	signers *sync.Map // bus.ID to bus.SignPub
}

var _ frame.View = view{}

// Head implements [frame.View].
func (v view) Head() *room.Record { return v.head }

// Epoch implements [frame.View].
func (v view) Epoch(e bus.Epoch) (frame.Epoch, bool) {
	if v.head == nil || e > v.head.Epoch {
		return frame.Epoch{}, false
	}
	epoch := frame.Epoch{Record: v.chain.At(e), Closed: v.closed[e]}
	if key, ok := v.chain.Key(e); ok {
		epoch.Key = &key
	}
	return epoch, true
}

// SignPub implements [frame.View].
func (v view) SignPub(id bus.ID) (bus.SignPub, bool) {
	if pub, ok := v.signers.Load(id); ok {
		return pub.(bus.SignPub), true
	}
	return bus.SignPub{}, false
}

// openEarlier adds the key of an epoch before the head to the chain: by walking
// back from a later epoch whose key is known or, where no history leads there,
// from this member's own copy. An authority can write anything as history: why
// that does not open counts only where there is no such copy.
func (r *Room) openEarlier(ctx context.Context, e bus.Epoch) error {
	m := r.model
	if err := m.syncing.enter(ctx); err != nil {
		return err
	}
	defer m.syncing.leave()
	m.mu.Lock()
	var broken error
	_, known := m.chain.Key(e)
	if !known {
		for from := e + 1; from <= m.chain.Head().Epoch; from++ {
			if _, ok := m.chain.Key(from); ok {
				_, broken = m.chain.OpenHistory(from, e)
				break
			}
		}
		_, known = m.chain.Key(e)
	}
	rec := m.chain.At(e)
	m.mu.Unlock()
	if known || rec == nil {
		return nil
	}
	if _, member := rec.Member(r.client.ID()); !member {
		if broken != nil {
			return broken
		}
		m.mu.Lock()
		m.keyless[e] = true
		m.mu.Unlock()
		return nil
	}
	key, err := r.openOwn(ctx, rec)
	if errors.Is(err, bus.ErrDecrypt) {
		// It is for an older HPKE key: what was sealed again leads here.
		return r.openByLater(ctx, e, err)
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.chain.SetKey(e, key)
}

// openByLater opens the key of an epoch by the history of a later one, of which
// this member has a copy that opens. Where none leads there the error is reason.
// The caller has the turn to sync.
func (r *Room) openByLater(ctx context.Context, e bus.Epoch, reason error) error {
	m := r.model
	last := e // that may lead to e
	for rec := m.at(last + 1); rec != nil && len(rec.HistoryCT) > 0; rec = m.at(last + 1) {
		last++
	}
	for n := last; n > e; n-- {
		rec := m.at(n)
		if _, member := rec.Member(r.client.ID()); !member {
			continue
		}
		key, err := r.openOwn(ctx, rec)
		if errors.Is(err, bus.ErrDecrypt) {
			continue
		}
		if err != nil {
			return err
		}
		m.mu.Lock()
		if err = m.chain.SetKey(n, key); err == nil {
			_, err = m.chain.OpenHistory(n, e)
		}
		m.mu.Unlock()
		if err == nil {
			return nil
		}
	}
	return reason
}
