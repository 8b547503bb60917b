package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store"
)

// PutRevocation keeps a signed revocation and ends the account it is for, and
// returns the account. It needs nobody's leave: the revocation proves itself. Of
// two, by the key itself and by the root, the first stays; the same again, or one
// of an account that was revoked without a proof, changes no more than it has to.
//
// Errors have [bus.CodeWrongBus] for the root of another bus and
// [bus.CodeNotFound] where nobody here has the key.
func (d *Directory) PutRevocation(ctx context.Context, r identity.Revocation) (User, error) {
	u, err := d.putRevocation(ctx, r)
	if err != nil {
		return User{}, fmt.Errorf("put revocation: %w", err)
	}
	return u, nil
}

func (d *Directory) putRevocation(ctx context.Context, r identity.Revocation) (User, error) {
	if err := r.Check(d.bus, r.ID()); err != nil {
		return User{}, err
	}
	// Anybody can make a key and revoke it: what is no user's is not stored.
	if _, err := d.User(ctx, r.SignPub); err != nil {
		return User{}, err
	}
	// The proof comes first: whoever sees that the user is revoked can have it.
	_, err := d.create(ctx, store.Control, revocationKey(r.SignPub), r.Bytes(), 0)
	if _, exists := errors.AsType[*lost](err); err != nil && !exists {
		return User{}, err
	}
	return d.RevokeUser(ctx, r.SignPub)
}

// Revocation returns the signed revocation of a user, or nil where there is
// none: users are also revoked on the word of an admin.
func (d *Directory) Revocation(ctx context.Context, sign bus.SignPub) ([]byte, error) {
	entry, err := d.store.Get(ctx, store.Control, revocationKey(sign))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read revocation of %s: %w", sign, err)
	}
	return entry.Value, nil
}

// Proofs are what was signed about the users of a bus.
type Proofs struct {
	Entries     map[bus.Handle][]byte  // directory entries
	Revocations map[bus.SignPub][]byte // signed ones
}

// Proofs reads the directory entries and signed revocations of all users.
func (d *Directory) Proofs(ctx context.Context) (Proofs, error) {
	p := Proofs{map[bus.Handle][]byte{}, map[bus.SignPub][]byte{}}
	entries, err := d.store.List(ctx, store.Control, entriesPrefix)
	if err != nil {
		return Proofs{}, fmt.Errorf("list directory entries: %w", err)
	}
	for _, e := range entries {
		p.Entries[bus.Handle(strings.TrimPrefix(e.Key, entriesPrefix))] = e.Value
	}
	revocations, err := d.store.List(ctx, store.Control, revocationsPrefix)
	if err != nil {
		return Proofs{}, fmt.Errorf("list revocations: %w", err)
	}
	for _, e := range revocations {
		sign, err := bus.ParseSignPub(strings.TrimPrefix(e.Key, revocationsPrefix))
		if err != nil {
			return Proofs{}, fmt.Errorf("list revocations: %w", err)
		}
		p.Revocations[sign] = e.Value
	}
	return p, nil
}
