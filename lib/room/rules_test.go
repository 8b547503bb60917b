package room

import (
	"errors"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

// The table of the package comment, role by role and change by change.
func TestWhoMayChangeWhat(t *testing.T) {
	const cast = "olga=owner otto=owner anna=admin adam=admin will=writer ruth=reader "
	const ok, no, none = bus.Code(""), bus.CodeTransition, bus.CodeNotAuthority
	will := Cut{ID: idOf(t, "will"), Session: bus.SessionID{1}, LastSeq: 5}
	for _, tc := range []struct {
		name         string
		change       func(*Draft)
		owner, admin bus.Code
	}{
		{"renews", func(d *Draft) { d.Life = time.Hour }, ok, ok},
		{"adds a reader", func(d *Draft) { d.Members = append(d.Members, specs(t, "nina=reader")...) }, ok, ok},
		{"adds a writer", func(d *Draft) { d.Members = append(d.Members, specs(t, "nina=writer")...) }, ok, ok},
		{"adds an admin", func(d *Draft) { d.Members = append(d.Members, specs(t, "nina=admin")...) }, ok, no},
		{"adds an owner", func(d *Draft) { d.Members = append(d.Members, specs(t, "nina=owner")...) }, ok, no},
		{"removes a reader", func(d *Draft) { d.Members = specs(t, "olga=owner otto=owner anna=admin adam=admin will=writer") }, ok, ok},
		{"removes a writer", func(d *Draft) { d.Members = specs(t, "olga=owner otto=owner anna=admin adam=admin ruth=reader") }, ok, ok},
		{"removes a writer with a cut", func(d *Draft) {
			d.Members, d.Cuts = specs(t, "olga=owner otto=owner anna=admin adam=admin ruth=reader"), []Cut{will}
		}, ok, ok},
		{"demotes a writer with a cut", func(d *Draft) {
			d.Members, d.Cuts = specs(t, "olga=owner otto=owner anna=admin adam=admin will=reader ruth=reader"), []Cut{will}
		}, ok, ok},
		{"makes a reader a writer", func(d *Draft) {
			d.Members = specs(t, "olga=owner otto=owner anna=admin adam=admin will=writer ruth=writer")
		}, ok, ok},
		{"promotes a writer to admin", func(d *Draft) {
			d.Members = specs(t, "olga=owner otto=owner anna=admin adam=admin will=admin ruth=reader")
		}, ok, no},
		{"removes an admin", func(d *Draft) { d.Members = specs(t, "olga=owner otto=owner anna=admin will=writer ruth=reader") }, ok, no},
		{"demotes an admin", func(d *Draft) {
			d.Members = specs(t, "olga=owner otto=owner anna=admin adam=writer will=writer ruth=reader")
		}, ok, no},
		{"promotes an admin", func(d *Draft) {
			d.Members = specs(t, "olga=owner otto=owner anna=owner adam=admin will=writer ruth=reader")
		}, ok, no},
		{"removes an owner", func(d *Draft) { d.Members = specs(t, "olga=owner anna=admin adam=admin will=writer ruth=reader") }, ok, no},
		{"demotes an owner", func(d *Draft) {
			d.Members = specs(t, "olga=owner otto=admin anna=admin adam=admin will=writer ruth=reader")
		}, ok, no},
		{"swaps an admin for another", func(d *Draft) {
			d.Members = specs(t, "olga=owner otto=owner anna=admin nina=admin will=writer ruth=reader")
		}, ok, no},
		{"leaves no owner", func(d *Draft) {
			d.Members = specs(t, "olga=admin otto=admin anna=admin adam=admin will=writer ruth=reader")
		}, no, no},
		{"leaves nobody but an admin", func(d *Draft) { d.Members = specs(t, "anna=admin") }, no, no},
		{"leaves by itself, an owner staying", func(d *Draft) { d.Members = specs(t, "otto=owner") }, ok, no},
		{"stops persisting", func(d *Draft) { d.Policy.Flags &^= bus.FlagPersist }, ok, no},
		{"stops history", func(d *Draft) { d.Policy.Flags &^= bus.FlagHistory }, ok, no},
		{"starts padding", func(d *Draft) { d.Policy.Flags |= bus.FlagPad }, ok, no},
		{"rotates more often", func(d *Draft) { d.Policy.Rotate = time.Hour }, ok, no},
		{"keeps frames shorter", func(d *Draft) { d.Policy.MaxAge = time.Hour }, ok, no},
		{"shortens the grace", func(d *Draft) { d.Policy.Grace = time.Second }, ok, no},
		{"changes the suite", func(d *Draft) { d.Policy.Suite = bus.SuiteXChaCha20 }, no, no},
		{"stops encrypting", func(d *Draft) {
			d.Policy = bus.Policy{Suite: bus.SuitePlain, Flags: bus.FlagPersist, Rotate: d.Policy.Rotate, Grace: d.Policy.Grace}
		}, no, no},
		{"resolves a fork", func(d *Draft) { d.Resolves = []bus.RecordHash{{1}} }, ok, no},
		{"cuts somebody who stays a writer", func(d *Draft) { d.Cuts = []Cut{will} }, no, no},
		{"cuts an owner", func(d *Draft) { d.Cuts = []Cut{{ID: idOf(t, "otto")}} }, no, no},
		{"cuts a reader it removes", func(d *Draft) {
			d.Members, d.Cuts = specs(t, "olga=owner otto=owner anna=admin adam=admin will=writer"), []Cut{{ID: idOf(t, "ruth")}}
		}, no, no},
		{"cuts a stranger", func(d *Draft) { d.Cuts = []Cut{{ID: idOf(t, "nina")}} }, no, no},
		{"cuts a newcomer", func(d *Draft) {
			d.Members, d.Cuts = append(d.Members, specs(t, "nina=reader")...), []Cut{{ID: idOf(t, "nina")}}
		}, no, no},
	} {
		t.Run(tc.name, func(t *testing.T) {
			head := forge(t, "olga", nil, draft(t, cast))
			d := draft(t, cast)
			tc.change(&d)
			for signer, want := range map[string]bus.Code{"olga": tc.owner, "anna": tc.admin, "will": none, "ruth": none, "nina": none} {
				s := forge(t, signer, head, d)
				wantCode(t, "signed by "+signer, s.Record.Follows(head.Record), want)
				b := builder{author: person(t, signer), head: head.Record, headKey: head.Key, draft: d, now: epoch0, rand: goldentest.Rand("x"), seal: sketch}
				if _, err := b.next(); bus.CodeOf(err) != want {
					t.Errorf("Next by %s: %v, want what Follows says: %q", signer, err, want)
				}
			}
		})
	}
}

// Servers see the name where nothing is encrypted; elsewhere only members do.
func TestOnlyOwnersChangeTheName(t *testing.T) {
	for _, make := range []func(testing.TB, string) Draft{draft, plainDraft} {
		head := forge(t, "olga", nil, make(t, "olga=owner anna=admin"))
		d := make(t, "olga=owner anna=admin")
		d.Name = "another.name"
		encrypted := d.Policy.Encrypted()
		for signer, want := range map[string]bus.Code{"olga": "", "anna": bus.CodeTransition} {
			s := forge(t, signer, head, d)
			seen := want
			if encrypted {
				seen = ""
			}
			wantCode(t, "seen by a server, signed by "+signer, s.Record.Follows(head.Record), seen)
			wantCode(t, "seen by a member, signed by "+signer, acceptSigned(chainOf(t, head), s), want)
			b := builder{author: person(t, signer), head: head.Record, headKey: head.Key, draft: d, now: epoch0, rand: goldentest.Rand("x"), seal: sketch}
			_, err := b.next()
			wantCode(t, "Next by "+signer, err, want)
		}
	}
}

func TestPlaceInTheChain(t *testing.T) {
	//	      ┌─ a1 ── a2 ── a3
	//	root ─┤
	//	      └─ b1 ── b2          other: a room of its own
	d := plainDraft(t, "alice=owner bob=admin")
	root := forge(t, "alice", nil, d)
	a1, b1 := forge(t, "alice", root, d), forge(t, "bob", root, d)
	a2, b2 := forge(t, "bob", a1, d), forge(t, "bob", b1, d)
	a3 := forge(t, "alice", a2, d)
	other := forge(t, "alice", nil, d)
	other1 := forge(t, "alice", other, d)
	for _, tc := range []struct {
		name         string
		record, head *Signed
		want         bus.Code
	}{
		{"next", a1, root, ""},
		{"next on the other branch", b1, root, ""},
		{"one too far", a2, root, bus.CodeGap},
		{"two too far", a3, root, bus.CodeGap},
		{"the head again", a1, a1, bus.CodeRollback},
		{"an older one", root, a2, bus.CodeRollback},
		{"sibling of the head", b1, a1, bus.CodeFork},
		{"child of the sibling", b2, a1, bus.CodeFork},
		{"of another room", other1, root, bus.CodeMisrouted},
		{"first of another room", other, root, bus.CodeMisrouted},
	} {
		wantCode(t, tc.name, tc.record.Record.Follows(tc.head.Record), tc.want)
	}
}

func TestFirstRecordIsSignedByAnOwnerOfIt(t *testing.T) {
	for _, tc := range []struct {
		name, author, members string
		want                  bus.Code
	}{
		{"owner", "alice", "alice=owner bob=admin", ""},
		{"one of two owners", "bob", "alice=owner bob=owner", ""},
		{"admin", "bob", "alice=owner bob=admin", bus.CodeNotAuthority},
		{"writer", "bob", "alice=owner bob=writer", bus.CodeNotAuthority},
		{"stranger", "bob", "alice=owner", bus.CodeNotAuthority},
		{"no owner at all", "alice", "alice=admin", bus.CodeNotAuthority},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := draft(t, tc.members)
			wantCode(t, "check", CheckGenesis(forge(t, tc.author, nil, d).Record), tc.want)
			_, err := Create(person(t, tc.author), d, epoch0, goldentest.Rand("x"))
			wantCode(t, "create", err, tc.want)
		})
	}
	first := forge(t, "alice", nil, draft(t, "alice=owner"))
	wantCode(t, "second record", CheckGenesis(forge(t, "alice", first, draft(t, "alice=owner")).Record), bus.CodeGap)
}

func TestDraftsThatAreRefused(t *testing.T) {
	strange := *cardOf(t, "bob")
	strange.BusID = bus.BusID{9}
	for name, tc := range map[string]struct {
		change func(*Draft)
		want   bus.Code
	}{
		"nobody":       {func(d *Draft) { d.Members = nil }, bus.CodeMalformed},
		"twice":        {func(d *Draft) { d.Members = specs(t, "alice=owner alice=writer") }, bus.CodeMalformed},
		"no role":      {func(d *Draft) { d.Members[0].Role = 0 }, bus.CodeMalformed},
		"no name":      {func(d *Draft) { d.Name = "" }, bus.CodeMalformed},
		"bad name":     {func(d *Draft) { d.Name = "a..b" }, bus.CodeMalformed},
		"bad policy":   {func(d *Draft) { d.Policy.Suite = 9 }, bus.CodePolicy},
		"cuts":         {func(d *Draft) { d.Cuts = []Cut{{}} }, bus.CodeMalformed},
		"resolves":     {func(d *Draft) { d.Resolves = []bus.RecordHash{{1}} }, bus.CodeMalformed},
		"long life":    {func(d *Draft) { d.Life = bus.MaxRecordLife + time.Second }, bus.CodeMalformed},
		"life of none": {func(d *Draft) { d.Life = time.Millisecond }, bus.CodeMalformed},
		"two buses":    {func(d *Draft) { d.Members = append(d.Members, MemberSpec{&strange, bus.RoleReader}) }, bus.CodeWrongBus},
		"cut-off rand": {nil, bus.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			d, rand := draft(t, "alice=owner"), goldentest.Rand("x")
			if tc.change != nil {
				tc.change(&d)
			} else {
				rand = errReader{}
			}
			_, err := Create(person(t, "alice"), d, epoch0, rand)
			wantCode(t, "create", err, tc.want)
		})
	}
	head := forge(t, "alice", nil, draft(t, "alice=owner"))
	_, err := Next(person(t, "alice"), head.Record, Key{1}, draft(t, "alice=owner"), epoch0, goldentest.Rand("x"))
	wantCode(t, "key of another epoch", err, bus.CodeKeyMismatch)
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("no randomness") }
