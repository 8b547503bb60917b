package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// A server that shows less than is known may only be behind its peers, as
// right after one of them died. It is asked again before it is called a liar.
const (
	behindTries = 4
	behindPause = 250 * time.Millisecond
)

// maxRecordsAtOnce is how many records are accepted before they are put to use,
// unless the pin is further on: what a server can have a client hold on to that
// came to nothing is bounded.
const maxRecordsAtOnce = 1024

// sync fetches the records after the head, verifies them, moves the pin and
// then the head. Its errors have the code of the check that failed, or
// [bus.CodeTimeout] where ctx ended while somebody else was at it.
func (r *Room) sync(ctx context.Context) error {
	if err := r.model.syncing.enter(ctx); err != nil {
		return err
	}
	defer r.model.syncing.leave()
	return r.syncHeld(ctx)
}

// syncTo is sync unless the head has come as far as epoch e already.
func (r *Room) syncTo(ctx context.Context, e bus.Epoch) error {
	if err := r.model.syncing.enter(ctx); err != nil {
		return err
	}
	defer r.model.syncing.leave()
	if head, _, _ := r.model.current(); head != nil && head.Epoch >= e {
		return nil
	}
	return r.syncHeld(ctx)
}

func (r *Room) syncHeld(ctx context.Context) error {
	for try := 1; ; {
		more, err := r.advance(ctx)
		if err == nil && more {
			continue
		}
		behind := errors.Is(err, bus.ErrRollback) && !errors.Is(err, bus.ErrUnavailable)
		if behind && try < behindTries && sleep(ctx, behindPause) {
			try++
			continue
		}
		r.report(err)
		r.model.judge(err)
		return err
	}
}

// advance is one attempt to bring a room up to what the server shows. It works
// on a copy of the chain: what was accepted is used, and is there for the next
// attempt, only once the pin has moved to it.
type advance struct {
	room   *Room
	chain  *room.Chain // the model's, and what was accepted since
	pin    room.Pin    // before anything was fetched: the server must know it
	pinned bool
	left   *room.Chain // the branch that a resolved fork ended, nil without one
	more   bool        // the server has shown a part of what it has
	leftAt bus.Epoch   // of the first record that was left, here or by the pin alone; 0 without one
}

func (r *Room) advance(ctx context.Context) (more bool, err error) {
	a := &advance{room: r, chain: r.model.chain.Clone()}
	if r.of != nil {
		return a.look(ctx)
	}
	if a.pin, a.pinned, err = r.client.pins.Get(ctx, r.id); err != nil {
		return false, err
	}
	err = a.extend(ctx)
	if _, fork := errors.AsType[*room.ForkError](err); fork {
		if switchErr := a.switchBranch(ctx); switchErr != nil {
			err = errors.Join(err, switchErr)
		} else {
			err = nil
		}
	}
	if head, _, _ := r.model.current(); err != nil && head == nil && a.behindPin() {
		return false, err // a part of what was accepted in an earlier run is of no use
	}
	// What was accepted before the failure counts.
	return a.more, errors.Join(err, a.settle(ctx))
}

// look brings a room that only looks at what servers show up to that.
func (a *advance) look(ctx context.Context) (more bool, err error) {
	if a.pin, a.pinned, err = a.room.client.pins.Get(ctx, a.room.id); err != nil {
		return false, err
	}
	err = a.extend(ctx)
	if head := a.chain.Head(); head != nil {
		a.room.model.install(a.chain, false, a.room.client.config.Now())
	}
	return a.more, err
}

// behindPin reports whether the chain has not come as far as the pin.
func (a *advance) behindPin() bool {
	head := a.chain.Head()
	return a.pinned && (head == nil || head.Epoch < a.pin.Epoch)
}

// settle moves the pin to the chain's head and then puts the chain to use.
func (a *advance) settle(ctx context.Context) error {
	r, head := a.room, a.chain.Head()
	if head == nil {
		return nil
	}
	before, _, _ := r.model.current()
	if before != head || !a.pinned || a.pin != room.PinOf(head) {
		// Also without anything new: another process may have gone elsewhere.
		if err := r.client.pins.Move(ctx, r.id, room.PinOf(head), a.allow); err != nil {
			return a.refused(err)
		}
		if err := r.keepLineage(ctx, a.chain); err != nil {
			return err
		}
	}
	if before == head {
		return nil
	}
	r.model.install(a.chain, a.left != nil, r.client.config.Now())
	if a.leftAt > 0 {
		r.announceSwitch(a.leftAt, a.chain)
	}
	if before != nil {
		r.announce(before, head)
	}
	return nil
}

// refused says why the pin did not move. A server that shows an older epoch of
// another branch is not only behind.
func (a *advance) refused(err error) error {
	r := a.room
	code, head := bus.CodeOf(err), a.chain.Head()
	if code != bus.CodeRollback && code != bus.CodeFork {
		return fmt.Errorf("read room %s: %w", r.id, err)
	}
	l, readErr := r.lineageFile().read()
	if readErr != nil {
		return readErr
	}
	switch at, left := l.leaves(a.chain); {
	case left && a.chain.At(at.Epoch) != nil:
		err = bus.Errorf(bus.CodeFork, "read room %s: record %d was accepted as %s, and the servers show another branch, up to epoch %d", r.id, at.Epoch, at.Hash, head.Epoch)
	case code == bus.CodeRollback && l.Epoch > head.Epoch:
		err = bus.Errorf(bus.CodeRollback, "read room %s: the server's head is epoch %d, epoch %d was accepted", r.id, head.Epoch, l.Epoch)
	default:
		err = fmt.Errorf("read room %s: %w", r.id, err)
	}
	return &pinError{err}
}

// allow refuses to go on from a pin that the chain does not contain, unless it
// is on the branch that a resolved fork has just ended, of which this process may
// have no record.
func (a *advance) allow(pin room.Pin) error {
	if contains(a.chain, pin) || a.left != nil && contains(a.left, pin) {
		return nil
	}
	l, err := a.room.lineageFile().read()
	if err != nil {
		return err
	}
	if l.has(pin) && l.givenUp(a.chain) {
		if at, _ := l.leaves(a.chain); a.leftAt == 0 || at.Epoch < a.leftAt {
			a.leftAt = at.Epoch
		}
		return nil
	}
	return bus.Errorf(bus.CodeFork, "record %d was accepted as %s, which the server's head %d does not follow", pin.Epoch, pin.Hash, a.chain.Head().Epoch)
}

func contains(c *room.Chain, pin room.Pin) bool {
	rec := c.At(pin.Epoch)
	return rec != nil && rec.Hash() == pin.Hash
}

// pinError is that the head of this process is not on the way that another
// process, or an earlier run, has gone.
type pinError struct{ err error }

func (e *pinError) Error() string { return e.err.Error() }
func (e *pinError) Unwrap() error { return e.err }

// extend accepts what the server shows after the chain's head, page by page.
func (a *advance) extend(ctx context.Context) error {
	r := a.room
	for accepted := 0; ; {
		var from bus.Epoch
		if head := a.chain.Head(); head != nil {
			from = head.Epoch + 1
		}
		page, err := r.fetchPage(ctx, from)
		if err == nil {
			page, err = a.openable(ctx, page)
		}
		switch {
		case err != nil:
			return err
		case len(page.recs) > 0:
		case from == 0:
			return bus.Errorf(bus.CodeNotFound, "read room %s: the server shows no record", r.id)
		case page.last.Epoch < from-1 || !page.last.Hash.IsZero() && page.last.Hash != a.chain.Head().Hash():
			return a.nothingNew(ctx, page.last)
		}
		if err := a.accept(ctx, page); err != nil {
			return err
		}
		if !page.more {
			return nil
		}
		accepted += len(page.recs)
		if accepted >= maxRecordsAtOnce && !a.behindPin() {
			a.more = true
			return nil
		}
	}
}

// nothingNew says what it means that the server shows nothing after the head, and
// another record as its last one.
func (a *advance) nothingNew(ctx context.Context, last room.Pin) error {
	r, head := a.room, a.chain.Head()
	page, err := r.fetchPage(ctx, last.Epoch)
	if err != nil {
		return err
	}
	if known := a.chain.At(last.Epoch); len(page.recs) > 0 && known != nil && page.recs[0].Hash() != known.Hash() {
		if err := a.chain.Accept(page.recs[0]); err != nil {
			return err
		}
	}
	if last.Epoch < head.Epoch {
		return bus.Errorf(bus.CodeRollback, "read room %s: the server's head is epoch %d, epoch %d was accepted", r.id, last.Epoch, head.Epoch)
	}
	return bus.Errorf(bus.CodeMalformed, "read room %s: the server names %s as record %d and shows another", r.id, last.Hash, last.Epoch)
}

// announce tells what changed between two heads.
func (r *Room) announce(before, head *room.Record) {
	me := r.client.ID()
	r.client.events.raise(EventEpoch, r.id, nil, fmt.Sprintf("epoch %d", head.Epoch))
	_, was := before.Member(me)
	if _, is := head.Member(me); was && !is {
		r.client.events.raise(EventRemoved, r.id, nil, fmt.Sprintf("removed by record %d", head.Epoch))
	}
}

// report raises an event for a failure that is somebody's doing.
func (r *Room) report(err error) {
	switch code := bus.CodeOf(err); code {
	case bus.CodeRollback, bus.CodeFork, bus.CodeGap, bus.CodeEquivocation, bus.CodeMalformed, bus.CodeBadSignature,
		bus.CodeNotAuthority, bus.CodeTransition, bus.CodeMembersMismatch, bus.CodeSealedMismatch, bus.CodeKeyMismatch,
		bus.CodeDecrypt, bus.CodeCardMismatch, bus.CodeCardFork, bus.CodeWeakKey, bus.CodeWrongBus, bus.CodeMisrouted, bus.CodePolicy:
		r.client.events.raise(EventSecurity, r.id, err, "")
	}
}

// recordPage is a part of a room's records, in order and without a hole.
type recordPage struct {
	recs []*room.Record
	last room.Pin // that the server says there is for this member; its hash may be missing
	more bool     // there are records after these; then recs is not empty
}

// fetchPage returns records from an epoch on. Each can be read and is of the
// epoch it is to be of; nothing else is known of them.
func (r *Room) fetchPage(ctx context.Context, from bus.Epoch) (recordPage, error) {
	var list api.RecordList
	if err := r.client.control.call(ctx, http.MethodGet, api.RecordsFromPath(r.id, from), nil, &list); err != nil {
		return recordPage{}, err
	}
	page := recordPage{last: room.Pin{Epoch: list.Head, Hash: list.Hash}, more: list.More}
	for i, item := range list.Records {
		rec, err := room.ParseRecord(item.Record, item.Members)
		if err != nil {
			return recordPage{}, fmt.Errorf("read room %s: %w", r.id, err)
		}
		if want := from + bus.Epoch(i); rec.Epoch != want {
			return recordPage{}, bus.Errorf(bus.CodeMalformed, "read room %s: the server sent record %d where record %d belongs", r.id, rec.Epoch, want)
		}
		page.recs = append(page.recs, rec)
	}
	if page.more && len(page.recs) == 0 {
		return recordPage{}, bus.Errorf(bus.CodeMalformed, "read room %s: an empty page promises more", r.id)
	}
	return page, nil
}

// openable adds what follows to a page whose last key is sealed to an older HPKE
// key than this member has: the history of a later record leads to it.
func (a *advance) openable(ctx context.Context, page recordPage) (recordPage, error) {
	r := a.room
	for page.more && len(page.recs) < maxRecordsAtOnce {
		last := page.recs[len(page.recs)-1]
		if _, member := last.Member(r.client.ID()); !member || !last.Policy.Encrypted() || a.pinned && last.Epoch <= a.pin.Epoch {
			break
		}
		if _, err := r.openOwn(ctx, last); !errors.Is(err, bus.ErrDecrypt) {
			break // whatever else is wrong shows when the record's turn comes
		}
		next, err := r.fetchPage(ctx, last.Epoch+1)
		if err != nil {
			return page, err
		}
		if page.last, page.more = next.last, next.more; len(next.recs) == 0 {
			break
		}
		page.recs = append(page.recs, next.recs...)
	}
	return page, nil
}

// accept feeds a page to the chain, each record with its key where this member
// has one. Records up to the pin were accepted before: their keys are fetched
// when they are needed, but for the last one's.
func (a *advance) accept(ctx context.Context, page recordPage) error {
	r := a.room
	old := func(i int) bool {
		return a.pinned && page.recs[i].Epoch <= a.pin.Epoch && (page.more || i < len(page.recs)-1)
	}
	keys := map[bus.Epoch]room.Key{}
	if n := len(page.recs); n > 0 && !old(n-1) {
		keys = r.keysByHistory(ctx, page.recs, old)
	}
	for i, rec := range page.recs {
		key, known := keys[rec.Epoch]
		if _, member := rec.Member(r.client.ID()); !known && member && rec.Policy.Encrypted() && !old(i) {
			// Whether the record may come next at all is to be found out first.
			if mayFollow(rec, r.id, a.chain.Head()) {
				var err error
				if key, err = r.openOwn(ctx, rec); err != nil {
					return withoutKey(err)
				}
				known = true
			}
		}
		var err error
		if known {
			err = a.chain.AcceptWithKey(rec, key)
		} else {
			err = a.chain.Accept(rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unopenedError is that the next record is there and allowed, and that the
// server gave no key for it that this member can use.
type unopenedError struct{ err error }

func (e *unopenedError) Error() string { return e.err.Error() }
func (e *unopenedError) Unwrap() error { return e.err }

// withoutKey marks the failure to open the key of a record that may come next,
// unless the server could not be asked, which says nothing about it.
func withoutKey(err error) error {
	switch bus.CodeOf(err) {
	case bus.CodeUnavailable, bus.CodeTimeout, bus.CodeRateLimited, bus.CodeClosed, bus.CodeInternal:
		return err
	}
	return &unopenedError{err}
}

// mayFollow reports whether a chain with this head would accept rec, its key
// aside. Where it would not, the chain says why.
func mayFollow(rec *room.Record, id bus.RoomID, head *room.Record) bool {
	if head == nil {
		return rec.Room == id && room.CheckGenesis(rec) == nil
	}
	return rec.Follows(head) == nil
}

// keysByHistory opens the own copy of the last record's key and walks back from
// it, which saves a request for each record that shares its history. Where that
// does not lead on, as after a time without history, the own copy of the record
// before does, down to those that are old: earlier keys may have been sealed again
// as its history only. What does not open is left to be found out, and reported,
// one by one.
func (r *Room) keysByHistory(ctx context.Context, recs []*room.Record, old func(int) bool) map[bus.Epoch]room.Key {
	keys := map[bus.Epoch]room.Key{}
	if len(recs) < 2 {
		return keys
	}
	for i := len(recs) - 1; i >= 0; i-- {
		rec := recs[i]
		if i+1 < len(recs) {
			if after, known := keys[rec.Epoch+1]; known {
				if key, err := recs[i+1].OpenHistory(after, rec); err == nil {
					keys[rec.Epoch] = key
					continue
				}
			}
		}
		if old(i) {
			return keys
		}
		if _, member := rec.Member(r.client.ID()); !member || !rec.Policy.Encrypted() {
			continue
		}
		key, err := r.openOwn(ctx, rec)
		if err != nil {
			return keys
		}
		keys[rec.Epoch] = key
	}
	return keys
}

// openOwn fetches and opens this member's copy of a record's key.
func (r *Room) openOwn(ctx context.Context, rec *room.Record) (room.Key, error) {
	c := r.client
	sealed, err := r.fetchCopy(ctx, rec.Epoch)
	if err != nil {
		return room.Key{}, err
	}
	key, err := openCopy(c.identity(), rec, sealed)
	if errors.Is(err, bus.ErrDecrypt) && c.reloadIdentity() {
		// Another process has renewed the identity's keys since.
		key, err = openCopy(c.identity(), rec, sealed)
	}
	m, _ := rec.Member(c.ID())
	if errors.Is(err, bus.ErrDecrypt) && sealed.Card == nil && m.CardHash != c.card().Hash() {
		err = fmt.Errorf("the copy shown is for an older card; if it was sealed again to a later one, that is withheld: %w", err)
	}
	if err != nil && sealed.Card != nil {
		// What was sealed again may be of a newer identity than this one, or no
		// key at all. The original, which is signed, is still there.
		key, err = r.openOriginal(ctx, rec, err)
	}
	if err != nil {
		return room.Key{}, fmt.Errorf("read room %s: %w", r.id, err)
	}
	return key, nil
}

// openOriginal opens the copy that the record itself names, where the newer one
// did not open for a reason.
func (r *Room) openOriginal(ctx context.Context, rec *room.Record, reason error) (room.Key, error) {
	c := r.client
	m, _ := rec.Member(c.ID())
	var sealed api.SealedKey
	if err := c.control.call(ctx, http.MethodGet, api.KeyByCardPath(r.id, rec.Epoch, m.CardHash), nil, &sealed); err != nil {
		return room.Key{}, err
	}
	key, err := rec.OpenKey(c.identity(), sealed.Blob)
	if err != nil {
		return room.Key{}, fmt.Errorf("%w; and what was sealed again: %v", err, reason)
	}
	return key, nil
}
