package bus

import (
	"fmt"
	"time"
)

// Role is what a member may do in a room. Higher roles include the lower ones.
type Role uint8

// The roles, with the numbers they have in a record.
const (
	RoleReader Role = 1 // may read
	RoleWriter Role = 2 // may send
	RoleAdmin  Role = 3 // may add and remove readers and writers, renew and rotate
	RoleOwner  Role = 4 // may change everything but encryption and suite
)

var roleNames = map[Role]string{RoleReader: "reader", RoleWriter: "writer", RoleAdmin: "admin", RoleOwner: "owner"}

// ParseRole reads a role by name.
func ParseRole(s string) (Role, error) {
	for r, name := range roleNames {
		if name == s {
			return r, nil
		}
	}
	return 0, Errorf(CodeMalformed, "parse role %.40q: want reader, writer, admin or owner", s)
}

// Valid reports whether r is one of the four roles.
func (r Role) Valid() bool { return r >= RoleReader && r <= RoleOwner }

// CanWrite reports whether the role may send frames.
func (r Role) CanWrite() bool { return r.Valid() && r >= RoleWriter }

// IsAuthority reports whether the role may sign the next record of a room.
func (r Role) IsAuthority() bool { return r.Valid() && r >= RoleAdmin }

// String returns the role's name, or "role(N)" for a number that is none.
func (r Role) String() string {
	if name, ok := roleNames[r]; ok {
		return name
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// MarshalText implements [encoding.TextMarshaler] with the role's name.
func (r Role) MarshalText() ([]byte, error) {
	if !r.Valid() {
		return nil, Errorf(CodeMalformed, "write role: %s is no role", r)
	}
	return []byte(r.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Role) UnmarshalText(text []byte) error {
	parsed, err := ParseRole(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

// UserRole is what a user of the bus may do on its control plane. It says
// nothing about any room.
type UserRole string

// The user roles.
const (
	UserMember UserRole = "member"
	UserAdmin  UserRole = "admin" // may list, add and revoke users
)

// ParseUserRole reads a user role by name.
func ParseUserRole(s string) (UserRole, error) {
	switch r := UserRole(s); r {
	case UserMember, UserAdmin:
		return r, nil
	}
	return "", Errorf(CodeMalformed, "parse user role %.40q: want member or admin", s)
}

// UserStatus tells whether a user may use the bus. Nobody is ever deleted.
type UserStatus string

// The user statuses.
const (
	UserActive  UserStatus = "active"
	UserRevoked UserStatus = "revoked"
)

// Suite names the AEAD and the digest of a room's frames together. It is fixed
// by the first record of the room and never negotiated.
type Suite uint8

// The suites.
const (
	SuitePlain     Suite = 0 // no encryption; only where the first record says so
	SuiteXAESGCM   Suite = 1 // XAES-256-GCM (C2SP) and SHA-256; the default
	SuiteXChaCha20 Suite = 2 // XChaCha20-Poly1305 and SHA-256
)

// Valid reports whether the suite is known.
func (s Suite) Valid() bool { return s <= SuiteXChaCha20 }

// RoomFlags are the on-off choices of a room's policy.
type RoomFlags uint8

// The flags, with the bits they have in a record.
const (
	FlagEncrypt RoomFlags = 1 << 0 // frames are encrypted; fixed by the first record
	FlagPersist RoomFlags = 1 << 1 // frames are stored and acknowledged after fsync
	FlagHistory RoomFlags = 1 << 2 // newcomers are given the keys of earlier epochs
	FlagPad     RoomFlags = 1 << 3 // frames are padded to Padmé lengths

	flagsKnown = FlagEncrypt | FlagPersist | FlagHistory | FlagPad
)

// Has reports whether every flag of want is set.
func (f RoomFlags) Has(want RoomFlags) bool { return f&want == want }

// Policy is what a room's record says about how the room works. Durations are
// whole seconds.
type Policy struct {
	Suite  Suite
	Flags  RoomFlags
	Rotate time.Duration // a running client of an authority rotates after this; 0 is never
	MaxAge time.Duration // stored frames may be purged after this; 0 is never
	Grace  time.Duration // live rooms: how long frames of an older epoch are accepted
}

// DefaultPolicy is an encrypted, persisted room that shares its history.
func DefaultPolicy() Policy {
	return Policy{
		Suite:  SuiteXAESGCM,
		Flags:  FlagEncrypt | FlagPersist | FlagHistory,
		Rotate: DefaultRotate,
		Grace:  MaxGrace,
	}
}

// Encrypted reports whether frames are encrypted.
func (p Policy) Encrypted() bool { return p.Flags.Has(FlagEncrypt) }

// Persisted reports whether frames are stored.
func (p Policy) Persisted() bool { return p.Flags.Has(FlagPersist) }

// Validate checks the policy against itself: known suite and flags, a suite
// that encrypts exactly where the flag says so, times within limits and in
// whole seconds. Its errors have [CodePolicy].
func (p Policy) Validate() error {
	switch {
	case !p.Suite.Valid():
		return Errorf(CodePolicy, "check policy: unknown suite %d", p.Suite)
	case p.Flags&^flagsKnown != 0:
		return Errorf(CodePolicy, "check policy: unknown flags %#x", uint8(p.Flags&^flagsKnown))
	case (p.Suite == SuitePlain) == p.Encrypted():
		return Errorf(CodePolicy, "check policy: suite %d with encryption %t", p.Suite, p.Encrypted())
	case !p.Encrypted() && p.Flags.Has(FlagHistory):
		return Errorf(CodePolicy, "check policy: history keys in a room without encryption")
	case p.Grace > MaxGrace:
		return Errorf(CodePolicy, "check policy: grace %s is over %s", p.Grace, MaxGrace)
	}
	for _, d := range []time.Duration{p.Rotate, p.MaxAge, p.Grace} {
		if d < 0 || d%time.Second != 0 || d/time.Second > 1<<32-1 {
			return Errorf(CodePolicy, "check policy: %s is no count of whole seconds in 32 bits", d)
		}
	}
	return nil
}
