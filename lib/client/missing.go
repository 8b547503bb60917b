package client

import (
	"context"
	"errors"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// fetchPause is the least time between two looks for the record of an epoch
// that a frame names: anybody can name epochs that do not exist.
const fetchPause = 250 * time.Millisecond

// missing is what a frame needs before it can be opened.
type missing struct {
	record bool // of its epoch
	key    bool // of its epoch
	sender bool // its signing key
	branch bool // a look at which branch the servers show: it is not of the one known
}

func (m missing) any() bool { return m.record || m.key || m.sender || m.branch }

// without returns what of m is not in had.
func (m missing) without(had missing) missing {
	return missing{m.record && !had.record, m.key && !had.key, m.sender && !had.sender, m.branch && !had.branch}
}

// missingFor compares a header, of which nothing is proved, with what is known,
// for a frame that is to be opened or, where count says so, counted only.
// foreign says that the frame's epoch is closed to this member: it was not in
// the room then and nobody shared the key. The caller holds the read lock.
func (v view) missingFor(h *frame.Header, count bool) (need missing, foreign bool) {
	if v.head == nil || h.Epoch > v.head.Epoch {
		return missing{record: true}, false
	}
	rec := v.chain.At(h.Epoch)
	if h.EpochTag != frame.TagOf(rec.Hash()) {
		return missing{branch: true}, false
	}
	if !rec.Role(h.Sender).CanWrite() {
		return missing{}, false // to be refused, without fetching anything for it
	}
	if rec.Policy.Encrypted() && !count {
		if _, ok := v.chain.Key(h.Epoch); !ok {
			if v.keyless[h.Epoch] {
				return missing{}, true
			}
			need.key = true
		}
	}
	if _, ok := v.SignPub(h.Sender); !ok {
		need.sender = true
	}
	return need, false
}

// misdirected returns why a frame is refused whatever may be fetched for it: it
// is not of the room, nor of the sender whose subject it came by. It must not
// hold back the frames of those that it names.
func (rd *reader) misdirected(w *waitingFrame) error {
	rd.view.mu.RLock()
	defer rd.view.mu.RUnlock()
	h := &w.header
	if h.Suite == rd.view.head.Policy.Suite && h.Room == rd.room.id && h.Sender.Token() == w.sender {
		return nil
	}
	_, err := rd.opener.Open(rd.room.id.Token(), w.sender, w.data)
	return err
}

// waitingFrame is a frame that cannot be opened yet.
type waitingFrame struct {
	rawFrame
	header frame.Header
	need   missing // when it was put aside
	had    missing // was fetched for it, or cannot be had
	err    error   // of that fetch
}

// needs is what several frames need.
type needs struct {
	record  bool
	branch  bool
	epoch   bus.Epoch // the latest whose record is needed
	keys    map[bus.Epoch]bool
	senders map[bus.ID]bus.Epoch // by an epoch that has the sender as a member
}

func newNeeds() needs {
	return needs{keys: map[bus.Epoch]bool{}, senders: map[bus.ID]bus.Epoch{}}
}

func (n *needs) add(h *frame.Header, need missing) {
	if need.record {
		n.record, n.epoch = true, max(n.epoch, h.Epoch)
	}
	n.branch = n.branch || need.branch
	if need.key {
		n.keys[h.Epoch] = true
	}
	if need.sender {
		n.senders[h.Sender] = h.Epoch
	}
}

// wait puts a frame aside until what it needs was fetched. It is false where
// there is no room for it.
func (rd *reader) wait(w waitingFrame, need missing) bool {
	w.need = need
	if !rd.waiting.Add(w, len(w.data)) {
		return false
	}
	rd.waits[sessionKey{w.header.Sender, w.header.Session}] = true
	rd.held += len(w.data)
	// What a member is sure to have is fetched in no time, and members then all
	// read a room in one order. An epoch that nobody has seen may be invented.
	rd.stalled = rd.stalled || need.key || need.sender
	rd.needs.add(&w.header, need)
	return true
}

// startFetch fetches what all frames that wait need, unless a fetch is under
// way: what came during it may need what it did not look for.
func (rd *reader) startFetch() {
	if rd.fetched != nil || rd.waiting.Len() == 0 {
		return
	}
	fetched := make(chan error, 1)
	rd.fetched = fetched
	rd.covered = rd.waiting.Len()
	n := rd.needs
	rd.needs = newNeeds()
	pause := time.Duration(0)
	if n.record || n.branch {
		pause = max(0, fetchPause-time.Since(rd.looked))
		rd.looked = time.Now().Add(pause)
	}
	rd.room.client.spawn(func() {
		if pause == 0 || sleep(rd.ctx, pause) {
			fetched <- rd.room.fetch(rd.ctx, n)
		} else {
			fetched <- rd.ctx.Err()
		}
	})
}

// fetch gets what frames need, as far as it can be had.
func (r *Room) fetch(ctx context.Context, n needs) error {
	var errs []error
	switch {
	case n.branch:
		errs = append(errs, r.sync(ctx))
	case n.record:
		errs = append(errs, r.syncTo(ctx, n.epoch))
	}
	for e := range n.keys {
		errs = append(errs, r.openEarlier(ctx, e))
	}
	for sender, e := range n.senders {
		if rec := r.model.at(e); rec != nil {
			if m, ok := rec.Member(sender); ok {
				errs = append(errs, r.client.learnSigner(ctx, m.ID, m.CardHash))
			}
		}
	}
	return errors.Join(errs...)
}

// retry looks again at the frames that waited. Where the servers could not be
// reached they go on waiting.
func (rd *reader) retry(err error, yield func(*Message, error) bool) bool {
	rd.fetched = nil
	clear(rd.waits)
	rd.held, rd.stalled, rd.needs = 0, false, newNeeds()
	code := bus.CodeOf(err)
	unreached := code == bus.CodeUnavailable || code == bus.CodeTimeout || code == bus.CodeRateLimited
	for i, w := range rd.waiting.Take() {
		if i < rd.covered && !unreached {
			w.had = missing{w.had.record || w.need.record, w.had.key || w.need.key, w.had.sender || w.need.sender, w.had.branch || w.need.branch}
			w.err = err
		}
		if !rd.try(w, yield) {
			return false
		}
	}
	rd.startFetch()
	return true
}
