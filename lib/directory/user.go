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

// User is an account of the bus.
type User struct {
	SignPub   bus.SignPub
	ID        bus.ID
	Handle    bus.Handle
	Role      bus.UserRole
	Status    bus.UserStatus
	CreatedAt time.Time // whole seconds, UTC
	RevokedAt time.Time // zero unless revoked
}

// Active reports whether the user may use the bus.
func (u User) Active() bool { return u.Status == bus.UserActive }

// IsAdmin reports whether the user may administer the users of the bus.
func (u User) IsAdmin() bool { return u.Active() && u.Role == bus.UserAdmin }

// AddUser makes an active user. The handle is claimed before the user is
// written; if a crash comes between, adding the same key again goes on from
// there, and a claim that nobody went on from is swept.
//
// Errors have [bus.CodeExists], and nothing was changed, where the key is a
// user already, whatever its handle, role or status, or where another key has
// the handle; [bus.CodeWeakKey] or [bus.CodeMalformed] for what can be no user.
func (d *Directory) AddUser(ctx context.Context, sign bus.SignPub, handle bus.Handle, role bus.UserRole) (User, error) {
	u, err := d.addUser(ctx, sign, handle, role)
	if err != nil {
		return User{}, fmt.Errorf("add user %s: %w", handle, err)
	}
	return u, nil
}

func (d *Directory) addUser(ctx context.Context, sign bus.SignPub, handle bus.Handle, role bus.UserRole) (User, error) {
	if err := wire.CheckPublicKey(sign[:]); err != nil {
		return User{}, err
	}
	if _, err := bus.ParseHandle(string(handle)); err != nil {
		return User{}, err
	}
	if _, err := bus.ParseUserRole(string(role)); err != nil {
		return User{}, err
	}
	switch existing, err := d.User(ctx, sign); {
	case err == nil:
		return User{}, keyExists(existing)
	case !errors.Is(err, bus.ErrNotFound):
		return User{}, err
	}
	claimed, err := d.claimHandle(ctx, handle, sign)
	if err != nil {
		return User{}, err
	}
	u := User{SignPub: sign, ID: identity.IDOf(sign), Handle: handle, Role: role, Status: bus.UserActive, CreatedAt: d.seconds()}
	value, err := encodeUser(u, newMark())
	if err != nil {
		return User{}, err
	}
	_, err = d.create(ctx, store.Control, userKey(sign), value, 0)
	l, raced := errors.AsType[*lost](err)
	if !raced {
		return u, err
	}
	// Somebody added the same key meanwhile. A claim of another handle is
	// then nobody's; failing to drop it leaves it to the sweep.
	existing, err := decodeUser(l.current.Value)
	if err != nil {
		return User{}, err
	}
	if existing.Handle != handle {
		err = d.store.Delete(ctx, store.Control, handleKey(handle), claimed)
	}
	return User{}, errors.Join(keyExists(existing), err)
}

func keyExists(u User) error {
	return bus.Errorf(bus.CodeExists, "the key is user %s already, %s, %s", u.Handle, u.Role, u.Status)
}

// claimHandle makes sure that the handle is claimed for the key, by a claim
// that is not about to be swept.
func (d *Directory) claimHandle(ctx context.Context, h bus.Handle, sign bus.SignPub) (store.Revision, error) {
	for range attempts {
		value, err := encodeClaim(claim{sign: sign, stamp: d.seconds()}, newMark())
		if err != nil {
			return 0, err
		}
		rev, err := d.create(ctx, store.Control, handleKey(h), value, 0)
		l, exists := errors.AsType[*lost](err)
		if !exists {
			return rev, err
		}
		current, err := decodeClaim(l.current.Value)
		if err != nil {
			return 0, err
		}
		if current.sign != sign {
			return 0, d.handleTaken(ctx, current.sign)
		}
		rev, err = d.update(ctx, store.Control, handleKey(h), value, l.current.Revision)
		if _, raced := errors.AsType[*lost](err); !raced {
			return rev, err
		}
	}
	return 0, busy("claim handle")
}

// handleTaken is the error of a handle that another key has.
func (d *Directory) handleTaken(ctx context.Context, by bus.SignPub) error {
	u, err := d.User(ctx, by)
	switch {
	case err == nil && !u.Active():
		return bus.Errorf(bus.CodeExists, "the handle was that of %s, who was revoked, and is never given again; choose another", u.ID)
	case err != nil && !errors.Is(err, bus.ErrNotFound):
		return err
	}
	return bus.Errorf(bus.CodeExists, "another key has the handle")
}

// RevokeUser makes a user revoked, for good, and returns it. A user that was
// revoked before is returned as it was. The error has [bus.CodeNotFound] where
// there is no such user.
func (d *Directory) RevokeUser(ctx context.Context, sign bus.SignPub) (User, error) {
	for range attempts {
		entry, err := d.store.Get(ctx, store.Control, userKey(sign))
		if err != nil {
			return User{}, fmt.Errorf("revoke user %s: %w", sign, err)
		}
		u, err := decodeUser(entry.Value)
		if err != nil {
			return User{}, fmt.Errorf("revoke user %s: %w", sign, err)
		}
		if !u.Active() {
			d.rest(store.Control, entry.Revision)
			return u, nil
		}
		u.Status, u.RevokedAt = bus.UserRevoked, d.seconds()
		value, err := encodeUser(u, newMark())
		if err != nil {
			return User{}, fmt.Errorf("revoke user %s: %w", sign, err)
		}
		_, err = d.update(ctx, store.Control, userKey(sign), value, entry.Revision)
		if _, raced := errors.AsType[*lost](err); raced {
			continue
		}
		if err != nil {
			return User{}, fmt.Errorf("revoke user %s: %w", sign, err)
		}
		return u, nil
	}
	return User{}, busy("revoke user")
}

// BootstrapAdmin makes a bus's first admin if no admin exists, active or
// revoked, and reports whether it did. Of several bootstraps at once, one
// key wins; the others fail with [bus.CodeConflict] until it has been added,
// and then make nobody. A key that exists as a member is [bus.CodeExists].
func (d *Directory) BootstrapAdmin(ctx context.Context, sign bus.SignPub, handle bus.Handle) (created bool, err error) {
	users, err := d.Users(ctx)
	if err != nil {
		return false, fmt.Errorf("bootstrap admin: %w", err)
	}
	for _, u := range users {
		if u.Role == bus.UserAdmin {
			return false, nil
		}
	}
	value, err := encodeClaim(claim{sign: sign, stamp: d.seconds()}, newMark())
	if err != nil {
		return false, fmt.Errorf("bootstrap admin: %w", err)
	}
	_, err = d.create(ctx, store.Control, bootstrapKey, value, 0)
	if l, exists := errors.AsType[*lost](err); exists {
		var current claim
		if current, err = decodeClaim(l.current.Value); err == nil && current.sign != sign {
			err = bus.Errorf(bus.CodeConflict, "a bootstrap with key %s was begun before; finish it with that key, or add an admin through the local socket", current.sign)
		}
	}
	if err != nil {
		return false, fmt.Errorf("bootstrap admin: %w", err)
	}
	_, err = d.AddUser(ctx, sign, handle, bus.UserAdmin)
	if errors.Is(err, bus.ErrExists) {
		// The same bootstrap on another node may have been faster.
		if u, getErr := d.User(ctx, sign); getErr == nil && u.Role == bus.UserAdmin {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("bootstrap admin: %w", err)
	}
	return true, nil
}

// User reads a user from the store, revoked or not. The error has
// [bus.CodeNotFound] where there is none.
func (d *Directory) User(ctx context.Context, sign bus.SignPub) (User, error) {
	entry, err := d.store.Get(ctx, store.Control, userKey(sign))
	if errors.Is(err, bus.ErrNotFound) {
		return User{}, bus.Errorf(bus.CodeNotFound, "read user: nobody has the key %s", sign)
	}
	if err != nil {
		return User{}, fmt.Errorf("read user %s: %w", sign, err)
	}
	u, err := decodeUser(entry.Value)
	if err != nil {
		return User{}, fmt.Errorf("read user %s: %w", sign, err)
	}
	return u, nil
}

// Users reads every user from the store, revoked ones too, in ascending order
// of signing keys.
func (d *Directory) Users(ctx context.Context) ([]User, error) {
	entries, err := d.store.List(ctx, store.Control, usersPrefix)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	users := make([]User, len(entries))
	for i, e := range entries {
		if users[i], err = decodeUser(e.Value); err != nil {
			return nil, fmt.Errorf("list users: %s: %w", e.Key, err)
		}
	}
	return users, nil
}

// The numbers roles and statuses have in the store.
var (
	userRoles    = []bus.UserRole{1: bus.UserMember, 2: bus.UserAdmin}
	userStatuses = []bus.UserStatus{1: bus.UserActive, 2: bus.UserRevoked}
)

func encodeUser(u User, m mark) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddBytes(u.SignPub[:])
	b.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(u.Handle)) })
	b.AddUint8(numberOf(userRoles, u.Role))
	b.AddUint8(numberOf(userStatuses, u.Status))
	wire.AddTime(&b, u.CreatedAt)
	revoked := u.RevokedAt
	if u.Active() {
		revoked = time.Unix(0, 0)
	}
	wire.AddTime(&b, revoked)
	b.AddBytes(m[:])
	return built("user", &b)
}

func decodeUser(value []byte) (User, error) {
	var (
		u                     User
		version, role, status uint8
		handle                cryptobyte.String
		m                     mark
	)
	s := cryptobyte.String(value)
	ok := s.ReadUint8(&version) && version == bus.Version &&
		s.CopyBytes(u.SignPub[:]) &&
		s.ReadUint8LengthPrefixed(&handle) &&
		s.ReadUint8(&role) && role > 0 && int(role) < len(userRoles) &&
		s.ReadUint8(&status) && status > 0 && int(status) < len(userStatuses) &&
		wire.ReadTime(&s, &u.CreatedAt) &&
		wire.ReadTime(&s, &u.RevokedAt) &&
		s.CopyBytes(m[:]) &&
		s.Empty()
	if !ok {
		return User{}, corrupt("user")
	}
	u.ID, u.Handle = identity.IDOf(u.SignPub), bus.Handle(handle)
	u.Role, u.Status = userRoles[role], userStatuses[status]
	if u.Active() {
		if u.RevokedAt.Unix() != 0 {
			return User{}, corrupt("user")
		}
		u.RevokedAt = time.Time{}
	}
	return u, nil
}

// claim is what keeps a name for a key.
type claim struct {
	sign  bus.SignPub
	stamp time.Time
}

func encodeClaim(c claim, m mark) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddBytes(c.sign[:])
	wire.AddTime(&b, c.stamp)
	b.AddBytes(m[:])
	return built("claim", &b)
}

func decodeClaim(value []byte) (claim, error) {
	var (
		c       claim
		version uint8
		m       mark
	)
	s := cryptobyte.String(value)
	if !s.ReadUint8(&version) || version != bus.Version || !s.CopyBytes(c.sign[:]) ||
		!wire.ReadTime(&s, &c.stamp) || !s.CopyBytes(m[:]) || !s.Empty() {
		return claim{}, corrupt("claim")
	}
	return c, nil
}

func numberOf[T comparable](list []T, v T) uint8 {
	for i := 1; i < len(list); i++ {
		if list[i] == v {
			return uint8(i)
		}
	}
	return 0 // refused when it is read
}

func built(what string, b *cryptobyte.Builder) ([]byte, error) {
	value, err := b.Bytes()
	if err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "encode %s: %w", what, err)
	}
	return value, nil
}

// corrupt is the error of a stored value that is not what was written there.
func corrupt(what string) error {
	return bus.Errorf(bus.CodeInternal, "decode %s: the stored value is damaged or of another version", what)
}
