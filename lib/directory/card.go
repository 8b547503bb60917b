package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store"
	"github.com/enmanuel/unibus/lib/wire"
)

// CardRef is the latest card of an identity without its encryption key: what
// a server works with, small enough to keep for everybody.
type CardRef struct {
	ID           bus.ID
	Hash         bus.CardHash
	Seq          uint64
	TransportPub bus.TransportPub
	NotBefore    time.Time
	NotAfter     time.Time
}

// PutCard makes a card the latest of its identity. The same card again changes
// nothing. That whoever brings it holds its transport key is for the caller to
// have seen.
//
// Errors have [bus.CodeForbidden] where the identity is no user of the bus and
// [bus.CodeRevoked] where it no longer is, [bus.CodeWrongBus],
// [bus.CodeExpired], [bus.CodeRollback] for a number below the latest and
// [bus.CodeCardFork] for another card of the same number.
func (d *Directory) PutCard(ctx context.Context, c *identity.Card) error {
	if err := d.putCard(ctx, c); err != nil {
		return fmt.Errorf("put card %d of %s: %w", c.Seq, c.ID(), err)
	}
	return nil
}

func (d *Directory) putCard(ctx context.Context, c *identity.Card) error {
	if c.BusID != d.bus {
		return bus.Errorf(bus.CodeWrongBus, "it is of bus %s", c.BusID)
	}
	if err := c.CheckTime(d.now()); err != nil {
		return err
	}
	switch u, err := d.User(ctx, c.SignPub); {
	case errors.Is(err, bus.ErrNotFound):
		return bus.Errorf(bus.CodeForbidden, "no user of this bus")
	case err != nil:
		return err
	case !u.Active():
		return bus.Errorf(bus.CodeRevoked, "user %s was revoked", u.Handle)
	}
	value, err := encodeLatest(refOf(c))
	if err != nil {
		return err
	}
	key := latestCardKey(c.ID())
	for range attempts {
		entry, err := d.store.Get(ctx, store.Control, key)
		switch {
		case err == nil:
			var newer bool
			if newer, err = d.compareCard(entry, c); err != nil || !newer {
				return err
			}
		case !errors.Is(err, bus.ErrNotFound):
			return err
		}
		// The card itself comes first: whoever sees that it is the latest can read it.
		if err := d.storeCard(ctx, c); err != nil {
			return err
		}
		if entry.Revision == 0 {
			_, err = d.create(ctx, store.Control, key, value, 0)
		} else {
			_, err = d.update(ctx, store.Control, key, value, entry.Revision)
		}
		if _, raced := errors.AsType[*lost](err); !raced {
			return err
		}
	}
	return busy("put card")
}

// compareCard reports whether c is newer than the latest card in entry, and
// refuses it unless it is that or the same.
func (d *Directory) compareCard(entry store.Entry, c *identity.Card) (newer bool, err error) {
	latest, err := decodeLatest(c.ID(), entry.Value)
	switch {
	case err != nil:
		return false, err
	case c.Seq < latest.Seq:
		return false, bus.Errorf(bus.CodeRollback, "card %d was put before", latest.Seq)
	case c.Seq > latest.Seq:
		return true, nil
	case c.Hash() != latest.Hash:
		return false, bus.Errorf(bus.CodeCardFork, "another card has that number")
	}
	d.rest(store.Control, entry.Revision)
	return false, nil
}

func (d *Directory) storeCard(ctx context.Context, c *identity.Card) error {
	value, err := encodeCard(c.SignPub, c.Bytes())
	if err != nil {
		return err
	}
	_, err = d.create(ctx, store.Control, cardKey(c.ID(), c.Hash()), value, 0)
	return err // never lost: the hash in the key fixes the value
}

// Card returns the latest card of an identity, expired or not. The error has
// [bus.CodeNotFound] where there is none.
func (d *Directory) Card(ctx context.Context, id bus.ID) (*identity.Card, error) {
	entry, err := d.store.Get(ctx, store.Control, latestCardKey(id))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, bus.Errorf(bus.CodeNotFound, "read latest card: %s has published none yet", id)
	}
	if err != nil {
		return nil, fmt.Errorf("read latest card of %s: %w", id, err)
	}
	latest, err := decodeLatest(id, entry.Value)
	if err != nil {
		return nil, fmt.Errorf("read latest card of %s: %w", id, err)
	}
	return d.CardByHash(ctx, id, latest.Hash)
}

// CardByHash returns any card that an identity ever had here. The error has
// [bus.CodeNotFound] where there is none of that hash.
func (d *Directory) CardByHash(ctx context.Context, id bus.ID, h bus.CardHash) (*identity.Card, error) {
	_, raw, err := d.readCard(ctx, id, h)
	if err != nil {
		return nil, err
	}
	c, err := identity.ParseCard(raw)
	if err != nil || c.Hash() != h || c.ID() != id {
		return nil, fmt.Errorf("read card %s of %s: %w", h, id, errors.Join(corrupt("card"), err))
	}
	return c, nil
}

// readCard returns a card's bytes and whose it is without the cost of
// verifying it again.
func (d *Directory) readCard(ctx context.Context, id bus.ID, h bus.CardHash) (bus.SignPub, []byte, error) {
	entry, err := d.store.Get(ctx, store.Control, cardKey(id, h))
	if err != nil {
		return bus.SignPub{}, nil, fmt.Errorf("read card %s of %s: %w", h, id, err)
	}
	sign, raw, err := decodeCard(entry.Value)
	if err != nil {
		return bus.SignPub{}, nil, fmt.Errorf("read card %s of %s: %w", h, id, err)
	}
	return sign, raw, nil
}

func refOf(c *identity.Card) CardRef {
	return CardRef{
		ID: c.ID(), Hash: c.Hash(), Seq: c.Seq,
		TransportPub: c.TransportPub, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
}

func encodeLatest(c CardRef) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddBytes(c.Hash[:])
	b.AddUint64(c.Seq)
	b.AddBytes(c.TransportPub[:])
	wire.AddTime(&b, c.NotBefore)
	wire.AddTime(&b, c.NotAfter)
	return built("latest card", &b)
}

func decodeLatest(id bus.ID, value []byte) (CardRef, error) {
	c := CardRef{ID: id}
	var version uint8
	s := cryptobyte.String(value)
	ok := s.ReadUint8(&version) && version == bus.Version &&
		s.CopyBytes(c.Hash[:]) &&
		s.ReadUint64(&c.Seq) &&
		s.CopyBytes(c.TransportPub[:]) &&
		wire.ReadTime(&s, &c.NotBefore) &&
		wire.ReadTime(&s, &c.NotAfter) &&
		s.Empty()
	if !ok {
		return CardRef{}, corrupt("latest card")
	}
	return c, nil
}

func encodeCard(sign bus.SignPub, raw []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddBytes(sign[:])
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(raw) })
	return built("card", &b)
}

func decodeCard(value []byte) (sign bus.SignPub, raw []byte, err error) {
	var version uint8
	var card cryptobyte.String
	s := cryptobyte.String(value)
	if !s.ReadUint8(&version) || version != bus.Version || !s.CopyBytes(sign[:]) ||
		!s.ReadUint16LengthPrefixed(&card) || !s.Empty() {
		return bus.SignPub{}, nil, corrupt("card")
	}
	return sign, card, nil
}
