package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store"
)

// Named is what is known about a handle.
type Named struct {
	User       User
	Entry      []byte         // directory entry signed by the bus root; nil if there is none
	Card       *identity.Card // latest card; nil if none was uploaded
	Revocation []byte         // signed; nil if there is none
}

// Lookup returns who has a handle, revoked or not. The error has
// [bus.CodeNotFound] where nobody has it.
func (d *Directory) Lookup(ctx context.Context, h bus.Handle) (Named, error) {
	u, err := d.owner(ctx, h)
	if err != nil {
		return Named{}, fmt.Errorf("look up handle %.80q: %w", h, err)
	}
	n := Named{User: u}
	entry, err := d.store.Get(ctx, store.Control, entryKey(h))
	switch {
	case err == nil:
		n.Entry = entry.Value
	case !errors.Is(err, bus.ErrNotFound):
		return Named{}, fmt.Errorf("look up handle %s: %w", h, err)
	}
	if n.Revocation, err = d.Revocation(ctx, u.SignPub); err != nil {
		return Named{}, fmt.Errorf("look up handle %s: %w", h, err)
	}
	if n.Card, err = d.Card(ctx, u.ID); err != nil && !errors.Is(err, bus.ErrNotFound) {
		return Named{}, fmt.Errorf("look up handle %s: %w", h, err)
	}
	return n, nil
}

// owner returns the user whose handle it is. A claim without its user, which a
// crash left or which is a moment old, is nobody's.
func (d *Directory) owner(ctx context.Context, h bus.Handle) (User, error) {
	if _, err := bus.ParseHandle(string(h)); err != nil {
		return User{}, err
	}
	entry, err := d.store.Get(ctx, store.Control, handleKey(h))
	if errors.Is(err, bus.ErrNotFound) {
		return User{}, bus.Errorf(bus.CodeNotFound, "nobody has the handle")
	}
	if err != nil {
		return User{}, err
	}
	c, err := decodeClaim(entry.Value)
	if err != nil {
		return User{}, err
	}
	u, err := d.User(ctx, c.sign)
	if err != nil {
		return User{}, err
	}
	if u.Handle != h {
		return User{}, bus.Errorf(bus.CodeNotFound, "nobody has the handle")
	}
	return u, nil
}

// PutEntry stores the directory entry of a user's handle, in place of one with
// a lower number. Errors have, besides those of [identity.ParseEntry],
// [bus.CodeMisrouted] for the entry of another handle; [bus.CodeExpired]; [bus.CodeNotFound] where nobody has the handle and
// [bus.CodeConflict] where somebody else has it; [bus.CodeRollback] for a number
// below the stored one and [bus.CodeEquivocation] for another entry of the
// same number.
func (d *Directory) PutEntry(ctx context.Context, h bus.Handle, raw []byte) error {
	e, err := identity.ParseEntry(raw, d.bus)
	if err == nil && e.Handle != h {
		err = bus.Errorf(bus.CodeMisrouted, "it is of handle %s", e.Handle)
	}
	if err == nil {
		err = d.putEntry(ctx, e, raw)
	}
	if err != nil {
		return fmt.Errorf("put directory entry of %.80q: %w", h, err)
	}
	return nil
}

func (d *Directory) putEntry(ctx context.Context, e identity.Entry, raw []byte) error {
	if err := e.CheckTime(d.now()); err != nil {
		return err
	}
	u, err := d.owner(ctx, e.Handle)
	if err != nil {
		return err
	}
	if u.ID != e.ID {
		return bus.Errorf(bus.CodeConflict, "the handle belongs to %s, not to %s", u.ID, e.ID)
	}
	for range attempts {
		stored, err := d.store.Get(ctx, store.Control, entryKey(e.Handle))
		if errors.Is(err, bus.ErrNotFound) {
			_, err = d.create(ctx, store.Control, entryKey(e.Handle), raw, 0)
		} else if err == nil {
			if bytes.Equal(stored.Value, raw) {
				d.rest(store.Control, stored.Revision)
				return nil
			}
			err = d.replaceEntry(ctx, e, raw, stored)
		}
		if _, raced := errors.AsType[*lost](err); !raced {
			return err
		}
	}
	return busy("put directory entry")
}

func (d *Directory) replaceEntry(ctx context.Context, e identity.Entry, raw []byte, stored store.Entry) error {
	current, err := identity.ParseEntry(stored.Value, d.bus)
	switch {
	case err != nil:
		return corrupt("directory entry")
	case e.Seq < current.Seq:
		return bus.Errorf(bus.CodeRollback, "number %d is below %d", e.Seq, current.Seq)
	case e.Seq == current.Seq:
		return bus.Errorf(bus.CodeEquivocation, "another entry has number %d", e.Seq)
	}
	_, err = d.update(ctx, store.Control, entryKey(e.Handle), raw, stored.Revision)
	return err
}
