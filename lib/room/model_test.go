package room

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

// Everybody there is in the model.
var everybody = []string{"alice", "bob", "carol", "dave", "erin"}

// step is what the model knows of a record: what it was drafted with.
type step struct {
	record   *Record
	parent   int // among all records; -1 for the first
	epoch    int
	signer   string
	roles    map[string]bus.Role
	policy   bus.Policy
	name     bus.RoomName
	cuts     []string
	resolves []int
}

// model is the rules of the room once more, written naively and from the table
// in the package comment: by names instead of keys, with nothing encoded,
// hashed or signed.
type model struct {
	all      []step
	accepted []int // by epoch
}

// lawful returns why a record may not follow its parent, or "".
func (m *model) lawful(i int) bus.Code {
	s := m.all[i]
	before := m.all[s.parent]
	signer := before.roles[s.signer]
	if signer != bus.RoleAdmin && signer != bus.RoleOwner {
		return bus.CodeNotAuthority
	}
	owners, sameAuthorities := 0, true
	for _, name := range everybody {
		then, now := before.roles[name], s.roles[name]
		if now == bus.RoleOwner {
			owners++
		}
		if (then >= bus.RoleAdmin || now >= bus.RoleAdmin) && then != now {
			sameAuthorities = false
		}
		if slices.Contains(s.cuts, name) && (then < bus.RoleWriter || now >= bus.RoleWriter) {
			return bus.CodeTransition
		}
	}
	switch {
	case owners == 0, s.policy.Suite != before.policy.Suite:
		return bus.CodeTransition
	case signer == bus.RoleOwner:
		return ""
	case !sameAuthorities, s.policy != before.policy, s.name != before.name, len(s.resolves) > 0:
		return bus.CodeTransition
	}
	return ""
}

// siblings returns what a second lawful successor is called: who says openly that
// one gives up the other does not contradict themselves.
func (m *model) siblings(i, j int) bus.Code {
	open := slices.Contains(m.all[i].resolves, j) || slices.Contains(m.all[j].resolves, i)
	if m.all[i].signer == m.all[j].signer && !open {
		return bus.CodeEquivocation
	}
	return bus.CodeFork
}

// accept delivers a record and returns what is to come of it.
func (m *model) accept(i int) bus.Code {
	s, head := m.all[i], m.accepted[len(m.accepted)-1]
	switch {
	case i == head:
		return ""
	case slices.Contains(m.accepted, i):
		return bus.CodeRollback
	case s.epoch > len(m.accepted):
		return bus.CodeGap
	case s.parent != m.accepted[s.epoch-1]:
		return bus.CodeFork
	}
	if code := m.lawful(i); code != "" {
		return code
	}
	if s.epoch < len(m.accepted) {
		return m.siblings(i, m.accepted[s.epoch])
	}
	m.accepted = append(m.accepted, i)
	return ""
}

// path returns the records from the first to i.
func (m *model) path(i int) []int {
	var path []int
	for ; i >= 0; i = m.all[i].parent {
		path = append(path, i)
	}
	slices.Reverse(path)
	return path
}

// shared returns how many records a path has in common with what was accepted.
func (m *model) shared(path []int) int {
	at := 0
	for at < len(path) && at < len(m.accepted) && path[at] == m.accepted[at] {
		at++
	}
	return at
}

// switchTo delivers a whole branch and returns what is to come of it.
func (m *model) switchTo(tip int) bus.Code {
	path := m.path(tip)
	at := m.shared(path)
	if at == len(path) {
		return bus.CodeRollback
	}
	for _, i := range path[at:] {
		if code := m.lawful(i); code != "" {
			return code
		}
	}
	if at < len(m.accepted) {
		lost, head := m.accepted[at], m.all[m.accepted[len(m.accepted)-1]]
		code := m.siblings(path[at], lost)
		for _, i := range path[at:] {
			if !slices.Contains(m.all[i].resolves, lost) {
				continue
			}
			if head.roles[m.all[i].signer] == bus.RoleOwner {
				code = ""
				break
			}
			code = bus.CodeNotAuthority
		}
		if code != "" {
			return code
		}
		if len(path) <= len(m.accepted) {
			return bus.CodeRollback
		}
	}
	m.accepted = path
	return ""
}

// draw makes a record after a drawn one: mostly by an authority, with few
// changes, so that lawful ones are common.
func (m *model) draw(t *rapid.T, outer testing.TB) {
	parent := rapid.IntRange(0, len(m.all)-1).Draw(t, "parent")
	if rapid.Bool().Draw(t, "after the head") {
		parent = m.accepted[len(m.accepted)-1]
	}
	before := m.all[parent]
	s := step{parent: parent, epoch: before.epoch + 1, roles: maps.Clone(before.roles), policy: before.policy, name: before.name}
	s.signer = rapid.SampledFrom(everybody).Draw(t, "signer")
	if rapid.IntRange(0, 4).Draw(t, "who signs") > 0 {
		s.signer = rapid.SampledFrom(atLeast(bus.RoleAdmin, before.roles)).Draw(t, "authority")
	}
	for range rapid.IntRange(0, 2).Draw(t, "role changes") {
		name := rapid.SampledFrom(everybody).Draw(t, "whose")
		role := bus.Role(rapid.IntRange(0, 4).Draw(t, "role"))
		if role == 0 && len(s.roles) > 1 {
			delete(s.roles, name)
		} else if role > 0 {
			s.roles[name] = role
		}
		if before.roles[name] >= bus.RoleWriter && rapid.Bool().Draw(t, "cut") && !slices.Contains(s.cuts, name) {
			s.cuts = append(s.cuts, name)
		}
	}
	switch rapid.IntRange(0, 9).Draw(t, "what else") {
	case 0:
		s.policy.Flags ^= bus.FlagPersist
	case 1:
		s.name += "x"
	case 2:
		s.policy.Suite, s.policy.Flags = bus.SuiteXAESGCM, s.policy.Flags|bus.FlagEncrypt
	case 3:
		s.resolves = []int{rapid.IntRange(0, len(m.all)-1).Draw(t, "lost")}
	}
	s.record = s.forge(t, outer, m)
	m.all = append(m.all, s)
}

// choose has somebody, mostly an owner, renew a branch a few times and name in
// the first of these records what it would replace.
func (m *model) choose(t *rapid.T, outer testing.TB) {
	parent := rapid.IntRange(0, len(m.all)-1).Draw(t, "parent")
	path := m.path(parent)
	for n := range rapid.IntRange(1, 4).Draw(t, "renewals") {
		before := m.all[parent]
		s := step{parent: parent, epoch: before.epoch + 1, roles: before.roles, policy: before.policy, name: before.name}
		s.signer = rapid.SampledFrom(atLeast(bus.RoleOwner, before.roles)).Draw(t, "signer")
		if at := m.shared(path); n == 0 && at < min(len(path)+1, len(m.accepted)) {
			s.resolves = []int{m.accepted[at]}
		}
		s.record = s.forge(t, outer, m)
		m.all = append(m.all, s)
		parent = len(m.all) - 1
	}
}

// atLeast returns who has a role or a higher one, in order, and everybody when
// nobody has: such a branch is dead, and whoever tries fails.
func atLeast(role bus.Role, roles map[string]bus.Role) []string {
	var names []string
	for _, name := range everybody {
		if roles[name] >= role {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return everybody
	}
	return names
}

// forge makes the record that the step describes. Its randomness is its number,
// so that rapid can repeat a run.
func (s *step) forge(t *rapid.T, outer testing.TB, m *model) *Record {
	d := Draft{Policy: s.policy, Name: s.name}
	for _, name := range everybody {
		if role, ok := s.roles[name]; ok {
			d.Members = append(d.Members, MemberSpec{Card: cardOf(outer, name), Role: role})
		}
	}
	for _, name := range s.cuts {
		d.Cuts = append(d.Cuts, Cut{ID: idOf(outer, name)})
	}
	for _, i := range s.resolves {
		d.Resolves = append(d.Resolves, m.all[i].record.Hash())
	}
	b := builder{author: person(outer, s.signer), draft: d, now: epoch0, rand: goldentest.Rand(fmt.Sprint("model ", len(m.all))), seal: sketch}
	if s.parent >= 0 {
		b.head = m.all[s.parent].record
	}
	made, err := b.build()
	if err != nil {
		t.Fatal(err)
	}
	return made.Record
}

func TestChainAgreesWithANaiveModel(t *testing.T) {
	outcomes := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		first := step{
			parent: -1, signer: "alice", name: "model", policy: bus.Policy{Suite: bus.SuitePlain},
			roles: map[string]bus.Role{"alice": bus.RoleOwner, "bob": bus.RoleOwner, "carol": bus.RoleAdmin, "dave": bus.RoleWriter},
		}
		m := &model{}
		first.record = first.forge(rt, t, m)
		m.all, m.accepted = []step{first}, []int{0}
		chain := NewChain(first.record.Room)
		if err := chain.Accept(first.record); err != nil {
			rt.Fatal(err)
		}
		compare := func(rt *rapid.T, what string, want bus.Code, err error) {
			if got := bus.CodeOf(err); got != want {
				rt.Fatalf("%s: %v (code %q), the model says %q", what, err, got, want)
			}
			outcomes[what+" "+string(want)]++
		}
		rt.Repeat(map[string]func(*rapid.T){
			"make":   func(rt *rapid.T) { m.draw(rt, t) },
			"choose": func(rt *rapid.T) { m.choose(rt, t) },
			"deliver the newest": func(rt *rapid.T) {
				i := len(m.all) - 1
				compare(rt, "accept", m.accept(i), chain.Accept(m.all[i].record))
			},
			"deliver any": func(rt *rapid.T) {
				i := rapid.IntRange(0, len(m.all)-1).Draw(rt, "record")
				compare(rt, "accept", m.accept(i), chain.Accept(m.all[i].record))
			},
			"deliver a branch": func(rt *rapid.T) {
				i := len(m.all) - 1
				if rapid.Bool().Draw(rt, "any branch") {
					i = rapid.IntRange(0, len(m.all)-1).Draw(rt, "tip")
				}
				var branch []*Record
				for _, j := range m.path(i) {
					branch = append(branch, m.all[j].record)
				}
				what := "go on"
				if m.shared(m.path(i)) < len(m.accepted) {
					what = "switch"
				}
				compare(rt, what, m.switchTo(i), chain.Switch(branch))
			},
			"": func(rt *rapid.T) {
				for e, i := range m.accepted {
					if chain.At(bus.Epoch(e)) != m.all[i].record {
						rt.Fatalf("record of epoch %d is not the model's", e)
					}
				}
				if chain.At(bus.Epoch(len(m.accepted))) != nil {
					rt.Fatal("the chain is longer than the model's")
				}
			},
		})
	})
	t.Log(outcomes)
	// A model that never came by a case has not tested it.
	for _, want := range []string{
		"accept ", "accept gap", "accept rollback", "accept fork", "accept equivocation", "accept not_authority", "accept transition",
		"switch ", "switch rollback", "switch fork", "switch equivocation", "switch not_authority", "switch transition",
		"go on ", "go on rollback", "go on transition",
	} {
		if outcomes[want] == 0 {
			t.Errorf("no run came by %q: %v", want, outcomes)
		}
	}
}
