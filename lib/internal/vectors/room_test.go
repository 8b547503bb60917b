package vectors

import (
	"slices"
	"strings"
	"testing"
)

// chain is the records of the golden file, what was opened of them, and the cast.
type chain struct {
	cast
	vectors map[string]*vector
	bob     *Card
}

func TestRoomVectors(t *testing.T) {
	bob := must[*Card](t)(ParseCard(readVectors(t, identityFile)["another card"].bytes(t)))
	c := chain{readCast(t), readVectors(t, roomFile), bob}
	checks{
		"genesis":                        c.genesis,
		"genesis: members":               c.members,
		"genesis: key sealed to alice":   c.sealedKey,
		"genesis: key sealed to bob":     c.sealedKey,
		"successor":                      c.successor,
		"successor: members":             c.members,
		"successor: key sealed to alice": c.sealedKey,
		"successor: key sealed to carol": c.sealedKey,
		"plain genesis":                  c.plainGenesis,
		"plain genesis: members":         c.members,
		"head pin":                       c.headPin,
		"fork by two signers":            c.fork,
		"fork by one signer":             c.fork,
	}.replay(t, roomFile)
}

// record is the record of a vector, or that which a vector named "record: …" is about.
func (c chain) record(t *testing.T, name string) *Record {
	t.Helper()
	name, _, _ = strings.Cut(name, ":")
	return must[*Record](t)(ParseRecord(c.vectors[name].bytes(t)))
}

// memberList is the list that belongs to the record of that name.
func (c chain) memberList(t *testing.T, name string) []Member {
	t.Helper()
	record, _, _ := strings.Cut(name, ":")
	return must[[]Member](t)(c.record(t, record).CheckMembers(c.vectors[record+": members"].bytes(t)))
}

func (c chain) genesis(t *testing.T, v *vector) {
	rec := c.record(t, v.Name)
	c.openName(t, v, rec, v.input(t, "epoch_key"))
	same(t, "sig", rec.Sig, Sign(c.alice.SignSeed, "record", rec.Signed))
	if err := rec.Begins(); err != nil {
		t.Error(err)
	}
	c.hashes(t, v, rec)
}

func (c chain) successor(t *testing.T, v *vector) {
	rec, head := c.record(t, v.Name), c.record(t, "genesis")
	if err := rec.Follows(head); err != nil {
		t.Error(err)
	}
	key := v.input(t, "epoch_key")
	c.openName(t, v, rec, key)
	same(t, "sig", rec.Sig, Sign(c.alice.SignSeed, "record", rec.Signed))

	v.derives(t, "history_key", must[[]byte](t)(rec.HistoryKey(key)))
	old := must[[]byte](t)(rec.OpenHistory(key, head))
	same(t, "epoch_key of genesis", old, readVectors(t, roomFile)["genesis"].input(t, "epoch_key"))

	before, now := c.memberList(t, "genesis"), c.memberList(t, v.Name)
	for _, cut := range rec.Cuts {
		of := func(m Member) bool { return m.ID == cut.ID && m.Role >= RoleWriter }
		if !slices.ContainsFunc(before, of) || slices.ContainsFunc(now, of) {
			t.Errorf("cut_id: %x did not lose its place", cut.ID)
		}
	}
	if len(rec.Cuts) == 0 || len(rec.Resolves) == 0 {
		t.Error("there is nothing cut or resolved")
	}
	c.hashes(t, v, rec)
}

func (c chain) plainGenesis(t *testing.T, v *vector) {
	rec := c.record(t, v.Name)
	if rec.encrypted() || rec.SignerPub != c.bob.SignPub {
		t.Errorf("flags %#x, signer %x: not bob's room without encryption", rec.Flags, rec.SignerPub)
	}
	same(t, "name", []byte(must[string](t)(rec.OpenName(nil))), v.field(t, "name"))
	c.hashes(t, v, rec)
}

// openName compares the name in a record and all that stands between it and the epoch key.
func (c chain) openName(t *testing.T, v *vector, rec *Record, key []byte) {
	t.Helper()
	same(t, "key_commitment", must[[]byte](t)(rec.Commitment(key)), rec.KeyCommitment[:])
	v.derives(t, "name_key", must[[]byte](t)(rec.NameKey(key)))
	if got, want := must[string](t)(rec.OpenName(key)), v.inputText(t, "name_text"); got != want {
		t.Errorf("name_text: %q, not %q", got, want)
	}
}

func (c chain) hashes(t *testing.T, v *vector, rec *Record) {
	t.Helper()
	v.has(t, rec.Fields)
	id := rec.ID()
	v.derives(t, "record_hash", rec.Hash[:])
	v.derives(t, "room_id", id[:])
	if rec.Epoch == 0 && !rec.hasAuthority(rec.SignerPub) {
		t.Error("signer: not an authority of the first record")
	}
}

func (c chain) members(t *testing.T, v *vector) {
	list, fields, err := ParseMembers(v.bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	c.memberList(t, v.Name)
	v.has(t, fields)
	h := Hash("members", v.bytes(t))
	v.derives(t, "members_hash", h[:])
	for _, m := range list {
		switch m.ID {
		case ID(SignPub(c.alice.SignSeed)):
			card := c.aliceFirst(t)
			same(t, "card_hash of alice", m.CardHash[:], card.Hash[:])
		case ID(c.bob.SignPub):
			same(t, "card_hash of bob", m.CardHash[:], c.bob.Hash[:])
		}
	}
}

// aliceFirst makes alice's card of number 1, which no file has: that of number 2 with another number and key.
func (c chain) aliceFirst(t *testing.T) *Card {
	t.Helper()
	second := must[*Card](t)(ParseCard(readVectors(t, identityFile)["card"].bytes(t)))
	kem := c.alice.KEMKeys[0]
	before := second.Signed[:2+3*32]
	signed := slices.Concat(before, u16(kemID), u16(len(second.KEMPub)), must[[]byte](t)(KEMPub(kem.Seed)),
		u64(kem.CardSeq), u64(second.NotBefore), u64(second.NotAfter))
	return must[*Card](t)(ParseCard(append(signed, Sign(c.alice.SignSeed, "card", signed)...)))
}

func (c chain) sealedKey(t *testing.T, v *vector) {
	rec, who, seed := c.record(t, v.Name), Hash32(v.input(t, "sign_pub")), v.input(t, "kem_seed")
	list := c.memberList(t, v.Name)
	i := slices.IndexFunc(list, func(m Member) bool { return m.ID == ID(who) })
	if i < 0 {
		t.Fatalf("sign_pub: %x is no member", who)
	}
	same(t, "info", rec.SealInfo(list[i]), v.input(t, "info"))
	same(t, "epoch_key", must[[]byte](t)(rec.OpenKey(list[i], seed, v.bytes(t))), v.input(t, "epoch_key"))
	h := Hash("sealed-hash", v.bytes(t))
	v.derives(t, "sealed_hash", h[:])
	switch who {
	case SignPub(c.alice.SignSeed):
		same(t, "kem_seed of alice", seed, c.alice.KEMKeys[0].Seed)
	case c.bob.SignPub:
		same(t, "kem_pub of bob", must[[]byte](t)(KEMPub(seed)), c.bob.KEMPub)
	}
}

func (c chain) headPin(t *testing.T, v *vector) {
	pin, fields, err := ParseHeadPin(v.bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	v.has(t, fields)
	rec := c.record(t, "successor")
	if pin != (HeadPin{rec.Epoch, rec.Hash}) {
		t.Errorf("is %+v, and the head %d with %x", pin, rec.Epoch, rec.Hash)
	}
}

func (c chain) fork(t *testing.T, v *vector) {
	b := v.bytes(t)
	f := must[*Fork](t)(ParseFork(b))
	v.has(t, f.Fields)
	v.derives(t, "before_record_hash", f.Before.Hash[:])
	v.derives(t, "known_record_hash", f.Known.Hash[:])
	v.derives(t, "other_record_hash", f.Other.Hash[:])
	if one := f.Known.SignerPub == f.Other.SignerPub; one != (v.Name == "fork by one signer") {
		t.Errorf("signed by %x and %x", f.Known.SignerPub, f.Other.SignerPub)
	}
	for at := range b {
		b[at] ^= 1
		if _, err := ParseFork(b); err == nil {
			t.Errorf("read with byte %d changed", at)
		}
		b[at] ^= 1
	}
}
