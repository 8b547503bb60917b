package vectors

import (
	"bytes"
	"regexp"
	"slices"
)

// Flags of a record and of the frames of its epoch.
const (
	FlagEncrypt = 1 << iota
	FlagPersist
	FlagHistory
	FlagPad
	flagsKnown = 1<<iota - 1
)

// Roles of members.
const (
	RoleReader = 1 + iota
	RoleWriter
	RoleAdmin
	RoleOwner
)

// Authority is an authority of a record.
type Authority struct {
	SignPub Hash32
	Role    byte
}

// Cut is the last sequence number that counts of a session of somebody removed.
type Cut struct {
	ID      Hash32
	Session [16]byte
	LastSeq uint64
}

// Record is a record whose form and signature have been checked, but not its place in a chain.
type Record struct {
	RoomID                   Hash32
	Epoch                    uint64
	Prev                     Hash32
	Created, NotAfter        uint64
	Salt                     []byte
	Suite, Flags             byte
	RotateS, MaxAgeS, GraceS uint64
	NameNonce, Name          []byte // Name is sealed where there is encryption, and there is no nonce where not
	HistoryNonce, History    []byte // sealed, or both empty
	Authorities              []Authority
	MembersHash              Hash32
	Cuts                     []Cut
	Resolves                 []Hash32
	KeyCommitment, SignerPub Hash32
	Signed, Sig              []byte
	Hash                     Hash32 // RH
	Fields                   []Field
}

// ParseRecord reads and verifies a record. Codes: malformed, policy, weak_key, bad_signature.
func ParseRecord(b []byte) (*Record, error) {
	r := newReader(b)
	r.check(len(b) <= 16384, "record", "has %d bytes", len(b))
	r.head(2)
	rec := &Record{RoomID: r.hash("room_id"), Epoch: r.uint("epoch", 8), Prev: r.hash("prev"),
		Created: r.uint("created", 8), NotAfter: r.uint("not_after", 8), Salt: r.take("salt", 16),
		Suite: byte(r.uint("suite", 1)), Flags: byte(r.uint("flags", 1)),
		RotateS: r.uint("rotate_s", 4), MaxAgeS: r.uint("max_age_s", 4), GraceS: r.uint("grace_s", 4)}
	rec.sealed(r)
	rec.lists(r)
	rec.KeyCommitment, rec.SignerPub = r.hash("key_commitment"), r.key("signer")
	rec.Signed, rec.Sig = r.sig()
	rec.policy(r)
	if err := r.done(); err != nil {
		return nil, err
	}
	rec.Hash, rec.Fields = Hash("record-hash", b), r.fields
	return rec, Verify(rec.SignerPub, "record", rec.Signed, rec.Sig)
}

// sealed reads what the room's suite seals: name and history key.
func (rec *Record) sealed(r *reader) {
	at := r.off + 2
	r.list("name_ct", 2, func() {
		if rec.encrypted() {
			rec.NameNonce = r.take("name_nonce", nonceSize)
			rec.Name = r.rest("name_sealed")
		} else {
			rec.Name = r.rest("name")
		}
	})
	n := r.off - at
	r.check(!rec.encrypted() || 41 <= n && n <= 240, "name_ct", "has %d bytes", n)
	at = r.off + 1
	r.list("history_ct", 1, func() {
		rec.HistoryNonce = r.take("history_nonce", nonceSize)
		rec.History = r.take("history_sealed", 32+tagSize)
	})
	due := rec.Flags&FlagHistory != 0 && rec.Epoch > 0 && rec.encrypted()
	n = r.off - at
	r.check(due && n == 72 || !due && n == 0, "history_ct", "has %d bytes, is due: %t", n, due)
}

func (rec *Record) lists(r *reader) {
	var last []byte
	r.list("authorities", 2, func() {
		a := Authority{r.key("authority_sign_pub"), byte(r.uint("authority_role", 1))}
		r.check(ascends(last, a.SignPub[:]), "authority_sign_pub", "%x does not ascend", a.SignPub)
		r.check(a.Role == RoleAdmin || a.Role == RoleOwner, "authority_role", "is %d", a.Role)
		rec.Authorities, last = append(rec.Authorities, a), a.SignPub[:]
	})
	r.check(len(rec.Authorities) <= 16, "authorities", "are %d", len(rec.Authorities))
	rec.MembersHash = r.hash("members_hash")

	last = nil
	r.list("cut", 2, func() {
		c := Cut{ID: r.hash("cut_id")}
		copy(c.Session[:], r.take("cut_session", 16))
		c.LastSeq = r.uint("cut_last_seq", 8)
		at := slices.Concat(c.ID[:], c.Session[:])
		r.check(ascends(last, at), "cut_session", "%x does not ascend", at)
		rec.Cuts, last = append(rec.Cuts, c), at
	})
	r.check(len(rec.Cuts) <= 256, "cut", "are %d", len(rec.Cuts))
	last = nil
	r.list("resolves", 1, func() {
		h := r.hash("resolved_record_hash")
		r.check(ascends(last, h[:]), "resolved_record_hash", "%x does not ascend", h)
		rec.Resolves, last = append(rec.Resolves, h), h[:]
	})
	r.check(len(rec.Resolves) <= 4, "resolves", "are %d", len(rec.Resolves))
}

// policy checks what the fields say about each other.
func (rec *Record) policy(r *reader) {
	var zero Hash32
	first := rec.Epoch == 0
	r.check(first == (rec.RoomID == zero), "room_id", "is %x in epoch %d", rec.RoomID, rec.Epoch)
	r.check(first == (rec.Prev == zero), "prev", "is %x in epoch %d", rec.Prev, rec.Epoch)
	r.times(rec.Created, rec.NotAfter)
	if rec.Suite > 2 || rec.Flags > flagsKnown || rec.encrypted() != (rec.Suite != 0) {
		r.fail("policy", "suite", "%d with flags %#x", rec.Suite, rec.Flags)
	}
	if rec.GraceS > 30 {
		r.fail("policy", "grace_s", "is %d", rec.GraceS)
	}
	r.check(rec.encrypted() != (rec.KeyCommitment == zero), "key_commitment", "is %x, encrypted: %t", rec.KeyCommitment, rec.encrypted())
	r.check(!first || len(rec.Cuts)+len(rec.Resolves) == 0, "cut", "or resolves in epoch 0")
	if !rec.encrypted() {
		r.check(isName(rec.Name), "name", "%q", rec.Name)
	}
}

func (rec *Record) encrypted() bool { return rec.Flags&FlagEncrypt != 0 }

// ID is the id of the record's room.
func (rec *Record) ID() Hash32 {
	if rec.Epoch == 0 {
		return rec.Hash
	}
	return rec.RoomID
}

// place is room_id || epoch, the context of every key of the record.
func (rec *Record) place() []byte { return slices.Concat(rec.RoomID[:], u64(rec.Epoch)) }

// Commitment is the commitment to an epoch key.
func (rec *Record) Commitment(key []byte) ([]byte, error) {
	return KDF(key, rec.Salt, "commit", rec.place())
}

// NameKey is the key of name_ct under an epoch key.
func (rec *Record) NameKey(key []byte) ([]byte, error) {
	return KDF(key, rec.Salt, "name", rec.place())
}

// HistoryKey is the key of history_ct under an epoch key.
func (rec *Record) HistoryKey(key []byte) ([]byte, error) {
	return KDF(key, rec.Salt, "history", rec.place())
}

// OpenName decrypts the room's name. Codes: policy, decrypt, malformed.
func (rec *Record) OpenName(key []byte) (string, error) {
	if !rec.encrypted() {
		return string(rec.Name), nil
	}
	k, err := rec.NameKey(key)
	if err != nil {
		return "", err
	}
	name, err := rec.open("name_ct", k, rec.NameNonce, rec.Name)
	if err != nil {
		return "", err
	}
	if !isName(name) {
		return "", refuse("malformed", "name", "%q", name)
	}
	return string(name), nil
}

// OpenHistory decrypts the epoch key of the record before. Codes: policy, decrypt, key_mismatch.
func (rec *Record) OpenHistory(key []byte, before *Record) ([]byte, error) {
	k, err := rec.HistoryKey(key)
	if err != nil {
		return nil, err
	}
	old, err := rec.open("history_ct", k, rec.HistoryNonce, rec.History)
	if err != nil {
		return nil, err
	}
	return old, before.checkKey(old)
}

func (rec *Record) open(field string, key, nonce, sealed []byte) ([]byte, error) {
	aead, err := AEAD(rec.Suite, key)
	if err != nil {
		return nil, err
	}
	if len(nonce) != nonceSize {
		return nil, refuse("malformed", field, "is not there")
	}
	pt, err := aead.Open(nil, nonce, sealed, rec.Prev[:])
	if err != nil {
		return nil, refuse("decrypt", field, "%v", err)
	}
	return pt, nil
}

func (rec *Record) checkKey(key []byte) error {
	c, err := rec.Commitment(key)
	if err != nil {
		return err
	}
	if !bytes.Equal(c, rec.KeyCommitment[:]) {
		return refuse("key_mismatch", "key_commitment", "%x is not of the key, whose is %x", rec.KeyCommitment, c)
	}
	return nil
}

// Begins checks that a record may be the first of a room. Codes: gap, not_authority.
func (rec *Record) Begins() error {
	if rec.Epoch != 0 {
		return refuse("gap", "epoch", "%d at the beginning", rec.Epoch)
	}
	if !slices.Contains(rec.Authorities, Authority{rec.SignerPub, RoleOwner}) {
		return refuse("not_authority", "signer", "%x is no owner", rec.SignerPub)
	}
	return nil
}

// Follows checks that a record may stand behind head, as far as the two say without members: room, place, authority,
// that encryption stays and that an owner is left. Codes: misrouted, gap, fork, not_authority, transition.
func (rec *Record) Follows(head *Record) error {
	if rec.RoomID != head.ID() {
		return refuse("misrouted", "room_id", "is %x in room %x", rec.RoomID, head.ID())
	}
	if rec.Epoch != head.Epoch+1 {
		return refuse("gap", "epoch", "%d behind %d", rec.Epoch, head.Epoch)
	}
	if rec.Prev != head.Hash {
		return refuse("fork", "prev", "is %x, and the head %x", rec.Prev, head.Hash)
	}
	if !head.hasAuthority(rec.SignerPub) {
		return refuse("not_authority", "signer", "%x is none of the head", rec.SignerPub)
	}
	if rec.Suite != head.Suite || rec.encrypted() != head.encrypted() {
		return refuse("transition", "suite", "%d with flags %#x behind %d with %#x", rec.Suite, rec.Flags, head.Suite, head.Flags)
	}
	if !slices.ContainsFunc(rec.Authorities, func(a Authority) bool { return a.Role == RoleOwner }) {
		return refuse("transition", "authorities", "have no owner")
	}
	return nil
}

func (rec *Record) hasAuthority(pub Hash32) bool {
	for _, a := range rec.Authorities {
		if a.SignPub == pub {
			return true
		}
	}
	return false
}

// Member is an entry of a member list.
type Member struct {
	ID, CardHash Hash32
	Role         byte
	SealedHash   Hash32
}

// ParseMembers reads a member list. Code: malformed.
func ParseMembers(b []byte) ([]Member, []Field, error) {
	r := newReader(b)
	var list []Member
	var last []byte
	r.list("members", 4, func() {
		m := Member{r.hash("id"), r.hash("card_hash"), byte(r.uint("role", 1)), r.hash("sealed_hash")}
		r.check(ascends(last, m.ID[:]), "id", "%x does not ascend", m.ID)
		r.check(m.Role >= RoleReader && m.Role <= RoleOwner, "role", "is %d", m.Role)
		list, last = append(list, m), m.ID[:]
	})
	r.check(len(list) <= 1024, "members", "are %d", len(list))
	return list, r.fields, r.done()
}

// CheckMembers checks that a member list is the record's. Codes: members_mismatch, malformed.
func (rec *Record) CheckMembers(b []byte) ([]Member, error) {
	if h := Hash("members", b); h != rec.MembersHash {
		return nil, refuse("members_mismatch", "members_hash", "is %x, and of the list %x", rec.MembersHash, h)
	}
	list, _, err := ParseMembers(b)
	if err != nil {
		return nil, err
	}
	roles := map[Hash32]byte{}
	for _, a := range rec.Authorities {
		roles[ID(a.SignPub)] = a.Role
	}
	for _, m := range list {
		if m.Role >= RoleAdmin && roles[m.ID] != m.Role {
			return nil, refuse("members_mismatch", "role", "of %x is %d, and as an authority %d", m.ID, m.Role, roles[m.ID])
		}
		if rec.encrypted() == (m.SealedHash == Hash32{}) {
			return nil, refuse("malformed", "sealed_hash", "of %x is %x", m.ID, m.SealedHash)
		}
		if m.Role >= RoleAdmin {
			delete(roles, m.ID)
		}
	}
	if len(roles) > 0 {
		return nil, refuse("members_mismatch", "authorities", "%d are no members of their role", len(roles))
	}
	return list, nil
}

// SealInfo is what a member's epoch key is bound to, as the info of HPKE.
func (rec *Record) SealInfo(m Member) []byte {
	return slices.Concat(labelled("seal"), rec.place(), rec.Prev[:], rec.Salt, m.ID[:], m.CardHash[:], rec.KeyCommitment[:])
}

// OpenKey opens the epoch key sealed to a member with the HPKE seed of the member's card. Codes: sealed_mismatch,
// decrypt, key_mismatch.
func (rec *Record) OpenKey(m Member, seed, sealed []byte) ([]byte, error) {
	if h := Hash("sealed-hash", sealed); h != m.SealedHash {
		return nil, refuse("sealed_mismatch", "sealed_hash", "is %x, and of the %d bytes %x", m.SealedHash, len(sealed), h)
	}
	key, err := OpenSealed(seed, rec.SealInfo(m), sealed)
	if err != nil {
		return nil, err
	}
	return key, rec.checkKey(key)
}

// HeadPin is what a client remembers of the head of a room.
type HeadPin struct {
	Epoch uint64
	Hash  Hash32
}

// ParseHeadPin reads a file of a head pin. Code: malformed.
func ParseHeadPin(b []byte) (HeadPin, []Field, error) {
	r := newReader(b)
	p := HeadPin{r.uint("epoch", 8), r.hash("record_hash")}
	return p, r.fields, r.done()
}

// Fork is a proof that a room has two branches.
type Fork struct {
	Before, Known, Other *Record
	Fields               []Field
}

// ParseFork reads and verifies a proof of a fork. Codes: malformed, and those of ParseRecord, CheckMembers and Follows.
func ParseFork(b []byte) (*Fork, error) {
	r := newReader(b)
	f := &Fork{}
	for i, rec := range []**Record{&f.Before, &f.Known, &f.Other} {
		part := []string{"before", "known", "other"}[i]
		record, members := r.blob(part+"_record", 4), r.blob(part+"_members", 4)
		if r.err != nil {
			return nil, r.err
		}
		var err error
		if *rec, err = ParseRecord(record); err != nil {
			return nil, err
		}
		if _, err = (*rec).CheckMembers(members); err != nil {
			return nil, err
		}
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	if f.Known.Hash == f.Other.Hash {
		return nil, refuse("malformed", "other_record", "is the known one")
	}
	for _, rec := range []*Record{f.Known, f.Other} {
		if err := rec.Follows(f.Before); err != nil {
			return nil, err
		}
	}
	f.Fields = r.fields
	return f, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func isName(name []byte) bool { return len(name) <= 200 && nameForm.Match(name) }
