package client

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// However often a member equivocates, a reader keeps a few proofs.
func TestProofsOfEquivocationAreFew(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	rd := p.reader(t, Now)
	equivocate := func(session bus.SessionID, times int) {
		for i := range times {
			_, err := rd.give(p.sealed(t, session, 0, time.Now(), fmt.Sprint(i)))
			if code := bus.CodeOf(err); (i == 0) != (err == nil) || i > 0 && code != bus.CodeEquivocation {
				t.Fatalf("frame %d: %v", i, err)
			}
		}
	}
	proofs := func() []string {
		names, err := filepath.Glob(p.bob.state.path("proofs", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	equivocate(bus.SessionID{1}, 20)
	kept := proofs()
	if len(kept) != 1 {
		t.Fatalf("proofs of one session: %v", kept)
	}
	raw, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	proof, err := frame.ParseEquivocationProof(raw)
	if err == nil {
		err = proof.Verify()
	}
	if err != nil {
		t.Error(err)
	}
	for i := range 2 * maxSenderProofs {
		equivocate(bus.SessionID{2, byte(i)}, 2)
	}
	if n := len(proofs()); n != maxSenderProofs {
		t.Errorf("%d proofs of one sender", n)
	}
}

func TestProofsAreBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range maxProofs - 1 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%sa%d-", equivocationPrefix, i)), nil, stateFileMode); err != nil {
			t.Fatal(err)
		}
	}
	var e equivocations // finds what earlier runs have kept
	for i, want := range []bool{true, false} {
		prefix := fmt.Sprintf("%sb%d-", equivocationPrefix, i)
		if ok, err := e.admit(dir, prefix, prefix+"x"); err != nil || ok != want {
			t.Errorf("proof %d: %t, %v", maxProofs+i, ok, err)
		}
	}
}
