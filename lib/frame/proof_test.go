package frame

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
)

// newProof lets Alice contradict herself.
func newProof(t testing.TB) (*world, EquivocationProof) {
	t.Helper()
	w := newWorld(t, stored)
	o := w.opener()
	w.accept(o, w.seal(w.sealer("alice", 0, 1), 3))
	_, err := w.open(o, w.seal(w.sealer("alice", 0, 1), 3))
	e, ok := errors.AsType[*EquivocationError](err)
	if !ok {
		t.Fatal(err)
	}
	return w, e.Proof
}

func TestProofReadsBackAsItWasWritten(t *testing.T) {
	_, p := newProof(t)
	raw := p.Bytes()
	if len(raw) != 500 {
		t.Errorf("%d bytes", len(raw))
	}
	got, err := ParseEquivocationProof(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&p, got); diff != "" {
		t.Errorf("proof (-in +out):\n%s", diff)
	}
	if err := got.Verify(); err != nil {
		t.Error(err)
	}
}

func TestProofsThatProveNothing(t *testing.T) {
	w, good := newProof(t)
	bob := w.people["bob"]
	honest := func(name string, seq bus.Seq, session byte) Statement {
		return statementOf(w.seal(w.sealer(name, 0, session), seq))
	}
	other := newWorld(t, stored)
	other.move(w)
	for name, v := range map[string]struct {
		change func(*EquivocationProof)
		code   bus.Code
	}{
		"one frame twice":        {func(p *EquivocationProof) { p.Second = p.First }, bus.CodeMalformed},
		"one frame, signed anew": {func(p *EquivocationProof) { p.Second = p.First; p.Second.Signature[0] ^= 1 }, bus.CodeMalformed},
		"another seq":            {func(p *EquivocationProof) { p.Second = honest("alice", 4, 1) }, bus.CodeMalformed},
		"another session":        {func(p *EquivocationProof) { p.Second = honest("alice", 3, 2) }, bus.CodeMalformed},
		"another sender":         {func(p *EquivocationProof) { p.Second = honest("bob", 3, 1) }, bus.CodeMalformed},
		"another room":           {func(p *EquivocationProof) { p.Second = statementOf(other.seal(other.sealer("alice", 0, 1), 3)) }, bus.CodeMalformed},
		"another key":            {func(p *EquivocationProof) { p.SignPub = bob.SignPub() }, bus.CodeMalformed},
		"first not signed":       {func(p *EquivocationProof) { p.First.Signature = [SignatureSize]byte{} }, bus.CodeBadSignature},
		"second not signed":      {func(p *EquivocationProof) { p.Second.Signature[40] ^= 1 }, bus.CodeBadSignature},
		"other content":          {func(p *EquivocationProof) { p.Second.Digest[0] ^= 1 }, bus.CodeBadSignature},
		"no frame":               {func(p *EquivocationProof) { p.First.Header[0] = 'X' }, bus.CodeMalformed},
		"no second frame":        {func(p *EquivocationProof) { p.Second.Header[3] = bus.TypeCard }, bus.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			v.change(&p)
			if err := p.Verify(); bus.CodeOf(err) != v.code {
				t.Errorf("error %v, want code %s", err, v.code)
			}
		})
	}
	if err := good.Verify(); err != nil {
		t.Errorf("the proof itself: %v", err)
	}
}

func FuzzParseEquivocationProof(f *testing.F) {
	_, p := newProof(f)
	f.Add(p.Bytes())
	f.Add(p.Bytes()[1:])
	f.Add(append(p.Bytes(), 0))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParseEquivocationProof(raw)
		if err != nil {
			if bus.CodeOf(err) != bus.CodeMalformed {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(p.Bytes(), raw) {
			t.Fatalf("%x is encoded again as %x", raw, p.Bytes())
		}
		p.Verify() // must not panic, whatever the proof is
	})
}
