package hostile

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/wire"
)

// Record is a room record in the making, which may say anything. [NewRecord]
// fills it in honestly; the fields are then changed, and Sign makes the bytes.
type Record struct {
	Room        bus.RoomID // zero in a first record
	Epoch       bus.Epoch
	Prev        bus.RecordHash
	Created     time.Time
	NotAfter    time.Time
	Salt        [16]byte
	Policy      bus.Policy
	Name        bus.RoomName
	Key         room.Key // of this epoch
	Earlier     room.Key // what the history key is to be
	Authorities []room.Authority
	Members     []Line
	Cuts        []room.Cut
	Resolves    []bus.RecordHash

	Commitment bus.KeyCommitment // zero is that of Key
	// Seal makes a member's copy of the key; nil is [Record.SealTo].
	Seal func(r *Record, m Line) []byte
}

// Line is a member of a [Record].
type Line struct {
	Card *identity.Card
	Role bus.Role
}

// Signed is what Sign makes of a [Record].
type Signed struct {
	Epoch           bus.Epoch
	Record, Members []byte
	Sealed          map[bus.ID][]byte
	Key             room.Key
}

// NewRecord returns the record that honestly follows head, whose key is given,
// with the same policy and name; a first record of an encrypted room where head
// is nil.
func NewRecord(head *room.Record, key room.Key, name bus.RoomName, members ...Line) *Record {
	now := time.Now().Truncate(time.Second)
	r := &Record{Created: now, NotAfter: now.Add(bus.DefaultRecordLife), Policy: bus.DefaultPolicy(), Name: name, Earlier: key, Members: members}
	if head != nil {
		r.Room, r.Epoch, r.Prev, r.Policy = head.Room, head.Epoch+1, head.Hash(), head.Policy
	}
	random(r.Salt[:])
	random(r.Key[:])
	r.Sort()
	return r
}

func random(b []byte) {
	if _, err := rand.Read(b); err != nil {
		panic("hostile: " + err.Error()) // crypto/rand never fails
	}
}

// Sort puts members in order and makes the authorities those among them.
func (r *Record) Sort() {
	slices.SortFunc(r.Members, func(a, b Line) int {
		x, y := a.Card.ID(), b.Card.ID()
		return bytes.Compare(x[:], y[:])
	})
	r.Authorities = nil
	for _, m := range r.Members {
		if m.Role.IsAuthority() {
			r.Authorities = append(r.Authorities, room.Authority{SignPub: m.Card.SignPub, Role: m.Role})
		}
	}
	slices.SortFunc(r.Authorities, func(a, b room.Authority) int { return bytes.Compare(a.SignPub[:], b.SignPub[:]) })
}

func (r *Record) place() []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(r.Room[:]), uint64(r.Epoch))
}

func (r *Record) derive(l wire.Label) []byte {
	return wire.DeriveKey(r.Key[:], r.Salt[:], l, wire.KeySize, r.place())
}

// SealTo returns a copy of key for a card, as the one of the member m.
func (r *Record) SealTo(card *identity.Card, m Line, key []byte) []byte {
	info := wire.AppendLabel(nil, wire.LabelSealed)
	id, hash := m.Card.ID(), m.Card.Hash()
	for _, part := range [][]byte{r.place(), r.Prev[:], r.Salt[:], id[:], hash[:], r.Commitment[:]} {
		info = append(info, part...)
	}
	blob, err := identity.Seal(card.KEM, card.KEMPub, info, key)
	if err != nil {
		panic("hostile: seal: " + err.Error()) // for a card that was parsed
	}
	return blob
}

func (r *Record) encrypt(l wire.Label, plain []byte) []byte {
	aead, err := wire.NewAEAD(r.Policy.Suite, r.derive(l))
	if err != nil {
		panic("hostile: " + err.Error()) // for a suite of the policy
	}
	nonce := make([]byte, wire.NonceSize)
	random(nonce)
	return aead.Seal(nonce, nonce, plain, r.Prev[:])
}

// Sign encodes the record and has an identity sign it.
func (r *Record) Sign(id *identity.Identity) *Signed {
	return r.SignWith(id.SignPub(), func(body []byte) []byte { return id.Sign(wire.LabelRecord, body) })
}

// SignWith is Sign with a signature that anybody makes.
func (r *Record) SignWith(signer bus.SignPub, sign func(body []byte) []byte) *Signed {
	s := &Signed{Epoch: r.Epoch, Sealed: map[bus.ID][]byte{}, Key: r.Key}
	name, history := []byte(r.Name), []byte(nil)
	if r.Policy.Encrypted() {
		if r.Commitment.IsZero() {
			r.Commitment = bus.KeyCommitment(r.derive(wire.LabelCommit))
		}
		name = r.encrypt(wire.LabelName, name)
		if r.Policy.Flags.Has(bus.FlagHistory) && r.Epoch > 0 {
			history = r.encrypt(wire.LabelHistory, r.Earlier[:])
		}
	}
	var list cryptobyte.Builder
	list.AddUint32LengthPrefixed(func(c *cryptobyte.Builder) {
		for _, m := range r.Members {
			id, card := m.Card.ID(), m.Card.Hash()
			var hash bus.SealedHash
			if r.Policy.Encrypted() {
				blob := r.sealed(m)
				s.Sealed[id], hash = blob, room.HashSealed(blob)
			}
			c.AddBytes(id[:])
			c.AddBytes(card[:])
			c.AddUint8(uint8(m.Role))
			c.AddBytes(hash[:])
		}
	})
	s.Members = list.BytesOrPanic()
	body := r.body(name, history, wire.Hash(wire.LabelMembers, s.Members), signer)
	s.Record = append(body, sign(body)...)
	return s
}

func (r *Record) sealed(m Line) []byte {
	if r.Seal != nil {
		return r.Seal(r, m)
	}
	return r.SealTo(m.Card, m, r.Key[:])
}

// body encodes the record without its signature.
func (r *Record) body(name, history []byte, members bus.MembersHash, signer bus.SignPub) []byte {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddUint8(bus.TypeRecord)
	b.AddBytes(r.place())
	b.AddBytes(r.Prev[:])
	b.AddUint64(uint64(r.Created.Unix()))
	b.AddUint64(uint64(r.NotAfter.Unix()))
	b.AddBytes(r.Salt[:])
	b.AddUint8(uint8(r.Policy.Suite))
	b.AddUint8(uint8(r.Policy.Flags))
	for _, d := range []time.Duration{r.Policy.Rotate, r.Policy.MaxAge, r.Policy.Grace} {
		b.AddUint32(uint32(d / time.Second))
	}
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(name) })
	b.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(history) })
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) {
		for _, a := range r.Authorities {
			c.AddBytes(a.SignPub[:])
			c.AddUint8(uint8(a.Role))
		}
	})
	b.AddBytes(members[:])
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) {
		for _, cut := range r.Cuts {
			c.AddBytes(cut.ID[:])
			c.AddBytes(cut.Session[:])
			c.AddUint64(uint64(cut.LastSeq))
		}
	})
	b.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) {
		for _, h := range r.Resolves {
			c.AddBytes(h[:])
		}
	})
	b.AddBytes(r.Commitment[:])
	b.AddBytes(signer[:])
	return b.BytesOrPanic()
}

// RoomOf returns the id of the room that a first record begins.
func RoomOf(first *Signed) bus.RoomID {
	return bus.RoomID(wire.Hash(wire.LabelRecordHash, first.Record))
}
