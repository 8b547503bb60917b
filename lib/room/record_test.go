package room

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

func TestRecordReadsBackAsItWasDrafted(t *testing.T) {
	first := forge(t, "alice", nil, draft(t, "alice=owner bob=writer carol=admin dave=reader"))
	r := first.Record
	if !r.IsGenesis() || r.Room != bus.RoomID(r.Hash()) || !r.Prev.IsZero() || r.MemberCount() != 4 {
		t.Errorf("first record: %+v", r)
	}
	if r.Hash() != bus.RecordHash(wire.Hash(wire.LabelRecordHash, r.Bytes())) {
		t.Error("hash is not that of the bytes")
	}
	want := map[bus.ID]bus.Role{
		idOf(t, "alice"): bus.RoleOwner, idOf(t, "bob"): bus.RoleWriter,
		idOf(t, "carol"): bus.RoleAdmin, idOf(t, "dave"): bus.RoleReader,
	}
	got := make(map[bus.ID]bus.Role)
	for i, m := range r.Members() {
		got[m.ID] = m.Role
		if one, ok := r.Member(m.ID); !ok || one != m {
			t.Errorf("member %s found as %+v, %t", m.ID, one, ok)
		}
		if m.SealedHash != HashSealed(first.Sealed[i].Blob) || first.Sealed[i].ID != m.ID {
			t.Errorf("sealed key %d is not that of member %s", i, m.ID)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if m, ok := r.Member(idOf(t, "erin")); ok || m != (Member{}) && m.ID == idOf(t, "erin") {
		t.Errorf("a stranger is a member: %+v", m)
	}
	for name, role := range map[string]bus.Role{"alice": bus.RoleOwner, "carol": bus.RoleAdmin, "bob": 0, "erin": 0} {
		if got := r.Authority(person(t, name).SignPub()); got != role {
			t.Errorf("authority of %s is %s", name, got)
		}
	}
	if got := r.NotAfter.Sub(r.Created); got != bus.DefaultRecordLife {
		t.Errorf("life %s", got)
	}

	next := forge(t, "alice", first, draft(t, "alice=owner"))
	if next.Record.Room != r.Room || next.Record.Epoch != 1 || next.Record.Prev != r.Hash() || next.Record.IsGenesis() {
		t.Errorf("second record: %+v", next.Record)
	}
}

func TestRecordKeepsItsOwnCopyOfTheBytes(t *testing.T) {
	s := forge(t, "alice", nil, draft(t, "alice=owner"))
	raw, members := bytes.Clone(s.Record.Bytes()), bytes.Clone(s.Record.MembersBytes())
	r, err := ParseRecord(raw, members)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	clear(members)
	if !bytes.Equal(r.Bytes(), s.Record.Bytes()) || !bytes.Equal(r.MembersBytes(), s.Record.MembersBytes()) || r.Role(idOf(t, "alice")) != bus.RoleOwner {
		t.Error("the record changed with the caller's bytes")
	}
	if _, err := r.OpenName(s.Key); err != nil {
		t.Error(err)
	}
}

// A record with every list full is what the limit is made for.
func TestFullestRecordFitsTheLimit(t *testing.T) {
	d := Draft{Policy: bus.DefaultPolicy(), Name: bus.RoomName(strings.Repeat("x", bus.MaxRoomName))}
	var names []string
	for i := range bus.MaxAuthorities {
		names = append(names, fmt.Sprintf("owner%d=owner", i))
	}
	d.Members = specs(t, strings.Join(names, " "))
	for i := range bus.MaxResolves {
		d.Resolves = append(d.Resolves, bus.RecordHash{byte(i + 1)})
	}
	for i := range bus.MaxCuts {
		d.Cuts = append(d.Cuts, Cut{ID: idOf(t, "bob"), Session: bus.SessionID{byte(i)}})
	}
	first := forge(t, "alice", nil, draft(t, "alice=owner bob=writer"))
	full := forge(t, "alice", first, d)
	if n := len(full.Record.Bytes()); n != 15_592 || n > bus.MaxRoomRecord {
		t.Errorf("fullest record has %d bytes, the limit is %d", n, bus.MaxRoomRecord)
	}
	if err := full.Record.Follows(first.Record); err != nil {
		t.Error(err)
	}

	for name, more := range map[string]func(*Draft){
		"authority": func(d *Draft) { d.Members = append(slices.Clone(d.Members), specs(t, "alice=admin")...) },
		"cut":       func(d *Draft) { d.Cuts = append(slices.Clone(d.Cuts), Cut{ID: idOf(t, "carol")}) },
		"resolved":  func(d *Draft) { d.Resolves = append(slices.Clone(d.Resolves), bus.RecordHash{9}) },
		"name":      func(d *Draft) { d.Name += "x" },
		"life":      func(d *Draft) { d.Life = bus.MaxRecordLife + time.Second },
		"no life":   func(d *Draft) { d.Life = -time.Second },
	} {
		tooMuch := d
		more(&tooMuch)
		b := builder{author: person(t, "alice"), head: first.Record, headKey: first.Key, draft: tooMuch, now: epoch0, rand: goldentest.Rand("x"), seal: sketch}
		_, err := b.build()
		wantCode(t, "one "+name+" more", err, bus.CodeMalformed)
	}
}

func TestLargestRoomFitsTheLimits(t *testing.T) {
	d := Draft{Policy: bus.DefaultPolicy(), Name: "big"}
	card := cardOf(t, "alice")
	d.Members = append(d.Members, MemberSpec{Card: card, Role: bus.RoleOwner})
	for i := range bus.MaxMembers - 1 {
		// Only the id of these cards matters here, and it comes from the signing key.
		other := *card
		other.SignPub = bus.SignPub{byte(i), byte(i >> 8), 1}
		d.Members = append(d.Members, MemberSpec{Card: &other, Role: bus.RoleReader})
	}
	s := forge(t, "alice", nil, d)
	if s.Record.MemberCount() != bus.MaxMembers || len(s.Sealed) != bus.MaxMembers {
		t.Errorf("%d members, %d sealed keys", s.Record.MemberCount(), len(s.Sealed))
	}
	if err := s.Record.CheckSealed(s.Sealed); err != nil {
		t.Error(err)
	}
	for _, m := range d.Members {
		if got := s.Record.Role(m.Card.ID()); got != m.Role {
			t.Fatalf("role %s, want %s", got, m.Role)
		}
	}

	extra := *card
	extra.SignPub = bus.SignPub{2: 2}
	d.Members = append(d.Members, MemberSpec{Card: &extra, Role: bus.RoleReader})
	_, err := Create(person(t, "alice"), d, epoch0, goldentest.Rand("x"))
	wantCode(t, "one member more", err, bus.CodeTooLarge)
	list := binary.BigEndian.AppendUint32(nil, uint32((bus.MaxMembers+1)*memberSize))
	_, err = ParseRecord(s.Record.Bytes(), append(list, make([]byte, (bus.MaxMembers+1)*memberSize)...))
	wantCode(t, "parse one member more", err, bus.CodeMalformed)
}

// Every record here is signed; what is wrong with it is what it says.
func TestRecordsThatAreRefusedWhateverCameBefore(t *testing.T) {
	first := forge(t, "alice", nil, draft(t, "alice=owner bob=writer carol=admin"))
	second := forge(t, "alice", first, draft(t, "alice=owner bob=writer carol=admin"))
	plain := forge(t, "alice", nil, plainDraft(t, "alice=owner bob=writer"))
	// members rewrites the list and the hash of it.
	members := func(change func(list []Member) []Member) func(*Record) {
		return func(r *Record) {
			r.members = encodeMembers(change(r.Members()))
			r.MembersHash = wire.Hash(wire.LabelMembers, r.members)
		}
	}
	for _, tc := range []struct {
		name   string
		base   *Signed
		change func(*Record)
		want   bus.Code
	}{
		{"unchanged first", first, func(*Record) {}, ""},
		{"unchanged second", second, func(*Record) {}, ""},
		{"unchanged plain", plain, func(*Record) {}, ""},
		{"first with a previous record", first, func(r *Record) { r.Prev = bus.RecordHash{1} }, bus.CodeMalformed},
		{"later without a previous record", second, func(r *Record) { r.Prev = bus.RecordHash{} }, bus.CodeMalformed},
		{"later without a room", second, func(r *Record) { r.Room = bus.RoomID{} }, bus.CodeMalformed},
		{"cuts in the first", first, func(r *Record) { r.Cuts = []Cut{{}} }, bus.CodeMalformed},
		{"resolves in the first", first, func(r *Record) { r.Resolves = []bus.RecordHash{{1}} }, bus.CodeMalformed},
		{"no life", second, func(r *Record) { r.NotAfter = r.Created }, bus.CodeMalformed},
		{"a second over 90 days", second, func(r *Record) { r.NotAfter = r.Created.Add(bus.MaxRecordLife + time.Second) }, bus.CodeMalformed},
		{"unknown suite", second, func(r *Record) { r.Policy.Suite = 3 }, bus.CodePolicy},
		{"unknown flag", second, func(r *Record) { r.Policy.Flags |= 1 << 4 }, bus.CodePolicy},
		{"flag without a suite", plain, func(r *Record) { r.Policy.Flags |= bus.FlagEncrypt }, bus.CodePolicy},
		{"suite without the flag", second, func(r *Record) { r.Policy.Flags &^= bus.FlagEncrypt }, bus.CodePolicy},
		{"history in the clear", plain, func(r *Record) { r.Policy.Flags |= bus.FlagHistory }, bus.CodePolicy},
		{"long grace", second, func(r *Record) { r.Policy.Grace = bus.MaxGrace + time.Second }, bus.CodePolicy},
		{"no commitment", second, func(r *Record) { r.Commitment = bus.KeyCommitment{} }, bus.CodeMalformed},
		{"commitment in the clear", plain, func(r *Record) { r.Commitment = bus.KeyCommitment{1} }, bus.CodeMalformed},
		{"history in the first", first, func(r *Record) { r.HistoryCT = make([]byte, historySize) }, bus.CodeMalformed},
		{"no history though the flag is set", second, func(r *Record) { r.HistoryCT = nil }, bus.CodeMalformed},
		{"history though the flag is not set", second, func(r *Record) { r.Policy.Flags &^= bus.FlagHistory }, bus.CodeMalformed},
		{"history too short", second, func(r *Record) { r.HistoryCT = r.HistoryCT[1:] }, bus.CodeMalformed},
		{"empty sealed name", second, func(r *Record) { r.NameCT = r.NameCT[:wire.NonceSize+wire.Overhead] }, bus.CodeMalformed},
		{"long sealed name", second, func(r *Record) { r.NameCT = make([]byte, wire.NonceSize+wire.Overhead+bus.MaxRoomName+1) }, bus.CodeMalformed},
		{"plain name that is none", plain, func(r *Record) { r.NameCT = []byte("no name!") }, bus.CodeMalformed},
		{"authorities out of order", second, func(r *Record) {
			r.Authorities = []Authority{r.Authorities[1], r.Authorities[0]}
		}, bus.CodeMalformed},
		{"authority twice", second, func(r *Record) {
			r.Authorities = []Authority{r.Authorities[0], r.Authorities[0]}
		}, bus.CodeMalformed},
		{"authority that is a writer", second, func(r *Record) {
			r.Authorities = []Authority{{r.Authorities[0].SignPub, bus.RoleWriter}, r.Authorities[1]}
		}, bus.CodeMalformed},
		{"authority of another role than the member", second, func(r *Record) {
			r.Authorities = slices.Clone(r.Authorities)
			r.Authorities[0].Role ^= bus.RoleAdmin ^ bus.RoleOwner
		}, bus.CodeMembersMismatch},
		{"authority that is no member", second, func(r *Record) {
			r.Authorities = slices.Clone(r.Authorities)
			r.Authorities[1].SignPub[31]++
		}, bus.CodeMembersMismatch},
		{"an authority too few", second, func(r *Record) { r.Authorities = r.Authorities[:1] }, bus.CodeMembersMismatch},
		{"none", second, func(r *Record) { r.Authorities = nil }, bus.CodeMembersMismatch},
		{"cuts out of order", second, func(r *Record) { r.Cuts = []Cut{{Session: bus.SessionID{2}}, {Session: bus.SessionID{1}}} }, bus.CodeMalformed},
		{"cut twice", second, func(r *Record) { r.Cuts = []Cut{{LastSeq: 1}, {LastSeq: 2}} }, bus.CodeMalformed},
		{"resolves out of order", second, func(r *Record) { r.Resolves = []bus.RecordHash{{2}, {1}} }, bus.CodeMalformed},
		{"hash of another list", second, func(r *Record) { r.MembersHash[0]++ }, bus.CodeMembersMismatch},
		{"members out of order", second, members(func(l []Member) []Member { slices.Reverse(l); return l }), bus.CodeMalformed},
		{"member twice", second, members(func(l []Member) []Member { return append(l[:1], l...) }), bus.CodeMalformed},
		{"no members", second, members(func([]Member) []Member { return nil }), bus.CodeMalformed},
		{"member without a role", second, members(func(l []Member) []Member { l[0].Role = 0; return l }), bus.CodeMalformed},
		{"member of role 5", second, members(func(l []Member) []Member { l[0].Role = 5; return l }), bus.CodeMalformed},
		{"member without a sealed key", second, members(func(l []Member) []Member { l[0].SealedHash = bus.SealedHash{}; return l }), bus.CodeMalformed},
		{"sealed key in the clear", plain, members(func(l []Member) []Member { l[0].SealedHash = bus.SealedHash{1}; return l }), bus.CodeMalformed},
		{"another signer's name", second, func(r *Record) { r.Signer = person(t, "bob").SignPub() }, bus.CodeBadSignature},
		{"weak signer", second, func(r *Record) { r.Signer = bus.SignPub{1} }, bus.CodeWeakKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := reform(t, "alice", tc.base, tc.change)
			wantCode(t, "parse", err, tc.want)
		})
	}
}

func encodeMembers(list []Member) []byte {
	raw := binary.BigEndian.AppendUint32(nil, uint32(len(list)*memberSize))
	for _, m := range list {
		raw = slices.Concat(raw, m.ID[:], m.CardHash[:], []byte{byte(m.Role)}, m.SealedHash[:])
	}
	return raw
}

// An authority with a key of small order would let anybody sign.
func TestWeakAuthorityIsRefused(t *testing.T) {
	weak := bus.SignPub{1} // the identity point
	s := forge(t, "alice", nil, plainDraft(t, "alice=owner"))
	_, err := reform(t, "alice", s, func(r *Record) {
		r.Authorities = append([]Authority{{weak, bus.RoleOwner}}, r.Authorities...)
		slices.SortFunc(r.Authorities, func(a, b Authority) int { return bytes.Compare(a.SignPub[:], b.SignPub[:]) })
		list := append(r.Members(), Member{ID: identity.IDOf(weak), CardHash: bus.CardHash{1}, Role: bus.RoleOwner})
		slices.SortFunc(list, func(a, b Member) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		r.members = encodeMembers(list)
		r.MembersHash = wire.Hash(wire.LabelMembers, r.members)
	})
	wantCode(t, "parse", err, bus.CodeWeakKey)
}

func TestBytesThatAreNoRecord(t *testing.T) {
	s := forge(t, "alice", nil, draft(t, "alice=owner"))
	raw, members, body := s.Record.Bytes(), s.Record.MembersBytes(), bodyOf(s)
	at := func(i int, b byte) []byte {
		changed := bytes.Clone(body)
		changed[i] = b
		return changed
	}
	for name, bad := range map[string][]byte{
		"empty":                nil,
		"another version":      at(0, 2),
		"a card's type":        at(1, bus.TypeCard),
		"room in the first":    at(2, 1),
		"epoch out of its own": at(41, 1),
		"time out of range":    at(74, 0x80),
		"a byte too long":      append(bytes.Clone(body), 0),
		"half an authority":    bytes.Replace(body, []byte{0, 33}, []byte{0, 32}, 1),
		"larger than any":      append(bytes.Clone(body), make([]byte, bus.MaxRoomRecord)...),
	} {
		_, err := resign(t, "alice", bad, members)
		wantCode(t, name, err, bus.CodeMalformed)
	}
	for n := range raw {
		_, err := ParseRecord(raw[:n], members)
		if bus.CodeOf(err) != bus.CodeMalformed {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for n := range members {
		_, err := ParseRecord(raw, members[:n])
		if bus.CodeOf(err) != bus.CodeMembersMismatch {
			t.Fatalf("members cut to %d bytes: %v", n, err)
		}
	}
	_, err := ParseRecord(raw, append(bytes.Clone(members), 0))
	wantCode(t, "members too long", err, bus.CodeMembersMismatch)
}

// The member list's own length, with a hash that fits what was sent.
func TestMemberListOfAnotherLengthThanItSays(t *testing.T) {
	s := forge(t, "alice", nil, draft(t, "alice=owner"))
	for name, list := range map[string][]byte{
		"no length":    {},
		"one too many": append(bytes.Clone(s.Record.MembersBytes()), 0),
		"says less":    append([]byte{0, 0, 0, 0}, s.Record.MembersBytes()[4:]...),
		"half a line":  append([]byte{0, 0, 0, 40}, s.Record.MembersBytes()[4:44]...),
	} {
		_, err := reform(t, "alice", s, func(r *Record) {
			r.members = list
			r.MembersHash = wire.Hash(wire.LabelMembers, list)
		})
		wantCode(t, name, err, bus.CodeMalformed)
	}
}

func TestEveryFlippedBitOfARecordIsNoticed(t *testing.T) {
	first := forge(t, "alice", nil, draft(t, "alice=owner bob=writer"))
	d := draft(t, "alice=owner carol=admin")
	d.Cuts, d.Resolves = []Cut{{ID: idOf(t, "bob")}}, []bus.RecordHash{{1}}
	r := forge(t, "alice", first, d).Record
	flipEveryBit(t, r.Bytes(), func(raw []byte) error {
		_, err := ParseRecord(raw, r.MembersBytes())
		return err
	}, bus.CodeMalformed, bus.CodePolicy, bus.CodeWeakKey, bus.CodeMembersMismatch, bus.CodeBadSignature)
	flipEveryBit(t, r.MembersBytes(), func(raw []byte) error {
		_, err := ParseRecord(r.Bytes(), raw)
		return err
	}, bus.CodeMembersMismatch)
}

// flipEveryBit fails the test unless parse refuses raw with any one of its bits
// changed, each time with one of the codes, and accepts it as it is. It wants
// every code at least once.
func flipEveryBit(t *testing.T, raw []byte, parse func([]byte) error, codes ...bus.Code) {
	t.Helper()
	if err := parse(raw); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[bus.Code]bool)
	var workers sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for w := range n {
		workers.Go(func() {
			mine := bytes.Clone(raw)
			for bit := w; bit < 8*len(raw); bit += n {
				mine[bit/8] ^= 1 << (bit % 8)
				code := bus.CodeOf(parse(mine))
				mine[bit/8] ^= 1 << (bit % 8)
				if !slices.Contains(codes, code) {
					t.Errorf("bit %d of byte %d flipped: code %q", bit%8, bit/8, code)
				}
				mu.Lock()
				seen[code] = true
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	for _, c := range codes {
		if !seen[c] {
			t.Errorf("no flipped bit was %q", c)
		}
	}
}

// A signature under another label is none, even by the right key.
func TestSignatureOfAnotherKindIsNoRecordSignature(t *testing.T) {
	s := forge(t, "alice", nil, draft(t, "alice=owner"))
	body := bodyOf(s)
	for _, l := range []wire.Label{wire.LabelCard, wire.LabelFrame, wire.LabelRecordHash} {
		_, err := ParseRecord(append(bytes.Clone(body), person(t, "alice").Sign(l, body)...), s.Record.MembersBytes())
		wantCode(t, string(l), err, bus.CodeBadSignature)
	}
	signSeed := make([]byte, ed25519.SeedSize)
	if _, err := goldentest.Rand("alice").Read(signSeed); err != nil {
		t.Fatal(err)
	}
	_, err := ParseRecord(append(bytes.Clone(body), ed25519.Sign(ed25519.NewKeyFromSeed(signSeed), body)...), s.Record.MembersBytes())
	wantCode(t, "without a label", err, bus.CodeBadSignature)
}

func TestRecordIsAliveBetweenItsTimesGiveOrTakeTheSkew(t *testing.T) {
	r := forge(t, "alice", nil, draft(t, "alice=owner")).Record
	for _, tc := range []struct {
		name string
		now  time.Time
		want bus.Code
	}{
		{"just early enough", r.Created.Add(-bus.ClockSkew), ""},
		{"too early", r.Created.Add(-bus.ClockSkew - time.Second), bus.CodeClockSkew},
		{"just not too late", r.NotAfter.Add(bus.ClockSkew), ""},
		{"too late", r.NotAfter.Add(bus.ClockSkew + time.Second), bus.CodeExpired},
	} {
		wantCode(t, tc.name, r.CheckTime(tc.now), tc.want)
	}
}

func TestCardIsTheOneThatAMemberNames(t *testing.T) {
	r := forge(t, "alice", nil, draft(t, "alice=owner bob=writer")).Record
	m, _ := r.Member(idOf(t, "bob"))
	if err := CheckCard(m, cardOf(t, "bob")); err != nil {
		t.Error(err)
	}
	newer, err := identity.NewCard(person(t, "bob"), testBus, epoch0, epoch0.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "another card", CheckCard(m, newer), bus.CodeCardMismatch)
	wantCode(t, "another's card", CheckCard(m, cardOf(t, "alice")), bus.CodeCardMismatch)
}
