package room

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

const goldenFile = "room.json"

func TestGoldenVectors(t *testing.T) {
	first := goldenRecord(t, "genesis", "alice", nil, draft(t, "alice=owner bob=writer"))
	removal := draft(t, "alice=owner carol=admin")
	removal.Policy.Flags |= bus.FlagPad
	removal.Policy.MaxAge = 24 * time.Hour
	removal.Life = time.Hour
	removal.Cuts = []Cut{
		{ID: idOf(t, "bob"), Session: bus.SessionID{2}, LastSeq: 9},
		{ID: idOf(t, "bob"), Session: bus.SessionID{1}, LastSeq: 1 << 40},
	}
	removal.Resolves = []bus.RecordHash{{0xff}, {0x0f}}
	second := goldenRecord(t, "successor", "alice", first, removal)
	plain := goldenRecord(t, "plain genesis", "bob", nil, plainDraft(t, "bob=owner alice=reader"))

	if err := second.Record.Follows(first.Record); err != nil {
		t.Error(err)
	}
	chainOf(t, first, second)
	goldentest.Check(t, goldenFile, goldentest.File{
		About: "Structures of package room, for the identities and the bus of the golden vectors of package identity. Everything is hexadecimal but what is called text; integers are big-endian; a field named x_length is the length of the field x after it, in bytes.",
		Vectors: []goldentest.Vector{
			recordVector(t, "genesis", "The first record of an encrypted room with history: alice owner, bob writer.", first),
			membersVector(t, "genesis", first),
			sealedVector(t, "genesis", "alice", first),
			sealedVector(t, "genesis", "bob", first),
			recordVector(t, "successor", "The next record, which removes bob, cuts two of his sessions, adds carol as admin, and names two records of other branches as lost.", second),
			membersVector(t, "successor", second),
			sealedVector(t, "successor", "alice", second),
			sealedVector(t, "successor", "carol", second),
			recordVector(t, "plain genesis", "The first record of a room without encryption: bob owner, alice reader.", plain),
			membersVector(t, "plain genesis", plain),
			pinVector(t, second.Record),
			forkVector(t, "fork by two signers", "Two records that may follow one, signed by two owners, bob and alice: a race, or a server that showed each another head.", "alice"),
			forkVector(t, "fork by one signer", "Two records that may follow one, both signed by bob, who is to blame.", "bob"),
		},
	})
}

func forkVector(t *testing.T, name, about, second string) goldentest.Vector {
	t.Helper()
	members := plainDraft(t, "bob=owner alice=owner")
	before := goldenRecord(t, name+", before", "bob", nil, members)
	fork := Fork{
		Before: before.Record,
		Known:  goldenRecord(t, name+", known", "bob", before, members).Record,
		Other:  goldenRecord(t, name+", other", second, before, plainDraft(t, "bob=owner alice=owner carol=reader")).Record,
	}
	if err := fork.Verify(); err != nil || fork.Equivocation() != (second == "bob") {
		t.Errorf("equivocation %t, %v", fork.Equivocation(), err)
	}
	f := goldentest.Split(t, fork.Bytes())
	derived := map[string]string{}
	for i, r := range []*Record{fork.Before, fork.Known, fork.Other} {
		part := []string{"before", "known", "other"}[i]
		f.Prefixed(part+"_record", 4)
		f.Prefixed(part+"_members", 4)
		hash := r.Hash()
		derived[part+"_record_hash"] = hex.EncodeToString(hash[:])
	}
	return goldentest.Vector{Name: name, About: about, Fields: f.End(), Bytes: hex.EncodeToString(fork.Bytes()), Derived: derived}
}

// goldenRecord makes a record from fixed randomness. The sealed keys, which are
// random beyond reach, are those that the golden file has; a change of what they
// are bound to begins with deleting it.
func goldenRecord(t *testing.T, name, author string, head *Signed, d Draft) *Signed {
	t.Helper()
	b := builder{author: person(t, author), draft: d, now: epoch0, rand: goldentest.Rand(name), seal: identity.Seal}
	if head != nil {
		b.head, b.headKey = head.Record, head.Key
	}
	if _, err := os.Stat(filepath.Join("testdata", goldenFile)); err == nil {
		file := goldentest.Read(t, goldenFile)
		b.seal = func(_ uint16, kemPub, _, _ []byte) ([]byte, error) {
			for _, m := range d.Members {
				if string(m.Card.KEMPub) == string(kemPub) {
					return file.Find(t, sealedName(name, nameOf(t, m.Card.ID()))).Raw(t), nil
				}
			}
			return nil, errors.New("sealed to nobody in the draft")
		}
	}
	s, err := b.build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func nameOf(t *testing.T, id bus.ID) string {
	for _, name := range []string{"alice", "bob", "carol"} {
		if idOf(t, name) == id {
			return name
		}
	}
	t.Fatalf("nobody has the id %s", id)
	return ""
}

func sealedName(record, member string) string { return record + ": key sealed to " + member }

func recordVector(t *testing.T, name, about string, s *Signed) goldentest.Vector {
	r := s.Record
	f := goldentest.Split(t, r.Bytes())
	for _, field := range []struct {
		name string
		size int
	}{
		{"version", 1}, {"type", 1}, {"room_id", 32}, {"epoch", 8}, {"prev", 32}, {"created", 8}, {"not_after", 8},
		{"salt", 16}, {"suite", 1}, {"flags", 1}, {"rotate_s", 4}, {"max_age_s", 4}, {"grace_s", 4},
	} {
		f.Take(field.name, field.size)
	}
	nonce := wire.NonceSize
	if !r.Policy.Encrypted() {
		nonce = 0
	}
	if n := f.Length("name_ct", 2); nonce > 0 {
		f.Take("name_nonce", nonce)
		f.Take("name_sealed", n-nonce)
	} else {
		f.Take("name", n)
	}
	if n := f.Length("history_ct", 1); n > 0 {
		f.Take("history_nonce", nonce)
		f.Take("history_sealed", n-nonce)
	}
	for range f.Length("authorities", 2) / 33 {
		f.Take("authority_sign_pub", 32)
		f.Take("authority_role", 1)
	}
	f.Take("members_hash", 32)
	for range f.Length("cut", 2) / 56 {
		f.Take("cut_id", 32)
		f.Take("cut_session", 16)
		f.Take("cut_last_seq", 8)
	}
	for range f.Length("resolves", 1) / 32 {
		f.Take("resolved_record_hash", 32)
	}
	f.Take("key_commitment", 32)
	f.Take("signer", 32)
	f.Take("sig", 64)
	hash, room := r.Hash(), r.Room
	v := goldentest.Vector{
		Name: name, About: about, Fields: f.End(), Bytes: hex.EncodeToString(r.Bytes()),
		Derived: map[string]string{"record_hash": hex.EncodeToString(hash[:]), "room_id": hex.EncodeToString(room[:])},
	}
	if !r.Policy.Encrypted() {
		return v
	}
	opened, err := r.OpenName(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	v.Inputs = map[string]string{"epoch_key": hex.EncodeToString(s.Key[:]), "name_text": string(opened)}
	v.Derived["name_key"] = hex.EncodeToString(r.derive(s.Key, wire.LabelName))
	if len(r.HistoryCT) > 0 {
		v.Derived["history_key"] = hex.EncodeToString(r.derive(s.Key, wire.LabelHistory))
	}
	return v
}

func membersVector(t *testing.T, name string, s *Signed) goldentest.Vector {
	f := goldentest.Split(t, s.Record.MembersBytes())
	for range f.Length("members", 4) / memberSize {
		f.Take("id", 32)
		f.Take("card_hash", 32)
		f.Take("role", 1)
		f.Take("sealed_hash", 32)
	}
	return goldentest.Vector{
		Name: name + ": members", About: "The member list of that record.",
		Fields: f.End(), Bytes: hex.EncodeToString(s.Record.MembersBytes()),
		Derived: map[string]string{"members_hash": hex.EncodeToString(s.Record.MembersHash[:])},
	}
}

func sealedVector(t *testing.T, record, member string, s *Signed) goldentest.Vector {
	id := person(t, member)
	m, ok := s.Record.Member(id.ID())
	if !ok {
		t.Fatalf("%s is no member", member)
	}
	var blob []byte
	for _, sealed := range s.Sealed {
		if sealed.ID == id.ID() {
			blob = sealed.Blob
		}
	}
	if key, err := s.Record.OpenKey(id, blob); err != nil || key != s.Key {
		t.Errorf("recorded key of %s: %v", member, err)
	}
	return goldentest.Vector{
		Name:  sealedName(record, member),
		About: "The epoch key of that record, sealed to the HPKE key of number 1 of " + member + " with the info given. Sealing is random, so this one is for opening.",
		Inputs: map[string]string{
			"info": hex.EncodeToString(s.Record.sealInfo(m.ID, m.CardHash)), "epoch_key": hex.EncodeToString(s.Key[:]),
			"sign_pub": id.SignPub().String(), "kem_seed": kemSeed(t, member),
		},
		Bytes:   hex.EncodeToString(blob),
		Derived: map[string]string{"sealed_hash": hex.EncodeToString(m.SealedHash[:])},
	}
}

// kemSeed returns the second thing that an identity is made of.
func kemSeed(t *testing.T, name string) string {
	t.Helper()
	drawn := make([]byte, 64)
	if _, err := goldentest.Rand(name).Read(drawn); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(drawn[32:])
}

func pinVector(t *testing.T, r *Record) goldentest.Vector {
	dir := t.TempDir()
	if err := OpenPins(dir).Move(context.Background(), r.Room, PinOf(r), onward); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, r.Room.String()))
	if err != nil {
		t.Fatal(err)
	}
	f := goldentest.Split(t, raw)
	f.Take("epoch", 8)
	f.Take("record_hash", 32)
	return goldentest.Vector{
		Name: "head pin", About: "The file of the pin of record " + strconv.Itoa(int(r.Epoch)) + ".",
		Fields: f.End(), Bytes: hex.EncodeToString(raw),
	}
}
