package room

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

// really makes a record with keys that open.
func really(t testing.TB, author string, head *Signed, d Draft) *Signed {
	t.Helper()
	made++
	rand := goldentest.Rand(fmt.Sprint("record ", made))
	var s *Signed
	var err error
	if head == nil {
		s, err = Create(person(t, author), d, epoch0, rand)
	} else {
		s, err = Next(person(t, author), head.Record, head.Key, d, epoch0, rand)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func blobOf(t testing.TB, s *Signed, name string) []byte {
	t.Helper()
	i := slices.IndexFunc(s.Sealed, func(x Sealed) bool { return x.ID == idOf(t, name) })
	if i < 0 {
		t.Fatalf("nothing sealed to %s", name)
	}
	return s.Sealed[i].Blob
}

func TestEveryMemberOpensTheKeyAndNobodyElse(t *testing.T) {
	for _, suite := range []bus.Suite{bus.SuiteXAESGCM, bus.SuiteXChaCha20} {
		d := draft(t, "alice=owner bob=writer carol=reader")
		d.Policy.Suite = suite
		s := really(t, "alice", nil, d)
		for _, name := range []string{"alice", "bob", "carol"} {
			key, err := s.Record.OpenKey(person(t, name), blobOf(t, s, name))
			if err != nil || key != s.Key {
				t.Errorf("%s: %v", name, err)
			}
			if got, err := s.Record.OpenName(key); err != nil || got != d.Name {
				t.Errorf("%s reads the name %q, %v", name, got, err)
			}
		}
		bobs := blobOf(t, s, "bob")
		_, err := s.Record.OpenKey(person(t, "dave"), bobs)
		wantCode(t, "stranger", err, bus.CodeNotMember)
		_, err = s.Record.OpenKey(person(t, "alice"), bobs)
		wantCode(t, "another member's", err, bus.CodeSealedMismatch)
		_, err = s.Record.OpenKey(person(t, "bob"), nil)
		wantCode(t, "nothing", err, bus.CodeSealedMismatch)
		for i := range bobs {
			changed := bytes.Clone(bobs)
			changed[i] ^= 1
			if _, err := s.Record.OpenKey(person(t, "bob"), changed); bus.CodeOf(err) != bus.CodeSealedMismatch {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
	}
}

func TestKeyIsOpenedWithACardThatIsNotTheLatest(t *testing.T) {
	s := really(t, "alice", nil, draft(t, "alice=owner bob=reader"))
	bob := newPerson(t, "bob")
	if _, err := bob.AddKEM(goldentest.Rand("bob again")); err != nil {
		t.Fatal(err)
	}
	if key, err := s.Record.OpenKey(bob, blobOf(t, s, "bob")); err != nil || key != s.Key {
		t.Error(err)
	}
}

// What an author can do to a member with a signed record: seal something else.
func TestSealedKeysThatAreNotWhatTheRecordSays(t *testing.T) {
	for name, tc := range map[string]struct {
		seal func(kem uint16, pub, info, plain []byte) ([]byte, error)
		want bus.Code
	}{
		"another key": {func(kem uint16, pub, info, plain []byte) ([]byte, error) {
			return identity.Seal(kem, pub, info, bytes.Repeat([]byte{7}, len(plain)))
		}, bus.CodeKeyMismatch},
		"a short key": {func(kem uint16, pub, info, plain []byte) ([]byte, error) {
			return identity.Seal(kem, pub, info, plain[1:])
		}, bus.CodeKeyMismatch},
		"a long key": {func(kem uint16, pub, info, plain []byte) ([]byte, error) {
			return identity.Seal(kem, pub, info, append(bytes.Clone(plain), 0))
		}, bus.CodeKeyMismatch},
		"for something else": {func(kem uint16, pub, info, plain []byte) ([]byte, error) {
			return identity.Seal(kem, pub, append(bytes.Clone(info), 0), plain)
		}, bus.CodeDecrypt},
		"noise": {sketch, bus.CodeDecrypt},
	} {
		t.Run(name, func(t *testing.T) {
			b := builder{author: person(t, "alice"), draft: draft(t, "alice=owner"), now: epoch0, rand: goldentest.Rand(name), seal: tc.seal}
			s, err := b.build()
			if err != nil {
				t.Fatal(err)
			}
			key, err := s.Record.OpenKey(person(t, "alice"), blobOf(t, s, "alice"))
			wantCode(t, "open", err, tc.want)
			if key != (Key{}) && err != nil {
				t.Error("a key was returned with the error")
			}
		})
	}
}

// The info of a sealed key binds it to its place: the same key sealed for one
// record does not open for another.
func TestSealedKeysAreBoundToTheirPlace(t *testing.T) {
	s := forge(t, "alice", nil, draft(t, "alice=owner bob=reader"))
	next := forge(t, "alice", s, draft(t, "alice=owner bob=reader"))
	alice, bob := idOf(t, "alice"), idOf(t, "bob")
	infos := map[string][]byte{
		"as it is":           next.Record.sealInfo(alice, bus.CardHash{1}),
		"another member":     next.Record.sealInfo(bob, bus.CardHash{1}),
		"another card":       next.Record.sealInfo(alice, bus.CardHash{2}),
		"the record before":  s.Record.sealInfo(alice, bus.CardHash{1}),
		"another salt":       changed(next.Record, func(r *Record) { r.Salt[0]++ }).sealInfo(alice, bus.CardHash{1}),
		"another room":       changed(next.Record, func(r *Record) { r.Room[0]++ }).sealInfo(alice, bus.CardHash{1}),
		"another epoch":      changed(next.Record, func(r *Record) { r.Epoch++ }).sealInfo(alice, bus.CardHash{1}),
		"another history":    changed(next.Record, func(r *Record) { r.Prev[0]++ }).sealInfo(alice, bus.CardHash{1}),
		"another commitment": changed(next.Record, func(r *Record) { r.Commitment[0]++ }).sealInfo(alice, bus.CardHash{1}),
	}
	seen := make(map[string]string)
	for name, info := range infos {
		if other, ok := seen[string(info)]; ok {
			t.Errorf("%s has the info of %s", name, other)
		}
		seen[string(info)] = name
		if want := len(wire.AppendLabel(nil, wire.LabelSealed)) + 32 + 8 + 32 + 16 + 32 + 32 + 32; len(info) != want {
			t.Errorf("%s: %d bytes, want %d", name, len(info), want)
		}
	}
}

func changed(r *Record, change func(*Record)) *Record {
	c := *r
	change(&c)
	return &c
}

func TestCommitmentHoldsForOneKeyInOnePlace(t *testing.T) {
	s := forge(t, "alice", nil, draft(t, "alice=owner"))
	next := forge(t, "alice", s, draft(t, "alice=owner"))
	if err := next.Record.CheckKey(next.Key); err != nil {
		t.Error(err)
	}
	wantCode(t, "key of the epoch before", next.Record.CheckKey(s.Key), bus.CodeKeyMismatch)
	wantCode(t, "no key", next.Record.CheckKey(Key{}), bus.CodeKeyMismatch)
	for name, change := range map[string]func(*Record){
		"salt": func(r *Record) { r.Salt[3]++ }, "room": func(r *Record) { r.Room[3]++ }, "epoch": func(r *Record) { r.Epoch++ },
	} {
		wantCode(t, "another "+name, changed(next.Record, change).CheckKey(next.Key), bus.CodeKeyMismatch)
	}
}

func TestHistoryWalksBackToWhereItBegins(t *testing.T) {
	//	epoch    0     1     2     3     4
	//	history  –     yes   no    yes   yes      the flag of each record
	d := draft(t, "alice=owner")
	without := draft(t, "alice=owner")
	without.Policy.Flags &^= bus.FlagHistory
	var all []*Signed
	var head *Signed
	for _, d := range []Draft{d, d, without, d, d} {
		head = really(t, "alice", head, d)
		all = append(all, head)
	}
	newcomer := NewChain(all[0].Record.Room)
	for _, s := range all {
		if err := newcomer.Accept(s.Record); err != nil {
			t.Fatal(err)
		}
	}
	_, err := newcomer.OpenHistory(4, 0)
	wantCode(t, "without a key to start from", err, bus.CodeEpochUnknown)
	if err := newcomer.SetKey(4, all[4].Key); err != nil {
		t.Fatal(err)
	}
	if got, err := newcomer.OpenHistory(4, 3); err != nil || got != 3 {
		t.Fatalf("walked to %d, %v, when asked for no more than 3", got, err)
	}
	if got, err := newcomer.OpenHistory(4, 0); err != nil || got != 2 {
		t.Fatalf("walked to %d, %v; epoch 2 carries no earlier key", got, err)
	}
	for e, s := range all {
		key, ok := newcomer.Key(bus.Epoch(e))
		if want := e >= 2; ok != want || ok && key != s.Key {
			t.Errorf("key of epoch %d known: %t", e, ok)
		}
	}

	_, err = all[2].Record.OpenHistory(all[2].Key, all[1].Record)
	wantCode(t, "no history there", err, bus.CodeNotFound)
	_, err = all[4].Record.OpenHistory(all[4].Key, all[2].Record)
	wantCode(t, "not the record before", err, bus.CodeFork)
	_, err = all[4].Record.OpenHistory(all[3].Key, all[3].Record)
	wantCode(t, "with another key", err, bus.CodeDecrypt)
}

// An author can sign a history that leads elsewhere; it is noticed by the
// commitment of the epoch before.
func TestHistoryOfAnotherKeyIsNoticed(t *testing.T) {
	first := really(t, "alice", nil, draft(t, "alice=owner"))
	liar := *first
	liar.Key = Key{1, 2, 3}
	second := forge(t, "alice", &liar, draft(t, "alice=owner"))
	_, err := second.Record.OpenHistory(second.Key, first.Record)
	wantCode(t, "open history", err, bus.CodeKeyMismatch)
	c := chainOf(t, first, second)
	c.keys = map[bus.Epoch]Key{1: second.Key}
	if got, err := c.OpenHistory(1, 0); bus.CodeOf(err) != bus.CodeKeyMismatch || got != 1 {
		t.Errorf("walked to %d, %v", got, err)
	}
	if _, ok := c.Key(0); ok {
		t.Error("the wrong key was kept")
	}
}

func TestNamesOfTwoRecordsShareNoBytes(t *testing.T) {
	first := really(t, "alice", nil, draft(t, "alice=owner"))
	second := really(t, "alice", first, draft(t, "alice=owner"))
	if bytes.Equal(first.Record.NameCT, second.Record.NameCT) || bytes.Contains(first.Record.Bytes(), []byte("scout")) {
		t.Error("the name shows")
	}
	_, err := second.Record.OpenName(first.Key)
	wantCode(t, "with another key", err, bus.CodeDecrypt)
}

func TestPlainRoomHasANameAndNothingToOpen(t *testing.T) {
	s := really(t, "alice", nil, plainDraft(t, "alice=owner bob=writer"))
	r := s.Record
	if len(s.Sealed) != 0 || s.Key != (Key{}) || !r.Commitment.IsZero() || len(r.HistoryCT) != 0 || string(r.NameCT) != "agent.scout.in" {
		t.Errorf("plain room: %+v", s)
	}
	if name, err := r.OpenName(Key{}); err != nil || name != "agent.scout.in" {
		t.Errorf("name %q, %v", name, err)
	}
	if err := r.CheckSealed(nil); err != nil {
		t.Error(err)
	}
	_, err := r.OpenKey(person(t, "bob"), nil)
	wantCode(t, "open key", err, bus.CodePolicy)
	wantCode(t, "check key", r.CheckKey(Key{}), bus.CodePolicy)
	next := really(t, "alice", s, plainDraft(t, "alice=owner"))
	if err := next.Record.Follows(r); err != nil {
		t.Error(err)
	}
}

func TestServerHoldsTheSealedKeysToTheRecord(t *testing.T) {
	s := really(t, "alice", nil, draft(t, "alice=owner bob=writer"))
	if err := s.Record.CheckSealed(s.Sealed); err != nil {
		t.Error(err)
	}
	other := slices.Clone(s.Sealed)
	other[0].Blob = append(bytes.Clone(other[0].Blob), 0)
	plain := forge(t, "alice", nil, plainDraft(t, "alice=owner"))
	for name, err := range map[string]error{
		"none":         s.Record.CheckSealed(nil),
		"one too few":  s.Record.CheckSealed(s.Sealed[:1]),
		"one too many": s.Record.CheckSealed(append(slices.Clone(s.Sealed), s.Sealed[0])),
		"swapped":      s.Record.CheckSealed([]Sealed{s.Sealed[1], s.Sealed[0]}),
		"another blob": s.Record.CheckSealed(other),
		"in the clear": plain.Record.CheckSealed(s.Sealed[:1]),
	} {
		wantCode(t, name, err, bus.CodeSealedMismatch)
	}
	huge := builder{author: person(t, "alice"), draft: draft(t, "alice=owner"), now: epoch0, rand: goldentest.Rand("huge"),
		seal: func(uint16, []byte, []byte, []byte) ([]byte, error) { return make([]byte, bus.MaxSealedSize+1), nil }}
	filler, err := huge.build()
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a key that the record names and that is too large", filler.Record.CheckSealed(filler.Sealed), bus.CodeTooLarge)
}

func TestKeysArePrintedByNoVerb(t *testing.T) {
	key := Key(bytes.Repeat([]byte{0xab}, 32))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c"} {
		for _, value := range []any{key, &key, []Key{key}, struct{ K Key }{key}} {
			text := strings.ToLower(fmt.Sprintf(verb, value))
			for _, form := range []string{"abab", "171", "«", "\xab\xab"} {
				if strings.Contains(text, form) {
					t.Errorf("%s of %T prints %q", verb, value, text)
				}
			}
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("made", "key", key)
	if text := log.String(); !strings.Contains(text, "room key") || strings.Contains(text, "171") {
		t.Errorf("logged as %s", text)
	}
}
