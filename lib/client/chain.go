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

// sync fetches the records after the head, verifies them, moves the pin and
// then the head. Its errors have the code of the check that failed.
func (r *Room) sync(ctx context.Context) error {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	return r.syncLocked(ctx)
}

// syncTo is sync unless the head has come as far as epoch e already.
func (r *Room) syncTo(ctx context.Context, e bus.Epoch) error {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	if head, _, _ := r.model.current(); head != nil && head.Epoch >= e {
		return nil
	}
	return r.syncLocked(ctx)
}

func (r *Room) syncLocked(ctx context.Context) error {
	for try := 1; ; try++ {
		err := r.advance(ctx)
		if !errors.Is(err, bus.ErrRollback) || try == behindTries || !sleep(ctx, behindPause) {
			r.report(err)
			return err
		}
	}
}

// advance makes one attempt to bring the model up to what the server shows.
func (r *Room) advance(ctx context.Context) error {
	c, chain := r.client, r.model.chain
	var from bus.Epoch
	if head := chain.Head(); head != nil {
		from = head.Epoch + 1
	}
	recs, last, err := r.fetchRecords(ctx, from)
	if err != nil {
		return err
	}
	if from > 0 && len(recs) == 0 && last < chain.Head().Epoch {
		return bus.Errorf(bus.CodeRollback, "read room %s: the server's head is epoch %d, epoch %d was accepted", r.id, last, chain.Head().Epoch)
	}
	if from == 0 && len(recs) == 0 {
		return bus.Errorf(bus.CodeNotFound, "read room %s: the server shows no record", r.id)
	}
	pin, pinned, err := c.pins.Get(ctx, r.id)
	if err != nil {
		return err
	}
	acceptErr := r.acceptAll(ctx, recs, pin, pinned)
	if fork, ok := errors.AsType[*room.ForkError](acceptErr); ok {
		c.keepProof("fork", fork.Known.Bytes(), fork.Other.Bytes())
		if err := r.switchBranch(ctx); err != nil {
			return errors.Join(acceptErr, err)
		}
		acceptErr = nil
	}
	// What was accepted before the failure counts.
	return errors.Join(acceptErr, r.settle(ctx, pin, pinned))
}

// settle moves the pin to the chain's head and then uses it.
func (r *Room) settle(ctx context.Context, pin room.Pin, pinned bool) error {
	head := r.model.chain.Head()
	if head == nil {
		return nil
	}
	before, _, _ := r.model.current()
	if before == head {
		return nil
	}
	if pinned {
		switch rec := r.model.chain.At(pin.Epoch); {
		case rec == nil:
			return bus.Errorf(bus.CodeRollback, "read room %s: the server's head is epoch %d, epoch %d was accepted", r.id, head.Epoch, pin.Epoch)
		case rec.Hash() != pin.Hash && head.Epoch <= pin.Epoch:
			return bus.Errorf(bus.CodeFork, "read room %s: record %d is %s, %s was accepted", r.id, pin.Epoch, rec.Hash(), pin.Hash)
		case rec.Hash() != pin.Hash && before == nil:
			return bus.Errorf(bus.CodeFork, "read room %s: record %d is %s, %s was accepted in an earlier run", r.id, pin.Epoch, rec.Hash(), pin.Hash)
		}
	}
	if err := r.client.pins.Move(ctx, r.id, room.PinOf(head)); err != nil {
		return err
	}
	r.model.advance(r.client.config.Now())
	if before != nil {
		r.announce(before, head)
	}
	return nil
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

// fetchRecords returns the records from an epoch on and the last epoch that the
// server says there is for this member.
func (r *Room) fetchRecords(ctx context.Context, from bus.Epoch) (recs []*room.Record, last bus.Epoch, err error) {
	for {
		var page api.RecordList
		if err := r.client.control.call(ctx, http.MethodGet, api.RecordsFromPath(r.id, from), nil, &page); err != nil {
			return nil, 0, err
		}
		for _, item := range page.Records {
			rec, err := room.ParseRecord(item.Record, item.Members)
			if err != nil {
				return nil, 0, fmt.Errorf("read room %s: %w", r.id, err)
			}
			recs = append(recs, rec)
		}
		if !page.More {
			return recs, page.Head, nil
		}
		if len(page.Records) == 0 {
			return nil, 0, bus.Errorf(bus.CodeMalformed, "read room %s: an empty page promises more", r.id)
		}
		from = recs[len(recs)-1].Epoch + 1
	}
}

// acceptAll feeds records to the chain, each with its key where this member has
// one. Records up to the pin were accepted before: their keys are fetched when
// they are needed.
func (r *Room) acceptAll(ctx context.Context, recs []*room.Record, pin room.Pin, pinned bool) error {
	keys := r.keysByHistory(ctx, recs)
	for i, rec := range recs {
		key, known := keys[rec.Epoch]
		old := pinned && rec.Epoch <= pin.Epoch && i < len(recs)-1
		if _, member := rec.Member(r.client.ID()); !known && member && rec.Policy.Encrypted() && !old {
			// Whether the record may come next at all is to be found out first.
			if mayFollow(rec, r.id, r.model.chain.Head()) {
				var err error
				if key, err = r.openOwn(ctx, rec); err != nil {
					return err
				}
				known = true
			}
		}
		r.model.mu.Lock()
		var err error
		if known {
			err = r.model.chain.AcceptWithKey(rec, key)
		} else {
			err = r.model.chain.Accept(rec)
		}
		r.model.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
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
// it, which saves a request for each record that shares its history. What does
// not open is left to be found out, and reported, one by one.
func (r *Room) keysByHistory(ctx context.Context, recs []*room.Record) map[bus.Epoch]room.Key {
	keys := map[bus.Epoch]room.Key{}
	if len(recs) < 2 {
		return keys
	}
	last := recs[len(recs)-1]
	if _, member := last.Member(r.client.ID()); !member || !last.Policy.Encrypted() {
		return keys
	}
	key, err := r.openOwn(ctx, last)
	if err != nil {
		return keys
	}
	keys[last.Epoch] = key
	for i := len(recs) - 1; i > 0; i-- {
		if key, err = recs[i].OpenHistory(key, recs[i-1]); err != nil {
			return keys
		}
		keys[recs[i-1].Epoch] = key
	}
	return keys
}

// openOwn fetches and opens this member's copy of a record's key.
func (r *Room) openOwn(ctx context.Context, rec *room.Record) (room.Key, error) {
	c := r.client
	var sealed api.SealedKey
	if err := c.control.call(ctx, http.MethodGet, api.KeyPath(r.id, rec.Epoch), nil, &sealed); err != nil {
		return room.Key{}, err
	}
	key, err := rec.OpenKey(c.identity(), sealed.Blob)
	if errors.Is(err, bus.ErrDecrypt) && c.reloadIdentity() {
		// Another process has renewed the identity's keys since.
		key, err = rec.OpenKey(c.identity(), sealed.Blob)
	}
	if err != nil {
		return room.Key{}, fmt.Errorf("read room %s: %w", r.id, err)
	}
	return key, nil
}

// switchBranch changes over to the branch that the server shows, if an owner
// has chosen it.
func (r *Room) switchBranch(ctx context.Context) error {
	recs, _, err := r.fetchRecords(ctx, 0)
	if err != nil {
		return err
	}
	if len(recs) == 0 {
		return bus.Errorf(bus.CodeFork, "read room %s: the server shows no branch", r.id)
	}
	last := recs[len(recs)-1]
	var key *room.Key
	if _, member := last.Member(r.client.ID()); member && last.Policy.Encrypted() {
		k, err := r.openOwn(ctx, last)
		if err != nil {
			return err
		}
		key = &k
	}
	r.model.mu.Lock()
	defer r.model.mu.Unlock()
	if key != nil {
		err = r.model.chain.SwitchWithKey(recs, *key)
	} else {
		err = r.model.chain.Switch(recs)
	}
	if err != nil {
		return err
	}
	clear(r.model.keyless)
	r.client.log.Warn("client", "room", r.id.String(), "resolved_fork_up_to", last.Epoch)
	return nil
}
