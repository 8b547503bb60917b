package directory

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

// SealedKey is a member's own sealed copy of an epoch's key.
type SealedKey struct {
	Blob  []byte
	Card  bus.CardHash // it is sealed to
	Again bool         // by the member itself, after the record was made
}

// SealedKey returns a member's own sealed copy of an epoch's key: the one that is
// sealed to a card or, for the zero hash, the newest. The error has
// [bus.CodeForbidden] where the reader never was a member or there is no such
// room, [bus.CodeEpochUnknown] for an epoch that it may not read or that there
// is not, and [bus.CodeNotFound] where the epoch has no key for it, or none that
// is sealed to the card.
func (d *Directory) SealedKey(ctx context.Context, r bus.RoomID, epoch bus.Epoch, reader bus.ID, card bus.CardHash) (SealedKey, error) {
	rec, m, err := d.keyedRecord(ctx, r, epoch, reader)
	if err != nil {
		return SealedKey{}, fmt.Errorf("read sealed key: %w", err)
	}
	if card != m.CardHash {
		k, err := d.readResealed(ctx, rec, reader)
		switch {
		case err == nil && (card.IsZero() || card == k.card):
			return SealedKey{k.blob, k.card, true}, nil
		case err == nil || errors.Is(err, bus.ErrNotFound):
			if !card.IsZero() {
				return SealedKey{}, bus.Errorf(bus.CodeNotFound, "read sealed key of epoch %d: there is none for card %s", epoch, card)
			}
		default:
			return SealedKey{}, fmt.Errorf("read sealed key of epoch %d: %w", epoch, err)
		}
	}
	blob, err := d.readSealed(ctx, rec, reader)
	if err != nil {
		return SealedKey{}, fmt.Errorf("read sealed key of epoch %d: %w", epoch, err)
	}
	return SealedKey{blob, m.CardHash, false}, nil
}

// keyedRecord returns the record of an epoch that a member may have the key of,
// and its place in it.
func (d *Directory) keyedRecord(ctx context.Context, r bus.RoomID, epoch bus.Epoch, reader bus.ID) (*room.Record, room.Member, error) {
	c, last, err := d.readable(ctx, r, reader)
	if err != nil {
		return nil, room.Member{}, err
	}
	if epoch > last {
		return nil, room.Member{}, bus.Errorf(bus.CodeEpochUnknown, "the room has no epoch %d", epoch)
	}
	rec, err := d.loadRecord(ctx, r, c.hashes[epoch])
	if err != nil {
		return nil, room.Member{}, err
	}
	m, ok := rec.Member(reader)
	switch {
	case !rec.Policy.Encrypted():
		return nil, room.Member{}, bus.Errorf(bus.CodeNotFound, "the room is not encrypted")
	case !ok:
		return nil, room.Member{}, bus.Errorf(bus.CodeNotFound, "%s was no member in epoch %d", reader, epoch)
	}
	return rec, m, nil
}

// PutResealed keeps a member's copy of an epoch's key that it has sealed again,
// to a card of its own that is known here, beside the one in the record and in
// place of one for an earlier card. What is in it only the member can tell.
//
// Errors are those of [Directory.SealedKey], [bus.CodeTooLarge],
// [bus.CodeCardMismatch] for a card that is not known here as the member's, and
// [bus.CodeRollback] where a copy for a later card is kept.
func (d *Directory) PutResealed(ctx context.Context, r bus.RoomID, epoch bus.Epoch, member bus.ID, card bus.CardHash, blob []byte) error {
	if err := d.putResealed(ctx, r, epoch, member, card, blob); err != nil {
		return fmt.Errorf("put sealed key of epoch %d: %w", epoch, err)
	}
	return nil
}

func (d *Directory) putResealed(ctx context.Context, r bus.RoomID, epoch bus.Epoch, member bus.ID, card bus.CardHash, blob []byte) error {
	if len(blob) > bus.MaxSealedSize {
		return bus.Errorf(bus.CodeTooLarge, "it has %d bytes, at most %d", len(blob), bus.MaxSealedSize)
	}
	rec, _, err := d.keyedRecord(ctx, r, epoch, member)
	if err != nil {
		return err
	}
	c, err := d.CardByHash(ctx, member, card)
	if errors.Is(err, bus.ErrNotFound) {
		return bus.Errorf(bus.CodeCardMismatch, "card %s is not known here as one of %s", card, member)
	}
	if err != nil {
		return err
	}
	next := resealed{seq: c.Seq, card: card, blob: blob}
	value, err := next.encode()
	if err != nil {
		return err
	}
	key := resealedKey(r, rec.Hash(), member)
	for range attempts {
		_, err := d.create(ctx, store.Sealed, key, value, 0)
		l, exists := errors.AsType[*lost](err)
		if !exists {
			return err
		}
		current, err := decodeResealed(l.current.Value)
		if err != nil {
			return err
		}
		if current.seq > next.seq {
			return bus.Errorf(bus.CodeRollback, "one for card %d is kept, this is for card %d", current.seq, next.seq)
		}
		_, err = d.update(ctx, store.Sealed, key, value, l.current.Revision)
		if _, raced := errors.AsType[*lost](err); !raced {
			return err
		}
	}
	return busy("put sealed key")
}

func (d *Directory) readResealed(ctx context.Context, rec *room.Record, member bus.ID) (resealed, error) {
	entry, err := d.store.Get(ctx, store.Sealed, resealedKey(rec.Room, rec.Hash(), member))
	if err != nil {
		return resealed{}, err
	}
	return decodeResealed(entry.Value)
}

// resealed is what the store keeps of a key that was sealed again.
type resealed struct {
	seq  uint64 // number of the card
	card bus.CardHash
	blob []byte
}

func (k resealed) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddUint64(k.seq)
	b.AddBytes(k.card[:])
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(k.blob) })
	return built("sealed key", &b)
}

func decodeResealed(value []byte) (resealed, error) {
	var k resealed
	var version uint8
	var blob cryptobyte.String
	s := cryptobyte.String(value)
	if !s.ReadUint8(&version) || version != bus.Version || !s.ReadUint64(&k.seq) || !s.CopyBytes(k.card[:]) ||
		!s.ReadUint16LengthPrefixed(&blob) || !s.Empty() {
		return resealed{}, corrupt("sealed key")
	}
	k.blob = blob
	return k, nil
}
