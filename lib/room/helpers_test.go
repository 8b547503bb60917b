package room

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

// epoch0 is the time on every clock here: 2027-01-15T08:00:00Z.
var epoch0 = time.Unix(1_800_000_000, 0).UTC()

// testBus is the bus of the golden vectors of package identity.
var testBus = func() bus.BusID {
	root, err := identity.GenerateRoot(goldentest.Rand("root"))
	if err != nil {
		panic(err)
	}
	return root.BusID()
}()

// somebody is one of the cast, made once: thousands of records are made of few.
type somebody struct {
	id   *identity.Identity
	card *identity.Card
}

var cast sync.Map // name to somebody

func meet(t testing.TB, name string) somebody {
	t.Helper()
	if known, ok := cast.Load(name); ok {
		return known.(somebody)
	}
	id := newPerson(t, name)
	card, err := identity.NewCard(id, testBus, epoch0, epoch0.Add(bus.MaxCardLife))
	if err != nil {
		t.Fatal(err)
	}
	known, _ := cast.LoadOrStore(name, somebody{id, card})
	return known.(somebody)
}

// newPerson returns the identity that belongs to a name, the same in every run
// and in the golden vectors of package identity, for this caller alone.
func newPerson(t testing.TB, name string) *identity.Identity {
	t.Helper()
	id, err := identity.Generate(goldentest.Rand(name))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// person returns the same identity, shared and not to be changed.
func person(t testing.TB, name string) *identity.Identity { t.Helper(); return meet(t, name).id }

// cardOf returns the first card of a person, shared and not to be changed.
func cardOf(t testing.TB, name string) *identity.Card { t.Helper(); return meet(t, name).card }

func idOf(t testing.TB, name string) bus.ID { return person(t, name).ID() }

// specs reads members from text such as "alice=owner bob=writer".
func specs(t testing.TB, text string) []MemberSpec {
	t.Helper()
	var list []MemberSpec
	for word := range strings.FieldsSeq(text) {
		name, roleName, _ := strings.Cut(word, "=")
		role, err := bus.ParseRole(roleName)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, MemberSpec{Card: cardOf(t, name), Role: role})
	}
	return list
}

func draft(t testing.TB, members string) Draft {
	t.Helper()
	return Draft{Policy: bus.DefaultPolicy(), Name: "agent.scout.in", Members: specs(t, members)}
}

func plainDraft(t testing.TB, members string) Draft {
	t.Helper()
	d := draft(t, members)
	d.Policy = bus.Policy{Suite: bus.SuitePlain, Flags: bus.FlagPersist}
	return d
}

// sketch returns instead of a sealed key something that depends on the same
// things, for tests that open none and make thousands.
func sketch(_ uint16, kemPub, info, plain []byte) ([]byte, error) {
	h := sha256.Sum256(slices.Concat(kemPub, info, plain))
	return h[:], nil
}

var made int

// forge makes a record after head, or a first one when head is nil, by the
// rules of the format only: nobody asks whether its author may.
func forge(t testing.TB, author string, head *Signed, d Draft) *Signed {
	t.Helper()
	made++
	b := builder{author: person(t, author), draft: d, now: epoch0, rand: goldentest.Rand(fmt.Sprint("record ", made)), seal: sketch}
	if head != nil {
		b.head, b.headKey = head.Record, head.Key
	}
	s, err := b.build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reform writes a record's fields anew after a change, signs them, and reads
// the result.
func reform(t testing.TB, author string, s *Signed, change func(*Record)) (*Record, error) {
	t.Helper()
	r := *s.Record
	change(&r)
	body, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	return resign(t, author, body, r.members)
}

// resign signs a body and reads the result.
func resign(t testing.TB, author string, body, members []byte) (*Record, error) {
	t.Helper()
	return ParseRecord(append(bytes.Clone(body), person(t, author).Sign(wire.LabelRecord, body)...), members)
}

func bodyOf(s *Signed) []byte {
	raw := s.Record.Bytes()
	return bytes.Clone(raw[:len(raw)-signatureSize])
}

func wantCode(t testing.TB, what string, err error, want bus.Code) {
	t.Helper()
	if got := bus.CodeOf(err); got != want {
		t.Errorf("%s: %v (code %q), want %q", what, err, got, want)
	}
}

// chainOf returns the chain that accepted the records, with their keys.
func chainOf(t testing.TB, records ...*Signed) *Chain {
	t.Helper()
	c := NewChain(records[0].Record.Room)
	for _, s := range records {
		if err := acceptSigned(c, s); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func acceptSigned(c *Chain, s *Signed) error {
	if s.Record.Policy.Encrypted() {
		return c.AcceptWithKey(s.Record, s.Key)
	}
	return c.Accept(s.Record)
}
