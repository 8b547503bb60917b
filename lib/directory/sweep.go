package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

// SweepOrphans deletes what crashes and lost races left behind and nothing
// refers to, once it is older than [OrphanAge]: records that no head leads to,
// with their sealed keys, and claims of handles whose user was never written.
// It returns how many records and claims those were. It may run at any time,
// on several nodes at once.
//
// Whatever is about to be referred to is written anew first, which gives it
// another revision; deleting names the revision that was judged. So nothing
// that came to be used meanwhile is lost.
func (d *Directory) SweepOrphans(ctx context.Context) (n int, err error) {
	before := d.now().Add(-OrphanAge)
	records, err := d.sweepRecords(ctx, before)
	if err != nil {
		return records, fmt.Errorf("sweep records: %w", err)
	}
	claims, err := d.sweepClaims(ctx, before)
	if err != nil {
		return records + claims, fmt.Errorf("sweep handles: %w", err)
	}
	return records + claims, nil
}

// found is a record in the store, as the sweep remembers it.
type found struct {
	epoch bus.Epoch
	old   bool
	rev   store.Revision
}

func (d *Directory) sweepRecords(ctx context.Context, before time.Time) (int, error) {
	rooms, err := d.findRecords(ctx, before)
	if err != nil {
		return 0, err
	}
	n := 0
	for r, records := range rooms {
		orphans, err := d.orphans(ctx, r, records)
		if err != nil {
			return n, err
		}
		for _, h := range orphans {
			deleted, err := d.deleteRecord(ctx, r, h, records[h].rev, before)
			if err != nil {
				return n, err
			}
			if deleted {
				n++
			}
		}
	}
	return n, nil
}

// orphans returns those of a room's records that are old and in no chain.
func (d *Directory) orphans(ctx context.Context, r bus.RoomID, records map[bus.RecordHash]found) ([]bus.RecordHash, error) {
	head, err := d.Head(ctx, r)
	used := &chain{}
	switch {
	case errors.Is(err, bus.ErrNotFound):
	case err != nil:
		return nil, err
	case uint64(len(records)) <= uint64(head.Epoch)+1:
		return nil, nil // no more than the chain itself
	default:
		if used, err = d.chain(ctx, r, head); err != nil {
			return nil, err
		}
	}
	var orphans []bus.RecordHash
	for h, f := range records {
		if f.old && !used.has(Head{f.epoch, h}) {
			orphans = append(orphans, h)
		}
	}
	return orphans, nil
}

// findRecords goes through every record in the store once, keeping of each
// what takes little memory.
func (d *Directory) findRecords(ctx context.Context, before time.Time) (map[bus.RoomID]map[bus.RecordHash]found, error) {
	w, err := d.store.Watch(ctx, store.Records, "")
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	rooms := make(map[bus.RoomID]map[bus.RecordHash]found)
	for e := range w.Events() {
		if e.Synced {
			return rooms, nil
		}
		r, h, err := parseRecordKey(e.Key)
		if err != nil {
			return nil, err
		}
		if e.Deleted {
			delete(rooms[r], h)
			continue
		}
		s, err := decodeStored(e.Value)
		if err != nil {
			return nil, fmt.Errorf("record %s of room %s: %w", h, r, err)
		}
		if rooms[r] == nil {
			rooms[r] = make(map[bus.RecordHash]found)
		}
		rooms[r][h] = found{epoch: s.Epoch, old: s.Stamp.Before(before), rev: e.Revision}
	}
	return nil, w.Err()
}

// deleteRecord deletes an orphan, its sealed keys first: they are found only
// through it. It reports false where the record turned out to be in use again.
func (d *Directory) deleteRecord(ctx context.Context, r bus.RoomID, h bus.RecordHash, rev store.Revision, before time.Time) (bool, error) {
	entry, err := d.store.Get(ctx, store.Records, recordKey(r, h))
	if errors.Is(err, bus.ErrNotFound) || err == nil && entry.Revision != rev {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s, err := decodeStored(entry.Value)
	if err != nil {
		return false, fmt.Errorf("record %s of room %s: %w", h, r, err)
	}
	rec, err := room.ParseRecord(s.Record, s.Members)
	if err != nil {
		return false, fmt.Errorf("record %s of room %s: %w", h, r, errors.Join(corrupt("record"), err))
	}
	for i := range chunks(rec) {
		key := sealedKey(r, h, i)
		entry, err := d.store.Get(ctx, store.Sealed, key)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		k, err := decodeSealedChunk(entry.Value)
		if err != nil {
			return false, fmt.Errorf("%s: %w", key, err)
		}
		if !k.Stamp.Before(before) {
			return false, nil
		}
		if deleted, err := d.drop(ctx, store.Sealed, key, entry.Revision); err != nil || !deleted {
			return false, err
		}
	}
	return d.drop(ctx, store.Records, recordKey(r, h), rev)
}

// sweepClaims reads the claims before the users: a user that is written
// meanwhile renewed its claim before that.
func (d *Directory) sweepClaims(ctx context.Context, before time.Time) (int, error) {
	claims, err := d.store.List(ctx, store.Control, handlesPrefix)
	if err != nil {
		return 0, err
	}
	users, err := d.Users(ctx)
	if err != nil {
		return 0, err
	}
	handles := make(map[bus.SignPub]bus.Handle, len(users))
	for _, u := range users {
		handles[u.SignPub] = u.Handle
	}
	n := 0
	for _, e := range claims {
		c, err := decodeClaim(e.Value)
		if err != nil {
			return n, fmt.Errorf("%s: %w", e.Key, err)
		}
		if h, used := handles[c.sign]; used && h == bus.Handle(strings.TrimPrefix(e.Key, handlesPrefix)) || !c.stamp.Before(before) {
			continue
		}
		deleted, err := d.drop(ctx, store.Control, e.Key, e.Revision)
		if err != nil {
			return n, err
		}
		if deleted {
			n++
		}
	}
	return n, nil
}

// drop deletes an entry unless it has changed. That it is gone is as good, and
// an unknown outcome is for the next sweep.
func (d *Directory) drop(ctx context.Context, b store.Bucket, key string, rev store.Revision) (bool, error) {
	err := d.store.Delete(ctx, b, key, rev)
	if errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrNotFound) || errors.Is(err, bus.ErrUnknownOutcome) {
		return false, nil
	}
	return err == nil, err
}
