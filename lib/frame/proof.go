package frame

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

// EquivocationProof shows that a sender has signed two different frames under
// one seq of one session, which an honest one never does. Anybody can check
// it; it tells nothing about what the frames say.
type EquivocationProof struct {
	SignPub       bus.SignPub // of the sender
	First, Second Statement   // in the order in which they were accepted and refused
}

// EquivocationError is the cause inside an error with [bus.CodeEquivocation]
// from [Opener.Open], for errors.AsType. Its proof is worth keeping.
type EquivocationError struct {
	Proof EquivocationProof
}

// Error says what the proof shows.
func (e *EquivocationError) Error() string {
	first, second := e.Proof.First.Hash(), e.Proof.Second.Hash()
	return "frames " + first.String() + " and " + second.String() + " of one seq are both signed"
}

// Verify checks the proof by itself: two frames of one room, sender, session
// and seq, not the same, each with the signature of the key whose hash the
// sender is. The error has [bus.CodeBadSignature] when a signature does not
// hold and [bus.CodeMalformed] when the frames prove nothing.
func (p *EquivocationProof) Verify() error {
	a, _, err := decodeHeader(p.First.Header[:])
	if err != nil {
		return err
	}
	b, _, err := decodeHeader(p.Second.Header[:])
	if err != nil {
		return err
	}
	first, second := p.First.Hash(), p.Second.Hash()
	switch {
	case a.Room != b.Room || a.Sender != b.Sender || a.Session != b.Session || a.Seq != b.Seq:
		return bus.Errorf(bus.CodeMalformed, "verify proof: the frames are not of one seq")
	case first == second:
		return bus.Errorf(bus.CodeMalformed, "verify proof: the frames are the same")
	case identity.IDOf(p.SignPub) != a.Sender:
		return bus.Errorf(bus.CodeMalformed, "verify proof: the key is not the sender's")
	case !p.First.verify(p.SignPub, first):
		return bus.Errorf(bus.CodeBadSignature, "verify proof: first signature does not hold")
	case !p.Second.verify(p.SignPub, second):
		return bus.Errorf(bus.CodeBadSignature, "verify proof: second signature does not hold")
	}
	return nil
}

// Frame returns the header of the first frame, whose room, sender, session and
// seq are those of the second too; of a proof that does not verify it may be
// anything.
func (p *EquivocationProof) Frame() Header {
	h, _, _ := decodeHeader(p.First.Header[:]) // Verify tells whether it is one
	return h
}

const statementSize = HeaderSize + 32 + SignatureSize

// ProofSize is how many bytes [EquivocationProof.Bytes] returns.
const ProofSize = 32 + 2*statementSize

// Bytes returns the proof in 500 bytes: the key, then header, digest and
// signature of the first frame, then those of the second.
func (p *EquivocationProof) Bytes() []byte {
	return bytes.Join([][]byte{
		p.SignPub[:],
		p.First.Header[:], p.First.Digest[:], p.First.Signature[:],
		p.Second.Header[:], p.Second.Digest[:], p.Second.Signature[:],
	}, nil)
}

// ParseEquivocationProof reads what Bytes writes. It does not verify the
// proof. The error has [bus.CodeMalformed].
func ParseEquivocationProof(raw []byte) (*EquivocationProof, error) {
	var p EquivocationProof
	s := cryptobyte.String(raw)
	for _, field := range [][]byte{
		p.SignPub[:],
		p.First.Header[:], p.First.Digest[:], p.First.Signature[:],
		p.Second.Header[:], p.Second.Digest[:], p.Second.Signature[:],
	} {
		if !s.CopyBytes(field) {
			return nil, bus.Errorf(bus.CodeMalformed, "parse proof: %d bytes, want %d", len(raw), ProofSize)
		}
	}
	if !s.Empty() {
		return nil, bus.Errorf(bus.CodeMalformed, "parse proof: %d bytes, want %d", len(raw), ProofSize)
	}
	return &p, nil
}
