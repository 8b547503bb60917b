package client

import (
	"context"
	"fmt"
	"slices"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/durable"
	"github.com/enmanuel/unibus/lib/room"
)

// maxLineage is how many records before the head pin a lineage names. A fork that
// began earlier is one that nobody noticed for so many epochs.
const maxLineage = 256

// lineage is the way that led to a room's head pin, kept beside it. A process that
// starts where an owner has given that way up has none of its records any more, and
// could not tell an owner's choice from a server's lie without it.
type lineage struct {
	V      int              `json:"v"`
	Epoch  bus.Epoch        `json:"epoch"`  // of the last hash
	Hashes []bus.RecordHash `json:"hashes"` // of consecutive records
	Owners []bus.ID         `json:"owners"` // in the last record
}

// lineageOf returns the lineage of a chain's head.
func lineageOf(c *room.Chain) lineage {
	head := c.Head()
	l := lineage{V: 1, Epoch: head.Epoch, Owners: ownersOf(head)}
	first := bus.Epoch(0)
	if head.Epoch >= maxLineage {
		first = head.Epoch - maxLineage + 1
	}
	for e := first; e <= head.Epoch; e++ {
		l.Hashes = append(l.Hashes, c.At(e).Hash())
	}
	return l
}

func ownersOf(rec *room.Record) []bus.ID {
	var owners []bus.ID
	for _, a := range rec.Authorities {
		if a.Role == bus.RoleOwner {
			owners = append(owners, identity.IDOf(a.SignPub))
		}
	}
	return owners
}

// first returns the epoch of the first hash.
func (l *lineage) first() bus.Epoch { return l.Epoch + 1 - bus.Epoch(len(l.Hashes)) }

// at returns the hash of an epoch's record and whether it is known.
func (l *lineage) at(e bus.Epoch) (bus.RecordHash, bool) {
	if len(l.Hashes) == 0 || e > l.Epoch || e < l.first() {
		return bus.RecordHash{}, false
	}
	return l.Hashes[e-l.first()], true
}

// has reports whether the way leads through a record.
func (l *lineage) has(pin room.Pin) bool {
	hash, ok := l.at(pin.Epoch)
	return ok && hash == pin.Hash
}

// leaves returns the first record of the lineage that a chain has another one in
// the place of, or none where it ends before, and whether there is one.
func (l *lineage) leaves(c *room.Chain) (room.Pin, bool) {
	for i, hash := range l.Hashes {
		e := l.first() + bus.Epoch(i)
		if rec := c.At(e); rec != nil && rec.Hash() == hash {
			continue
		}
		// Where not even the first record is in the chain, the fork is before it.
		return room.Pin{Epoch: e, Hash: hash}, i > 0
	}
	return room.Pin{}, false
}

// givenUp reports whether a record of the chain declares the branch that the
// lineage is on lost, signed by somebody who is an owner on it.
func (l *lineage) givenUp(c *room.Chain) bool {
	at, ok := l.leaves(c)
	if !ok {
		return false
	}
	for e := at.Epoch; e <= c.Head().Epoch; e++ {
		rec := c.At(e)
		if slices.Contains(rec.Resolves, at.Hash) && slices.Contains(l.Owners, identity.IDOf(rec.Signer)) {
			return true
		}
	}
	return false
}

func (c *Client) lineageFile(id bus.RoomID) stateFile[lineage] {
	return stateFile[lineage]{c.state.path("lineage", id.String()+".json")}
}

func (r *Room) lineageFile() stateFile[lineage] { return r.client.lineageFile(r.id) }

// keepLineage stores how the head was reached, once its pin has moved. Another
// process may have come further.
func (r *Room) keepLineage(ctx context.Context, c *room.Chain) error {
	next := lineageOf(c)
	switch have, err := r.lineageFile().read(); {
	case err != nil:
		return err
	case have.has(room.Pin{Epoch: next.Epoch, Hash: next.Hashes[len(next.Hashes)-1]}):
		return nil
	}
	if err := durable.MkdirAll(r.client.state.path("lineage")); err != nil {
		return fmt.Errorf("keep lineage: %w", err)
	}
	return r.lineageFile().update(ctx, func(l *lineage) error {
		if l.Epoch <= next.Epoch {
			*l = next
		}
		return nil
	})
}
