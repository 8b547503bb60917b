package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
	"github.com/enmanuel/unibus/lib/wire"
)

// stored is a record as the store keeps it. Beside the signed bytes it has
// what a walk along the chain needs without parsing and verifying them.
type stored struct {
	Stamp   time.Time // when it was last written: what is young is not swept
	Epoch   bus.Epoch
	Prev    bus.RecordHash
	Left    []bus.ID // members of the record before that are no longer in this one, ascending
	Record  []byte
	Members []byte
}

// newStored describes rec, which follows head; head is nil for a first record.
func newStored(rec, head *room.Record, now time.Time) stored {
	s := stored{Stamp: now, Epoch: rec.Epoch, Prev: rec.Prev, Record: rec.Bytes(), Members: rec.MembersBytes()}
	if head != nil {
		for _, m := range head.Members() {
			if _, stays := rec.Member(m.ID); !stays {
				s.Left = append(s.Left, m.ID)
			}
		}
	}
	return s
}

func (s stored) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	wire.AddTime(&b, s.Stamp)
	b.AddUint64(uint64(s.Epoch))
	b.AddBytes(s.Prev[:])
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) {
		for _, id := range s.Left {
			c.AddBytes(id[:])
		}
	})
	b.AddUint24LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(s.Record) })
	b.AddUint24LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(s.Members) })
	return built("record", &b)
}

func decodeStored(value []byte) (stored, error) {
	var (
		r                     stored
		version               uint8
		left, record, members cryptobyte.String
	)
	s := cryptobyte.String(value)
	ok := s.ReadUint8(&version) && version == bus.Version &&
		wire.ReadTime(&s, &r.Stamp) &&
		s.ReadUint64((*uint64)(&r.Epoch)) &&
		s.CopyBytes(r.Prev[:]) &&
		s.ReadUint16LengthPrefixed(&left) && len(left)%len(bus.ID{}) == 0 &&
		s.ReadUint24LengthPrefixed(&record) &&
		s.ReadUint24LengthPrefixed(&members) &&
		s.Empty()
	if !ok {
		return stored{}, corrupt("record")
	}
	for id := range slices.Chunk([]byte(left), len(bus.ID{})) {
		r.Left = append(r.Left, bus.ID(id))
	}
	r.Record, r.Members = record, members
	return r, nil
}

// sealedChunk is the sealed keys of up to [bus.SealedChunk] members, in the
// order of the member list.
type sealedChunk struct {
	Stamp time.Time
	Blobs [][]byte
}

func (k sealedChunk) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	wire.AddTime(&b, k.Stamp)
	for _, blob := range k.Blobs {
		b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(blob) })
	}
	return built("sealed keys", &b)
}

func decodeSealedChunk(value []byte) (sealedChunk, error) {
	var k sealedChunk
	var version uint8
	s := cryptobyte.String(value)
	if !s.ReadUint8(&version) || version != bus.Version || !wire.ReadTime(&s, &k.Stamp) {
		return sealedChunk{}, corrupt("sealed keys")
	}
	for !s.Empty() {
		var blob cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&blob) || len(k.Blobs) == bus.SealedChunk {
			return sealedChunk{}, corrupt("sealed keys")
		}
		k.Blobs = append(k.Blobs, blob)
	}
	return k, nil
}

// chunks is how many sealed chunks a record has.
func chunks(rec *room.Record) int {
	if !rec.Policy.Encrypted() {
		return 0
	}
	return (rec.MemberCount() + bus.SealedChunk - 1) / bus.SealedChunk
}

// writeRecord stores a record and its sealed keys. The record comes first and
// is swept last, so that every chunk is found through its record.
func (d *Directory) writeRecord(ctx context.Context, rec, head *room.Record, sealed []room.Sealed) error {
	s := newStored(rec, head, d.seconds())
	err := d.putStamped(ctx, store.Records, recordKey(rec.Room, rec.Hash()), s.encode, sameRecord)
	if err != nil {
		return err
	}
	i := 0
	for part := range slices.Chunk(sealed, bus.SealedChunk) {
		k := sealedChunk{Stamp: s.Stamp}
		for _, c := range part {
			k.Blobs = append(k.Blobs, c.Blob)
		}
		if err := d.putStamped(ctx, store.Sealed, sealedKey(rec.Room, rec.Hash(), i), k.encode, sameChunk); err != nil {
			return err
		}
		i++
	}
	return nil
}

// putStamped stores what its key determines but for its stamp. What an earlier
// attempt stored gets the new stamp, and with it a new revision: a sweep that
// took it for an orphan can no longer delete it.
func (d *Directory) putStamped(ctx context.Context, b store.Bucket, key string, encode func() ([]byte, error), same func(a, b []byte) bool) error {
	value, err := encode()
	if err != nil {
		return err
	}
	for range attempts {
		_, err := d.create(ctx, b, key, value, 0)
		l, exists := errors.AsType[*lost](err)
		if !exists {
			return err
		}
		if !same(l.current.Value, value) {
			return fmt.Errorf("write %s in %s: %w", key, b, corrupt("what was there"))
		}
		_, err = d.update(ctx, b, key, value, l.current.Revision)
		if _, raced := errors.AsType[*lost](err); !raced {
			return err
		}
	}
	return busy("write " + key)
}

func sameRecord(a, b []byte) bool {
	x, errX := decodeStored(a)
	y, errY := decodeStored(b)
	return errX == nil && errY == nil && x.Epoch == y.Epoch && x.Prev == y.Prev && slices.Equal(x.Left, y.Left) &&
		bytes.Equal(x.Record, y.Record) && bytes.Equal(x.Members, y.Members)
}

func sameChunk(a, b []byte) bool {
	x, errX := decodeSealedChunk(a)
	y, errY := decodeSealedChunk(b)
	return errX == nil && errY == nil && slices.EqualFunc(x.Blobs, y.Blobs, bytes.Equal)
}

// readStored reads a record that must be there. One that is missing is an
// internal error: a head, or a record after it, names it.
func (d *Directory) readStored(ctx context.Context, r bus.RoomID, h bus.RecordHash) (stored, error) {
	entry, err := d.store.Get(ctx, store.Records, recordKey(r, h))
	if errors.Is(err, bus.ErrNotFound) {
		return stored{}, bus.Errorf(bus.CodeInternal, "read record %s of room %s: it is gone", h, r)
	}
	if err != nil {
		return stored{}, fmt.Errorf("read record %s of room %s: %w", h, r, err)
	}
	s, err := decodeStored(entry.Value)
	if err != nil {
		return stored{}, fmt.Errorf("read record %s of room %s: %w", h, r, err)
	}
	return s, nil
}

// loadRecord reads and verifies a record that must be there.
func (d *Directory) loadRecord(ctx context.Context, r bus.RoomID, h bus.RecordHash) (*room.Record, error) {
	s, err := d.readStored(ctx, r, h)
	if err != nil {
		return nil, err
	}
	rec, err := room.ParseRecord(s.Record, s.Members)
	if err != nil || rec.Room != r || rec.Hash() != h || rec.Epoch != s.Epoch {
		return nil, fmt.Errorf("read record %s of room %s: %w", h, r, errors.Join(corrupt("record"), err))
	}
	return rec, nil
}
