package api

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// Bytes is binary data whose text form, in JSON too, is base64url without
// padding. A []byte can be assigned to it and it to a []byte.
type Bytes []byte

// MarshalText implements [encoding.TextMarshaler] with the text form.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode([]byte{}, b), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts exactly what
// MarshalText writes.
func (b *Bytes) UnmarshalText(text []byte) error {
	if strings.ContainsAny(string(text), "\r\n") {
		return fmt.Errorf("line break in base64url")
	}
	raw, err := base64.RawURLEncoding.Strict().AppendDecode([]byte{}, text)
	if err != nil {
		return err
	}
	*b = raw
	return nil
}

// User is an account of the bus, revoked ones too.
type User struct {
	SignPub   bus.SignPub    `json:"sign_pub"`
	ID        bus.ID         `json:"id"`
	Handle    bus.Handle     `json:"handle"`
	Role      bus.UserRole   `json:"role"`
	Status    bus.UserStatus `json:"status"`
	CreatedAt time.Time      `json:"created_at"` // whole seconds
	RevokedAt *time.Time     `json:"revoked_at,omitempty"`

	Entry      Bytes `json:"entry,omitempty"`      // lists only: signed directory entry of the handle
	Revocation Bytes `json:"revocation,omitempty"` // lists only: signed revocation
}

// AddUser asks for a new account. A sign_pub or a handle that exists is
// [bus.CodeExists] and changes nothing.
type AddUser struct {
	SignPub bus.SignPub  `json:"sign_pub"`
	Handle  bus.Handle   `json:"handle"`
	Role    bus.UserRole `json:"role"`
}

// Validate checks what the JSON types do not: key, handle and role. Whether
// the key is a sound Ed25519 key is for the directory to say.
func (a AddUser) Validate() error {
	if a.SignPub == (bus.SignPub{}) {
		return bus.Errorf(bus.CodeMalformed, "check user: sign_pub is missing")
	}
	if _, err := bus.ParseHandle(string(a.Handle)); err != nil {
		return err
	}
	_, err := bus.ParseUserRole(string(a.Role))
	return err
}

// UserList is a page of users in ascending order of their signing keys.
type UserList struct {
	V     int    `json:"v"` // 1
	Users []User `json:"users"`
	More  bool   `json:"more"` // ask again with [UsersAfterPath] and the last sign_pub
}

// AuditPage is consecutive lines of a node's audit log, for the asker to check.
type AuditPage struct {
	V     int           `json:"v"`     // 1
	First uint64        `json:"first"` // number of the first entry here
	Prev  bus.AuditHash `json:"prev"`  // what it stands on
	Lines []string      `json:"lines"`
	More  bool          `json:"more"` // ask again from the entry after the last one here
}

// HandleInfo is what a server knows about a handle. Entry proves the handle if
// it verifies under the bus root; without it the answer is the server's word.
type HandleInfo struct {
	Handle  bus.Handle     `json:"handle"`
	SignPub bus.SignPub    `json:"sign_pub"`
	ID      bus.ID         `json:"id"`
	Status  bus.UserStatus `json:"status"`
	Entry   Bytes          `json:"entry,omitempty"` // signed directory entry, if there is one
	Card    Bytes          `json:"card,omitempty"`  // latest card, if one was uploaded

	Revocation Bytes `json:"revocation,omitempty"` // signed, where Status is revoked and there is one
}

// Standing is whether an identity may use the bus. A revocation that verifies
// proves that it may not, wherever it comes from; all else is the server's word.
type Standing struct {
	ID         bus.ID         `json:"id"`
	Status     bus.UserStatus `json:"status"`
	RevokedAt  *time.Time     `json:"revoked_at,omitempty"`
	Revocation Bytes          `json:"revocation,omitempty"` // signed, if there is one
}

// RevokedMembers are the members in a room's head who were revoked, in the order
// of its member list.
type RevokedMembers struct {
	Revoked []Standing `json:"revoked"`
}

// Revocation carries a signed revocation.
type Revocation struct {
	Revocation Bytes `json:"revocation"`
}

// Validate refuses an empty revocation.
func (r Revocation) Validate() error {
	if len(r.Revocation) == 0 {
		return bus.Errorf(bus.CodeMalformed, "check revocation: it is missing")
	}
	return nil
}

// Entry carries a directory entry signed by the bus root.
type Entry struct {
	Entry Bytes `json:"entry"`
}

// Validate refuses an empty entry.
func (e Entry) Validate() error {
	if len(e.Entry) == 0 {
		return bus.Errorf(bus.CodeMalformed, "check directory entry: it is missing")
	}
	return nil
}

// Card carries a card with its signature.
type Card struct {
	Card Bytes `json:"card"`
}

// Validate refuses a card without content or beyond [bus.MaxCardSize].
func (c Card) Validate() error {
	switch n := len(c.Card); {
	case n == 0:
		return bus.Errorf(bus.CodeMalformed, "check card: it is missing")
	case n > bus.MaxCardSize:
		return bus.Errorf(bus.CodeTooLarge, "check card: %d bytes are over %d", n, bus.MaxCardSize)
	}
	return nil
}

// SealedKey is one member's sealed copy of an epoch key. Card names the card that
// it was sealed to where that is not the one in the record: the member itself has
// sealed it again.
type SealedKey struct {
	ID   bus.ID        `json:"id"`
	Blob Bytes         `json:"blob"`
	Card *bus.CardHash `json:"card,omitempty"`
}

// Resealed is a member's own copy of an epoch key, sealed by itself to its latest
// card.
type Resealed struct {
	Card bus.CardHash `json:"card"`
	Blob Bytes        `json:"blob"`
}

// Validate refuses a copy without content or beyond [bus.MaxSealedSize].
func (r Resealed) Validate() error {
	switch n := len(r.Blob); {
	case n == 0 || r.Card.IsZero():
		return bus.Errorf(bus.CodeMalformed, "check sealed key: card and blob must both be there")
	case n > bus.MaxSealedSize:
		return bus.Errorf(bus.CodeTooLarge, "check sealed key: %d bytes are over %d", n, bus.MaxSealedSize)
	}
	return nil
}

// RecordUpload is a new record of a room: the record with its signature, the
// encoded member list, and the sealed keys of all members in the order of the
// list. Rooms without encryption have no sealed keys.
type RecordUpload struct {
	Record  Bytes       `json:"record"`
	Members Bytes       `json:"members"`
	Sealed  []SealedKey `json:"sealed"`
}

// Validate checks sizes and counts against the limits.
func (u RecordUpload) Validate() error {
	switch {
	case len(u.Record) == 0 || len(u.Members) == 0:
		return bus.Errorf(bus.CodeMalformed, "check upload: record and members must both be there")
	case len(u.Record) > bus.MaxRoomRecord:
		return bus.Errorf(bus.CodeTooLarge, "check upload: record of %d bytes is over %d", len(u.Record), bus.MaxRoomRecord)
	case len(u.Sealed) > bus.MaxMembers:
		return bus.Errorf(bus.CodeTooLarge, "check upload: %d sealed keys are over %d", len(u.Sealed), bus.MaxMembers)
	}
	for _, s := range u.Sealed {
		switch {
		case len(s.Blob) == 0:
			return bus.Errorf(bus.CodeMalformed, "check upload: sealed key of %s is empty", s.ID)
		case len(s.Blob) > bus.MaxSealedSize:
			return bus.Errorf(bus.CodeTooLarge, "check upload: sealed key of %s has %d bytes, over %d", s.ID, len(s.Blob), bus.MaxSealedSize)
		}
	}
	return nil
}

// Head points at the latest record of a room.
type Head struct {
	Room  bus.RoomID     `json:"room"`
	Epoch bus.Epoch      `json:"epoch"`
	Hash  bus.RecordHash `json:"hash"`
}

// RoomHead is a room of the signer: its head and the signer's role in it.
type RoomHead struct {
	Head
	Role      bus.Role `json:"role"`
	Persisted bool     `json:"persisted"`
	// Revoked is how many members in the head were revoked, told to authorities:
	// [RevokedMembersPath] names them.
	Revoked int `json:"revoked,omitempty"`
}

// RoomList is every room whose head has the signer as a member, in ascending
// order of room ids.
type RoomList struct {
	Rooms []RoomHead `json:"rooms"`
}

// RecordItem is one record of a room and its encoded member list.
type RecordItem struct {
	Record  Bytes `json:"record"`
	Members Bytes `json:"members"`
}

// RecordList is a part of a room's chain: consecutive records from the epoch
// asked for, up to a bounded number of bytes. For a removed member the chain
// ends with the record that removed it.
type RecordList struct {
	Records []RecordItem   `json:"records"`
	Head    bus.Epoch      `json:"head"` // the last epoch the signer may read
	Hash    bus.RecordHash `json:"hash"` // of that epoch's record
	More    bool           `json:"more"` // ask again from the epoch after the last one here
}

// Notice is what a node publishes on a member's notice subject. It is a hint
// to look and proves nothing.
type Notice struct {
	V     int         `json:"v"` // 1
	Kind  NoticeKind  `json:"kind"`
	Room  *bus.RoomID `json:"room,omitempty"`
	Epoch bus.Epoch   `json:"epoch,omitempty"`
}

// NoticeKind says what a [Notice] is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeRoom    NoticeKind = "room"    // a room of the member has a new head
	NoticeRemoved NoticeKind = "removed" // the member is no longer in the room
	NoticeCard    NoticeKind = "card"    // the identity's own card changed
	NoticeRevoked NoticeKind = "revoked" // a member of a room in which the one told is an authority was revoked
)
