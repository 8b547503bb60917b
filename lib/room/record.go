package room

import (
	"bytes"
	"fmt"
	"iter"
	"sort"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/wire"
)

const (
	signatureSize = 64
	memberSize    = 32 + 32 + 1 + 32
	lengthSize    = 4 // of the member list
)

// Member is one line of a record's member list.
type Member struct {
	ID         bus.ID
	CardHash   bus.CardHash // the card that the key was sealed to
	Role       bus.Role
	SealedHash bus.SealedHash // zero in rooms without encryption
}

// Authority is a member whose signature the next record may have.
type Authority struct {
	SignPub bus.SignPub
	Role    bus.Role // [bus.RoleAdmin] or [bus.RoleOwner]
}

// Cut bounds what counts of somebody whom a record stops from writing: of the
// session, the frames up to LastSeq and no later ones; of sessions not listed, none.
type Cut struct {
	ID      bus.ID
	Session bus.SessionID
	LastSeq bus.Seq
}

// Record is one signed step in the history of a room. It comes from
// [ParseRecord], [Create] or [Next], and changing its fields changes neither its
// bytes nor its hash. It may be read from several goroutines at once.
type Record struct {
	Room        bus.RoomID // of this room, also in its first record, whose bytes have zero there
	Epoch       bus.Epoch  // 0 in the first record
	Prev        bus.RecordHash
	Created     time.Time // whole seconds
	NotAfter    time.Time // whole seconds, at most 90 days later
	Salt        [16]byte
	Policy      bus.Policy
	NameCT      []byte
	HistoryCT   []byte
	Authorities []Authority // ascending by SignPub
	MembersHash bus.MembersHash
	Cuts        []Cut            // ascending by ID and Session
	Resolves    []bus.RecordHash // ascending: records of other branches that an owner declares lost
	Commitment  bus.KeyCommitment
	Signer      bus.SignPub

	raw     []byte // with the signature
	members []byte // with their length
	hash    bus.RecordHash
}

// ParseRecord reads a record with its signature, and its member list, keeping
// copies of the bytes. It checks everything that needs no other record: form,
// limits, order, policy, keys, a life of at most 90 days, that the list is the
// one the record was signed with and has the same authorities, and the
// signature. Whether the signer had authority is for [Record.Follows].
//
// Its errors have [bus.CodeMalformed], [bus.CodePolicy], [bus.CodeWeakKey],
// [bus.CodeMembersMismatch] or [bus.CodeBadSignature].
func ParseRecord(raw, members []byte) (*Record, error) {
	if len(raw) > bus.MaxRoomRecord {
		return nil, bus.Errorf(bus.CodeMalformed, "parse record: %d bytes, at most %d", len(raw), bus.MaxRoomRecord)
	}
	if limit := lengthSize + bus.MaxMembers*memberSize; len(members) > limit {
		return nil, bus.Errorf(bus.CodeMalformed, "parse record: %d bytes of members, at most %d", len(members), limit)
	}
	r := &Record{raw: bytes.Clone(raw), members: bytes.Clone(members)}
	r.hash = wire.Hash(wire.LabelRecordHash, r.raw)
	for _, check := range []func() error{r.decode, r.checkForm, r.checkMembers, r.checkSignature} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("parse record: %w", err)
		}
	}
	return r, nil
}

// decode fills the fields from the bytes.
func (r *Record) decode() error {
	s := cryptobyte.String(r.raw)
	var version, kind, suite, flags uint8
	if !s.ReadUint8(&version) || !s.ReadUint8(&kind) || version != bus.Version || kind != bus.TypeRecord {
		return bus.Errorf(bus.CodeMalformed, "no room record of version %d", bus.Version)
	}
	var rotate, maxAge, grace uint32
	var name, history, authorities, cuts, resolves, sig cryptobyte.String
	ok := s.CopyBytes(r.Room[:]) &&
		s.ReadUint64((*uint64)(&r.Epoch)) &&
		s.CopyBytes(r.Prev[:]) &&
		wire.ReadTime(&s, &r.Created) &&
		wire.ReadTime(&s, &r.NotAfter) &&
		s.CopyBytes(r.Salt[:]) &&
		s.ReadUint8(&suite) &&
		s.ReadUint8(&flags) &&
		s.ReadUint32(&rotate) &&
		s.ReadUint32(&maxAge) &&
		s.ReadUint32(&grace) &&
		s.ReadUint16LengthPrefixed(&name) &&
		s.ReadUint8LengthPrefixed(&history) &&
		s.ReadUint16LengthPrefixed(&authorities) &&
		s.CopyBytes(r.MembersHash[:]) &&
		s.ReadUint16LengthPrefixed(&cuts) &&
		s.ReadUint8LengthPrefixed(&resolves) &&
		s.CopyBytes(r.Commitment[:]) &&
		s.CopyBytes(r.Signer[:]) &&
		s.ReadBytes((*[]byte)(&sig), signatureSize) &&
		s.Empty()
	if !ok {
		return bus.Errorf(bus.CodeMalformed, "cut short, too long, or a time out of range")
	}
	r.Policy = bus.Policy{
		Suite:  bus.Suite(suite),
		Flags:  bus.RoomFlags(flags),
		Rotate: time.Duration(rotate) * time.Second,
		MaxAge: time.Duration(maxAge) * time.Second,
		Grace:  time.Duration(grace) * time.Second,
	}
	r.NameCT, r.HistoryCT = name, history
	if err := r.decodeAuthorities(authorities); err != nil {
		return err
	}
	if err := r.decodeCuts(cuts); err != nil {
		return err
	}
	return r.decodeResolves(resolves)
}

func (r *Record) decodeAuthorities(s cryptobyte.String) error {
	for !s.Empty() {
		var a Authority
		if len(r.Authorities) == bus.MaxAuthorities {
			return bus.Errorf(bus.CodeMalformed, "more than %d authorities", bus.MaxAuthorities)
		}
		if !s.CopyBytes(a.SignPub[:]) || !s.ReadUint8((*uint8)(&a.Role)) || !a.Role.IsAuthority() {
			return bus.Errorf(bus.CodeMalformed, "authority %d is cut short or has no authority", len(r.Authorities))
		}
		if n := len(r.Authorities); n > 0 && bytes.Compare(r.Authorities[n-1].SignPub[:], a.SignPub[:]) >= 0 {
			return bus.Errorf(bus.CodeMalformed, "authorities do not ascend")
		}
		r.Authorities = append(r.Authorities, a)
	}
	return nil
}

func (r *Record) decodeCuts(s cryptobyte.String) error {
	for !s.Empty() {
		var c Cut
		if len(r.Cuts) == bus.MaxCuts {
			return bus.Errorf(bus.CodeMalformed, "more than %d cuts", bus.MaxCuts)
		}
		if !s.CopyBytes(c.ID[:]) || !s.CopyBytes(c.Session[:]) || !s.ReadUint64((*uint64)(&c.LastSeq)) {
			return bus.Errorf(bus.CodeMalformed, "cut %d is cut short", len(r.Cuts))
		}
		if n := len(r.Cuts); n > 0 && compareCuts(r.Cuts[n-1], c) >= 0 {
			return bus.Errorf(bus.CodeMalformed, "cuts do not ascend")
		}
		r.Cuts = append(r.Cuts, c)
	}
	return nil
}

func compareCuts(a, b Cut) int {
	if order := bytes.Compare(a.ID[:], b.ID[:]); order != 0 {
		return order
	}
	return bytes.Compare(a.Session[:], b.Session[:])
}

func (r *Record) decodeResolves(s cryptobyte.String) error {
	for !s.Empty() {
		var h bus.RecordHash
		if len(r.Resolves) == bus.MaxResolves {
			return bus.Errorf(bus.CodeMalformed, "resolves more than %d records", bus.MaxResolves)
		}
		if !s.CopyBytes(h[:]) {
			return bus.Errorf(bus.CodeMalformed, "resolved record %d is cut short", len(r.Resolves))
		}
		if n := len(r.Resolves); n > 0 && bytes.Compare(r.Resolves[n-1][:], h[:]) >= 0 {
			return bus.Errorf(bus.CodeMalformed, "resolved records do not ascend")
		}
		r.Resolves = append(r.Resolves, h)
	}
	return nil
}

// checkForm compares the fields with each other, and sets the room of a first
// record.
func (r *Record) checkForm() error {
	first := r.Epoch == 0
	switch {
	case r.Room.IsZero() != first || r.Prev.IsZero() != first:
		return bus.Errorf(bus.CodeMalformed, "room and previous record must be zero in epoch 0 and only there")
	case first && (len(r.Cuts) > 0 || len(r.Resolves) > 0):
		return bus.Errorf(bus.CodeMalformed, "cuts or resolved records in epoch 0")
	}
	if life := r.NotAfter.Sub(r.Created); life <= 0 || life > bus.MaxRecordLife {
		return bus.Errorf(bus.CodeMalformed, "life of %s, want more than nothing and at most %s", life, bus.MaxRecordLife)
	}
	if err := r.Policy.Validate(); err != nil {
		return err
	}
	if r.Commitment.IsZero() == r.Policy.Encrypted() {
		return bus.Errorf(bus.CodeMalformed, "key commitment must be zero without encryption and only then")
	}
	if want := r.Policy.Flags.Has(bus.FlagHistory) && !first; want != (len(r.HistoryCT) == historySize) || !want && len(r.HistoryCT) > 0 {
		return bus.Errorf(bus.CodeMalformed, "%d bytes of history key where the policy and epoch want it %t", len(r.HistoryCT), want)
	}
	if err := r.checkName(); err != nil {
		return err
	}
	if first {
		r.Room = bus.RoomID(r.hash)
	}
	return nil
}

func (r *Record) checkName() error {
	if !r.Policy.Encrypted() {
		_, err := bus.ParseRoomName(string(r.NameCT))
		return err
	}
	const extra = wire.NonceSize + wire.Overhead
	if len(r.NameCT) <= extra || len(r.NameCT) > extra+bus.MaxRoomName {
		return bus.Errorf(bus.CodeMalformed, "%d bytes of encrypted name", len(r.NameCT))
	}
	return nil
}

// checkMembers reads the member list and compares it with the record.
func (r *Record) checkMembers() error {
	if wire.Hash(wire.LabelMembers, r.members) != r.MembersHash {
		return bus.Errorf(bus.CodeMembersMismatch, "member list is not the one the record was signed with")
	}
	s := cryptobyte.String(r.members)
	var size uint32
	if !s.ReadUint32(&size) || int64(size) != int64(len(s)) || len(s)%memberSize != 0 || len(s) == 0 {
		return bus.Errorf(bus.CodeMalformed, "member list is empty, cut short or too long")
	}
	authorities := 0
	var last bus.ID
	for i := range r.memberCount() {
		m := r.memberAt(i)
		switch {
		case i > 0 && bytes.Compare(last[:], m.ID[:]) >= 0:
			return bus.Errorf(bus.CodeMalformed, "members do not ascend")
		case !m.Role.Valid():
			return bus.Errorf(bus.CodeMalformed, "member %s has no role: %s", m.ID, m.Role)
		case m.SealedHash.IsZero() == r.Policy.Encrypted():
			return bus.Errorf(bus.CodeMalformed, "hash of the sealed key of %s must be zero without encryption and only then", m.ID)
		}
		if m.Role.IsAuthority() {
			authorities++
		}
		last = m.ID
	}
	if authorities != len(r.Authorities) {
		return bus.Errorf(bus.CodeMembersMismatch, "%d members with authority, %d authorities", authorities, len(r.Authorities))
	}
	for _, a := range r.Authorities {
		if m, ok := r.Member(identity.IDOf(a.SignPub)); !ok || m.Role != a.Role {
			return bus.Errorf(bus.CodeMembersMismatch, "authority %s is not a member of that role", a.SignPub)
		}
	}
	return nil
}

func (r *Record) checkSignature() error {
	for _, a := range r.Authorities {
		if err := wire.CheckPublicKey(a.SignPub[:]); err != nil {
			return fmt.Errorf("authority %s: %w", a.SignPub, err)
		}
	}
	if err := wire.CheckPublicKey(r.Signer[:]); err != nil {
		return fmt.Errorf("signer: %w", err)
	}
	body, sig := r.raw[:len(r.raw)-signatureSize], r.raw[len(r.raw)-signatureSize:]
	if !wire.Verify(r.Signer[:], wire.LabelRecord, body, sig) {
		return bus.Errorf(bus.CodeBadSignature, "not signed by the key it names")
	}
	return nil
}

// Bytes returns the record with its signature as it arrived. The caller must
// not change them.
func (r *Record) Bytes() []byte { return r.raw }

// MembersBytes returns the member list with its length as it arrived. The
// caller must not change them.
func (r *Record) MembersBytes() []byte { return r.members }

// Hash returns the name of this very record; of a first record, also the room's.
func (r *Record) Hash() bus.RecordHash { return r.hash }

// IsGenesis reports whether the record is the first of its room.
func (r *Record) IsGenesis() bool { return r.Epoch == 0 }

// Members returns the member list, ascending by id.
func (r *Record) Members() []Member {
	list := make([]Member, 0, r.memberCount())
	for m := range r.each() {
		list = append(list, m)
	}
	return list
}

// Owners returns the members who are owners, ascending by id.
func (r *Record) Owners() []bus.ID {
	var list []bus.ID
	for m := range r.each() {
		if m.Role == bus.RoleOwner {
			list = append(list, m.ID)
		}
	}
	return list
}

// MemberCount returns how many members there are.
func (r *Record) MemberCount() int { return r.memberCount() }

// Member returns the line of one member and whether there is one.
func (r *Record) Member(id bus.ID) (Member, bool) {
	i := sort.Search(r.memberCount(), func(i int) bool {
		at := lengthSize + i*memberSize
		return bytes.Compare(r.members[at:at+len(id)], id[:]) >= 0
	})
	if i == r.memberCount() {
		return Member{}, false
	}
	m := r.memberAt(i)
	return m, m.ID == id
}

// Role returns the role of a member, or 0, which is no role, for anybody else.
func (r *Record) Role(id bus.ID) bus.Role {
	m, ok := r.Member(id)
	if !ok {
		return 0
	}
	return m.Role
}

// Authority returns the role of a signing key among the authorities, or 0 for
// any other key.
func (r *Record) Authority(pub bus.SignPub) bus.Role {
	for _, a := range r.Authorities {
		if a.SignPub == pub {
			return a.Role
		}
	}
	return 0
}

// Cut returns the last seq of a session that counts after this record stopped
// its sender from writing, and false for a session that is not listed.
func (r *Record) Cut(id bus.ID, session bus.SessionID) (bus.Seq, bool) {
	for _, c := range r.Cuts {
		if c.ID == id && c.Session == session {
			return c.LastSeq, true
		}
	}
	return 0, false
}

// CheckTime refuses a record made later than now ([bus.CodeClockSkew]) and one
// past its time ([bus.CodeExpired]), give or take [bus.ClockSkew]. In the chain's
// past records have expired; only the head has to be alive, for sending.
func (r *Record) CheckTime(now time.Time) error {
	if r.Created.After(now.Add(bus.ClockSkew)) {
		return bus.Errorf(bus.CodeClockSkew, "check record %d: made at %s, which is still to come", r.Epoch, r.Created.Format(time.RFC3339))
	}
	if now.After(r.NotAfter.Add(bus.ClockSkew)) {
		return bus.Errorf(bus.CodeExpired, "check record %d: expired at %s", r.Epoch, r.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// CheckCard refuses a card that is not the one the member's key was sealed to,
// with [bus.CodeCardMismatch].
func CheckCard(m Member, c *identity.Card) error {
	if c.ID() != m.ID || c.Hash() != m.CardHash {
		return bus.Errorf(bus.CodeCardMismatch, "check card: %s of %s is not %s of %s", c.Hash(), c.ID(), m.CardHash, m.ID)
	}
	return nil
}

func (r *Record) memberCount() int { return (len(r.members) - lengthSize) / memberSize }

// memberAt decodes one line. Records are kept with their lists as bytes, since
// a chain holds one list for every epoch.
func (r *Record) memberAt(i int) Member {
	line := r.members[lengthSize+i*memberSize:][:memberSize]
	return Member{
		ID:         bus.ID(line[0:32]),
		CardHash:   bus.CardHash(line[32:64]),
		Role:       bus.Role(line[64]),
		SealedHash: bus.SealedHash(line[65:97]),
	}
}

// each yields the members in order.
func (r *Record) each() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for i := range r.memberCount() {
			if !yield(r.memberAt(i)) {
				return
			}
		}
	}
}
