package room

import (
	"errors"
	"slices"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestChainAcceptsInOrderAndKeepsItsHeadOnFailure(t *testing.T) {
	//	      ┌─ a1 ── a2 ── a3
	//	root ─┤
	//	      └─ b1 ── b2
	d := draft(t, "alice=owner bob=admin will=writer")
	root := forge(t, "alice", nil, d)
	a1, b1 := forge(t, "alice", root, d), forge(t, "bob", root, d)
	a2, b2 := forge(t, "bob", a1, d), forge(t, "alice", b1, d)
	a3 := forge(t, "alice", a2, d)
	alone := forge(t, "alice", nil, d)
	byWill := forge(t, "will", a1, d)
	byNina := forge(t, "nina", root, d)

	c := NewChain(root.Record.Room)
	if c.Head() != nil || c.At(0) != nil || c.Room() != root.Record.Room {
		t.Fatal("a new chain is not empty")
	}
	for _, step := range []struct {
		name   string
		record *Signed
		want   bus.Code
		head   *Signed
	}{
		{"second before the first", a1, bus.CodeGap, nil},
		{"first of another room", alone, bus.CodeMisrouted, nil},
		{"the first", root, "", root},
		{"the first again", root, "", root},
		{"one too far", a2, bus.CodeGap, root},
		{"by a stranger", byNina, bus.CodeNotAuthority, root},
		{"the second", a1, "", a1},
		{"the first after the second", root, bus.CodeRollback, a1},
		{"by a writer", byWill, bus.CodeNotAuthority, a1},
		{"sibling by a stranger, too late", byNina, bus.CodeNotAuthority, a1},
		{"sibling of the head", b1, bus.CodeFork, a1},
		{"child of the sibling", b2, bus.CodeFork, a1},
		{"the third", a2, "", a2},
		{"the fourth", a3, "", a3},
		{"sibling far back", b1, bus.CodeFork, a3},
		{"child of the sibling far back", b2, bus.CodeFork, a3},
		{"first of another room", alone, bus.CodeMisrouted, a3},
	} {
		wantCode(t, step.name, acceptSigned(c, step.record), step.want)
		switch head := c.Head(); {
		case step.head == nil && head != nil, step.head != nil && (head == nil || head.Hash() != step.head.Record.Hash()):
			t.Fatalf("%s: the head is %v", step.name, head)
		}
	}
	for e, s := range []*Signed{root, a1, a2, a3} {
		if c.At(bus.Epoch(e)) != s.Record {
			t.Errorf("record of epoch %d is %v", e, c.At(bus.Epoch(e)))
		}
		if k, ok := c.Key(bus.Epoch(e)); !ok || k != s.Key {
			t.Errorf("key of epoch %d is missing", e)
		}
	}
	if c.At(4) != nil || c.At(1<<63) != nil {
		t.Error("a record beyond the head")
	}
}

func TestForkKeepsTheEvidence(t *testing.T) {
	d := draft(t, "alice=owner bob=admin")
	root := forge(t, "alice", nil, d)
	known := forge(t, "alice", root, d)
	for _, tc := range []struct {
		name, signer string
		want         bus.Code
	}{
		{"two signers are a race", "bob", bus.CodeFork},
		{"one signer is to blame", "alice", bus.CodeEquivocation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			other := forge(t, tc.signer, root, d)
			err := acceptSigned(chainOf(t, root, known), other)
			wantCode(t, "accept", err, tc.want)
			fork, ok := errors.AsType[*ForkError](err)
			if !ok {
				t.Fatalf("error is %T", err)
			}
			if fork.Known != known.Record || fork.Other != other.Record {
				t.Error("the evidence is not the two records")
			}
			// Whoever is shown the two reads them as they came.
			for _, r := range []*Record{fork.Known, fork.Other} {
				again, err := ParseRecord(r.Bytes(), r.MembersBytes())
				if err != nil || again.Follows(root.Record) != nil {
					t.Errorf("evidence does not hold: %v", err)
				}
			}
		})
	}
	t.Run("a record of an unknown branch", func(t *testing.T) {
		unknown := forge(t, "alice", forge(t, "alice", root, d), d)
		err := acceptSigned(chainOf(t, root, known), unknown)
		wantCode(t, "accept", err, bus.CodeFork)
		if fork, ok := errors.AsType[*ForkError](err); !ok || fork.Known != known.Record || fork.Other != unknown.Record {
			t.Errorf("evidence is %v", err)
		}
	})
}

// What no authority could have signed there is no branch and blames nobody.
func TestNoiseIsNoFork(t *testing.T) {
	d := draft(t, "alice=owner anna=admin will=writer")
	root := forge(t, "alice", nil, d)
	known := forge(t, "alice", root, d)
	promoted := draft(t, "alice=owner anna=owner will=writer")
	for name, tc := range map[string]struct {
		record *Signed
		want   bus.Code
	}{
		"by a writer":                  {forge(t, "will", root, d), bus.CodeNotAuthority},
		"by a stranger":                {forge(t, "nina", root, d), bus.CodeNotAuthority},
		"by an admin for a higher one": {forge(t, "anna", root, promoted), bus.CodeTransition},
	} {
		err := acceptSigned(chainOf(t, root, known), tc.record)
		wantCode(t, name, err, tc.want)
		if _, ok := errors.AsType[*ForkError](err); ok {
			t.Errorf("%s: is a fork", name)
		}
	}
}

func TestChainAcceptsWithTheCommittedKeyOnly(t *testing.T) {
	d := draft(t, "alice=owner")
	root := forge(t, "alice", nil, d)
	next := forge(t, "alice", root, d)
	c := chainOf(t, root)
	wantCode(t, "another key", c.AcceptWithKey(next.Record, root.Key), bus.CodeKeyMismatch)
	if c.Head() != root.Record {
		t.Error("the head moved")
	}
	if _, ok := c.Key(1); ok {
		t.Error("the key was kept")
	}
	wantCode(t, "key before its record", c.SetKey(1, next.Key), bus.CodeEpochUnknown)
	if err := c.Accept(next.Record); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "another key, set", c.SetKey(1, root.Key), bus.CodeKeyMismatch)
	if err := c.AcceptWithKey(next.Record, next.Key); err != nil {
		t.Errorf("the head again, now with its key: %v", err)
	}
	if k, ok := c.Key(1); !ok || k != next.Key {
		t.Error("the key is not known")
	}

	noName, err := reform(t, "alice", next, func(r *Record) { r.NameCT = make([]byte, len(r.NameCT)) })
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "name that does not open", chainOf(t, root).AcceptWithKey(noName, next.Key), bus.CodeDecrypt)

	plain := forge(t, "alice", nil, plainDraft(t, "alice=owner"))
	wantCode(t, "key where there is none", NewChain(plain.Record.Room).AcceptWithKey(plain.Record, Key{}), bus.CodePolicy)
}

func records(list ...*Signed) []*Record {
	var out []*Record
	for _, s := range list {
		out = append(out, s.Record)
	}
	return out
}

// resolving is a draft that names lost records.
func resolving(d Draft, lost ...*Signed) Draft {
	for _, s := range lost {
		d.Resolves = append(d.Resolves, s.Record.Hash())
	}
	return d
}

func TestOwnerResolvesAFork(t *testing.T) {
	//	      ┌─ a1 ── a2                    what we accepted
	//	root ─┤
	//	      └─ b1 ── b2 ── b3              b2 names a1 as lost
	d := draft(t, "alice=owner olga=owner bob=admin")
	root := forge(t, "alice", nil, d)
	a1, b1 := forge(t, "bob", root, d), forge(t, "alice", root, d)
	a2, b2 := forge(t, "bob", a1, d), forge(t, "olga", b1, resolving(d, a1))
	b3 := forge(t, "bob", b2, d)

	c := chainOf(t, root, a1, a2)
	if err := c.SwitchWithKey(records(b1, b2, b3), b3.Key); err != nil {
		t.Fatal(err)
	}
	for e, s := range []*Signed{root, b1, b2, b3} {
		if c.At(bus.Epoch(e)) != s.Record {
			t.Errorf("record of epoch %d is not of the chosen branch", e)
		}
	}
	for e, want := range []bool{true, false, false, true} {
		if _, ok := c.Key(bus.Epoch(e)); ok != want {
			t.Errorf("key of epoch %d known: %t", e, ok)
		}
	}
	if got, err := c.OpenHistory(3, 0); err != nil || got != 0 {
		t.Errorf("history of the chosen branch goes to %d, %v", got, err)
	}
	wantCode(t, "back to the lost branch", c.Switch(records(a1, a2)), bus.CodeFork)
	wantCode(t, "the lost branch again", c.Accept(a2.Record), bus.CodeFork)

	t.Run("given from the first record on", func(t *testing.T) {
		c := chainOf(t, root, a1, a2)
		if err := c.Switch(records(root, b1, b2, b3)); err != nil || c.Head() != b3.Record {
			t.Errorf("%v", err)
		}
	})
	t.Run("those on the chosen branch just go on", func(t *testing.T) {
		c := chainOf(t, root, b1, b2, b3)
		if c.Head() != b3.Record {
			t.Error("head is another")
		}
	})
	t.Run("a branch that only goes on needs no owner", func(t *testing.T) {
		c := chainOf(t, root, b1)
		if err := c.Switch(records(b1, b2, b3)); err != nil || c.Head() != b3.Record {
			t.Errorf("%v", err)
		}
	})
}

func TestBranchesThatAreNotSwitchedTo(t *testing.T) {
	d := draft(t, "alice=owner olga=owner bob=admin")
	withoutOlga := draft(t, "alice=owner bob=admin")
	root := forge(t, "alice", nil, d)
	a1 := forge(t, "bob", root, d)
	a2 := forge(t, "bob", a1, d)
	b1 := forge(t, "alice", root, d)
	b2 := forge(t, "alice", b1, resolving(d, a1))
	b3 := forge(t, "bob", b2, d)
	elsewhere := forge(t, "alice", nil, d)
	expelled := forge(t, "alice", root, withoutOlga)

	for _, tc := range []struct {
		name   string
		have   []*Signed
		branch []*Signed
		want   bus.Code
	}{
		// root ─ a1 ─ a2  against  root ─ b1 ─ … without any record that names a1
		{"nobody chose it", []*Signed{root, a1, a2}, []*Signed{b1, forge(t, "alice", b1, d), forge(t, "alice", forge(t, "alice", b1, d), d)}, bus.CodeFork},
		{"nobody chose it, two signers", []*Signed{root, a1}, []*Signed{b1, forge(t, "bob", b1, d)}, bus.CodeFork},
		{"nobody chose it, one signer", []*Signed{root, a1}, []*Signed{forge(t, "bob", root, d)}, bus.CodeEquivocation},
		{"it names a later record only", []*Signed{root, a1, a2}, []*Signed{b1, forge(t, "alice", b1, resolving(d, a2))}, bus.CodeFork},
		{"an admin chose it", []*Signed{root, a1}, []*Signed{b1, forge(t, "bob", b1, resolving(d, a1))}, bus.CodeTransition},
		{"no longer than what is left", []*Signed{root, a1, a2}, []*Signed{b1, b2}, bus.CodeRollback},
		{"shorter than what is left", []*Signed{root, a1, a2}, []*Signed{forge(t, "alice", root, resolving(d, a1))}, bus.CodeRollback},
		{"it has a gap", []*Signed{root, a1}, []*Signed{b1, b3}, bus.CodeGap},
		{"it begins too late", []*Signed{root}, []*Signed{b2, b3}, bus.CodeGap},
		{"it begins after the fork", []*Signed{root, a1, a2}, []*Signed{b2, b3}, bus.CodeFork},
		{"nothing new", []*Signed{root, a1, a2}, []*Signed{root, a1}, bus.CodeRollback},
		{"nothing at all", []*Signed{root, a1}, nil, bus.CodeRollback},
		{"another room", []*Signed{root, a1}, []*Signed{elsewhere}, bus.CodeGap},
		{"an unlawful record in it", []*Signed{root, a1}, []*Signed{b1, b2, forge(t, "nina", b2, d)}, bus.CodeNotAuthority},
		//	      ┌─ expelled                    alice removed olga
		//	root ─┤
		//	      └─ o1 ── o2                    olga never saw that, she says
		{"an owner who was removed chose it", []*Signed{root, expelled},
			[]*Signed{forge(t, "olga", root, resolving(withoutAlice(t), expelled)), nil}, bus.CodeNotAuthority},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if n := len(tc.branch); n > 0 && tc.branch[n-1] == nil {
				tc.branch[n-1] = forge(t, "olga", tc.branch[n-2], withoutAlice(t))
			}
			c := chainOf(t, tc.have...)
			wantCode(t, "switch", c.Switch(records(tc.branch...)), tc.want)
			for e, s := range tc.have {
				if c.At(bus.Epoch(e)) != s.Record {
					t.Errorf("record of epoch %d changed", e)
				}
				if k, ok := c.Key(bus.Epoch(e)); !ok || k != s.Key {
					t.Errorf("key of epoch %d changed", e)
				}
			}
			if c.At(bus.Epoch(len(tc.have))) != nil {
				t.Error("a record was added")
			}
		})
	}
	c := chainOf(t, root, a1, a2)
	wantCode(t, "the right branch with the wrong key", c.SwitchWithKey(records(b1, b2, b3), b2.Key), bus.CodeKeyMismatch)
	if c.Head() != a2.Record {
		t.Error("the head moved")
	}
}

func withoutAlice(t *testing.T) Draft { return draft(t, "olga=owner bob=admin") }

// A clone and its chain go on by themselves.
func TestCloneIsAChainOfItsOwn(t *testing.T) {
	first := forge(t, "alice", nil, draft(t, "alice=owner"))
	next := forge(t, "alice", first, draft(t, "alice=owner"))
	sibling := forge(t, "alice", first, draft(t, "alice=owner"))
	c := chainOf(t, first)
	clone := c.Clone()
	if err := acceptSigned(clone, next); err != nil {
		t.Fatal(err)
	}
	if c.Head() != first.Record {
		t.Errorf("the chain moved to epoch %d", c.Head().Epoch)
	}
	if _, ok := c.Key(1); ok {
		t.Error("the chain has the clone's key")
	}
	if err := acceptSigned(c, sibling); err != nil {
		t.Fatal(err)
	}
	if clone.Head() != next.Record || clone.Room() != c.Room() {
		t.Error("the clone moved")
	}
}

func TestForkProofCanBeReadAgain(t *testing.T) {
	first := forge(t, "alice", nil, draft(t, "alice=owner"))
	known, other := forge(t, "alice", first, draft(t, "alice=owner")), forge(t, "alice", first, draft(t, "alice=owner bob=writer"))
	fork, ok := errors.AsType[*ForkError](chainOf(t, first, known).Accept(other.Record))
	if !ok {
		t.Fatal("no fork")
	}
	proof := Fork{first.Record, fork.Known, fork.Other}
	raw := proof.Bytes()
	read, err := ParseFork(raw)
	if err != nil || read.Known.Hash() != known.Record.Hash() || read.Other.Hash() != other.Record.Hash() || read.Other.MemberCount() != 2 {
		t.Fatalf("%v, %v", read, err)
	}
	if !read.Equivocation() {
		t.Error("one key signed both, and that is no equivocation")
	}
	for name, damaged := range map[string][]byte{
		"nothing": {}, "cut short": raw[:len(raw)-1], "one record": raw[:len(raw)/3], "too long": append(slices.Clone(raw), 0), "too large": make([]byte, MaxForkProof+1),
	} {
		if _, err := ParseFork(damaged); bus.CodeOf(err) != bus.CodeMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestForksThatProveNothing(t *testing.T) {
	d := draft(t, "alice=owner bob=admin carol=writer")
	first := forge(t, "alice", nil, d)
	known, other := forge(t, "alice", first, d), forge(t, "bob", first, d)
	elsewhere := forge(t, "alice", nil, d)
	for _, tt := range []struct {
		name                 string
		before, known, other *Signed
		want                 bus.Code
	}{
		{"a race", first, known, other, ""},
		{"one record twice", first, known, known, bus.CodeMalformed},
		{"signed by a writer", first, known, forge(t, "carol", first, d), bus.CodeNotAuthority},
		{"signed by a stranger", first, forge(t, "dave", first, d), other, bus.CodeNotAuthority},
		{"what an admin may not", first, known, forge(t, "bob", first, draft(t, "alice=owner bob=owner carol=writer")), bus.CodeTransition},
		{"one after the other", first, known, forge(t, "bob", known, d), bus.CodeGap},
		{"of another branch", known, forge(t, "alice", known, d), forge(t, "bob", other, d), bus.CodeFork},
		{"of another room", first, known, forge(t, "alice", elsewhere, d), bus.CodeMisrouted},
	} {
		f := Fork{tt.before.Record, tt.known.Record, tt.other.Record}
		if err := f.Verify(); bus.CodeOf(err) != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if _, err := ParseFork(f.Bytes()); bus.CodeOf(err) != tt.want {
			t.Errorf("%s, read: %v, want %q", tt.name, err, tt.want)
		}
	}
}
