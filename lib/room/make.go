package room

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/wire"
)

// MemberSpec says whom a record is to have as a member. The key is sealed to
// the card, whether it has expired or not.
type MemberSpec struct {
	Card *identity.Card
	Role bus.Role
}

// Draft says what a record is to contain. It is whole: what the room is to keep
// must be in it again. Members, Cuts and Resolves may be in any order.
type Draft struct {
	Policy   bus.Policy
	Name     bus.RoomName
	Members  []MemberSpec
	Cuts     []Cut            // not in the first record
	Resolves []bus.RecordHash // not in the first record
	Life     time.Duration    // in whole seconds, at most [bus.MaxRecordLife]; 0 is [bus.DefaultRecordLife]
}

// Signed is a new record with what belongs to it. The author pins it once the
// server has it, and not before.
type Signed struct {
	Record *Record
	Sealed []Sealed // in the order of the member list; none in a room without encryption
	Key    Key      // zero in a room without encryption
}

// Create makes the first record of a room. The author must be an owner in the
// draft. Salt, key and nonces come from rand, which is crypto/rand.Reader
// outside of tests; HPKE uses the standard library's own. Errors are those of
// [ParseRecord] and [CheckGenesis], [bus.CodeWrongBus] for cards of several buses,
// and those of [identity.Seal].
func Create(author *identity.Identity, d Draft, now time.Time, rand io.Reader) (*Signed, error) {
	b := builder{author: author, draft: d, now: now, rand: rand, seal: identity.Seal}
	s, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("create room: %w", err)
	}
	if err := CheckGenesis(s.Record); err != nil {
		return nil, fmt.Errorf("create room: %w", err)
	}
	return s, nil
}

// Next makes the record that follows head, whose key headKey is; in a room
// without encryption headKey does not count. It refuses what those who read the
// record would: errors are those of [Create] and [Record.Follows], and
// [bus.CodeKeyMismatch] for another key than the head's.
func Next(author *identity.Identity, head *Record, headKey Key, d Draft, now time.Time, rand io.Reader) (*Signed, error) {
	b := builder{author: author, head: head, headKey: headKey, draft: d, now: now, rand: rand, seal: identity.Seal}
	s, err := b.next()
	if err != nil {
		return nil, fmt.Errorf("make record after %d: %w", head.Epoch, err)
	}
	return s, nil
}

// builder makes one record. Tests give it another seal, to have bytes that
// repeat.
type builder struct {
	author  *identity.Identity
	head    *Record // nil for the first record
	headKey Key
	draft   Draft
	now     time.Time
	rand    io.Reader
	seal    func(kem uint16, kemPub, info, plaintext []byte) ([]byte, error)
}

func (b *builder) next() (*Signed, error) {
	if b.head.Policy.Encrypted() {
		if err := b.head.CheckKey(b.headKey); err != nil {
			return nil, err
		}
	}
	s, err := b.build()
	if err != nil {
		return nil, err
	}
	if err := s.Record.Follows(b.head); err != nil {
		return nil, err
	}
	if err := checkNameChange(b.head, b.headKey, s.Record, s.Key); err != nil {
		return nil, err
	}
	return s, nil
}

func (b *builder) build() (*Signed, error) {
	specs, err := sortedSpecs(b.draft.Members)
	if err != nil {
		return nil, err
	}
	r, err := b.outline(specs)
	if err != nil {
		return nil, err
	}
	key, err := b.addKey(r)
	if err != nil {
		return nil, err
	}
	sealed, err := b.addMembers(r, key, specs)
	if err != nil {
		return nil, err
	}
	body, err := r.encode()
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "encode record: %w", err)
	}
	// Reading it back gives the hash, and refuses whatever others would.
	record, err := ParseRecord(append(body, b.author.Sign(wire.LabelRecord, body)...), r.members)
	if err != nil {
		return nil, err
	}
	return &Signed{Record: record, Sealed: sealed, Key: key}, nil
}

// outline fills what depends on no key.
func (b *builder) outline(specs []MemberSpec) (*Record, error) {
	life := b.draft.Life
	if life == 0 {
		life = bus.DefaultRecordLife
	}
	if err := b.draft.Policy.Validate(); err != nil {
		return nil, err
	}
	created := b.now.Truncate(time.Second)
	r := &Record{
		Created:  created,
		NotAfter: created.Add(life),
		Policy:   b.draft.Policy,
		Cuts:     slices.SortedFunc(slices.Values(b.draft.Cuts), compareCuts),
		Resolves: slices.SortedFunc(slices.Values(b.draft.Resolves), func(x, y bus.RecordHash) int {
			return bytes.Compare(x[:], y[:])
		}),
		Signer: b.author.SignPub(),
	}
	if b.head != nil {
		r.Room, r.Epoch, r.Prev = b.head.Room, b.head.Epoch+1, b.head.hash
	}
	for _, m := range specs {
		if m.Role.IsAuthority() {
			r.Authorities = append(r.Authorities, Authority{SignPub: m.Card.SignPub, Role: m.Role})
		}
	}
	slices.SortFunc(r.Authorities, func(x, y Authority) int {
		return bytes.Compare(x.SignPub[:], y.SignPub[:])
	})
	if _, err := io.ReadFull(b.rand, r.Salt[:]); err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "draw salt: %w", err)
	}
	return r, nil
}

// addKey draws the epoch's key and fills what is made with it.
func (b *builder) addKey(r *Record) (key Key, err error) {
	if _, err := bus.ParseRoomName(string(b.draft.Name)); err != nil {
		return Key{}, err
	}
	if !r.Policy.Encrypted() {
		r.NameCT = []byte(b.draft.Name)
		return Key{}, nil
	}
	if _, err := io.ReadFull(b.rand, key[:]); err != nil {
		return Key{}, bus.Errorf(bus.CodeInternal, "draw key: %w", err)
	}
	r.Commitment = r.commit(key)
	if r.NameCT, err = r.seal(key, wire.LabelName, []byte(b.draft.Name), b.rand); err != nil {
		return Key{}, err
	}
	if r.Policy.Flags.Has(bus.FlagHistory) && b.head != nil {
		if r.HistoryCT, err = r.seal(key, wire.LabelHistory, b.headKey[:], b.rand); err != nil {
			return Key{}, err
		}
	}
	return key, nil
}

// addMembers seals the key to every member and fills the member list.
func (b *builder) addMembers(r *Record, key Key, specs []MemberSpec) ([]Sealed, error) {
	var sealed []Sealed
	var list cryptobyte.Builder
	list.AddUint32(uint32(len(specs) * memberSize))
	for _, m := range specs {
		id, card := m.Card.ID(), m.Card.Hash()
		var hash bus.SealedHash
		if r.Policy.Encrypted() {
			blob, err := b.seal(m.Card.KEM, m.Card.KEMPub, r.sealInfo(id, card), key[:])
			if err != nil {
				return nil, fmt.Errorf("seal key to %s: %w", id, err)
			}
			hash = HashSealed(blob)
			sealed = append(sealed, Sealed{ID: id, Blob: blob})
		}
		list.AddBytes(id[:])
		list.AddBytes(card[:])
		list.AddUint8(uint8(m.Role))
		list.AddBytes(hash[:])
	}
	r.members = list.BytesOrPanic()
	r.MembersHash = wire.Hash(wire.LabelMembers, r.members)
	return sealed, nil
}

// sortedSpecs puts members in the order of the list. It refuses too many before
// anything is sealed to them.
func sortedSpecs(members []MemberSpec) ([]MemberSpec, error) {
	if len(members) > bus.MaxMembers {
		return nil, bus.Errorf(bus.CodeTooLarge, "%d members, at most %d", len(members), bus.MaxMembers)
	}
	specs := slices.SortedFunc(slices.Values(members), func(x, y MemberSpec) int {
		idX, idY := x.Card.ID(), y.Card.ID()
		return bytes.Compare(idX[:], idY[:])
	})
	for i := 1; i < len(specs); i++ {
		if specs[i].Card.ID() == specs[i-1].Card.ID() {
			return nil, bus.Errorf(bus.CodeMalformed, "%s is a member twice", specs[i].Card.ID())
		}
		if specs[i].Card.BusID != specs[0].Card.BusID {
			return nil, bus.Errorf(bus.CodeWrongBus, "cards of several buses")
		}
	}
	return specs, nil
}

// encode writes the record without its signature.
func (r *Record) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddUint8(bus.TypeRecord)
	b.AddBytes(r.place())
	b.AddBytes(r.Prev[:])
	wire.AddTime(&b, r.Created)
	wire.AddTime(&b, r.NotAfter)
	b.AddBytes(r.Salt[:])
	b.AddUint8(uint8(r.Policy.Suite))
	b.AddUint8(uint8(r.Policy.Flags))
	for _, d := range []time.Duration{r.Policy.Rotate, r.Policy.MaxAge, r.Policy.Grace} {
		b.AddUint32(uint32(d / time.Second)) // within 32 bits once the policy is valid
	}
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(r.NameCT) })
	b.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(r.HistoryCT) })
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) {
		for _, a := range r.Authorities {
			c.AddBytes(a.SignPub[:])
			c.AddUint8(uint8(a.Role))
		}
	})
	b.AddBytes(r.MembersHash[:])
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
	b.AddBytes(r.Signer[:])
	return b.Bytes()
}
