package identity

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

const revocationLine = "unibus-revocation-1"

// Revocation says that a signing key no longer speaks for whoever had it. It is
// signed by that key, and then holds on every bus, or by the root of a bus, and
// then holds there. It can be made long before it is needed and has no time:
// there is one for each key and signer, it ends an account for good, and whoever
// has it may hand it in. It comes from [ParseRevocation], [Identity.Revocation]
// or [Root.Revocation].
type Revocation struct {
	BusID   bus.BusID   // zero where the key revokes itself: every bus
	SignPub bus.SignPub // the key that is revoked
	Signer  bus.SignPub // SignPub, or the root of the bus

	raw []byte
}

// Revocation signs that the identity's own key is no longer to be believed, on
// any bus.
func (id *Identity) Revocation() Revocation {
	return newRevocation(bus.BusID{}, id.pub, id.pub, func(body []byte) []byte { return id.Sign(wire.LabelRevoke, body) })
}

// Revocation signs that a key is no longer to be believed on this bus. The error
// has [bus.CodeWeakKey] for what is no signing key.
func (r *Root) Revocation(sign bus.SignPub) (Revocation, error) {
	if err := wire.CheckPublicKey(sign[:]); err != nil {
		return Revocation{}, fmt.Errorf("sign revocation: %w", err)
	}
	sig := func(body []byte) []byte { return wire.Sign(r.key, wire.LabelRevoke, body) }
	return newRevocation(r.BusID(), sign, bus.SignPub(r.Pub()), sig), nil
}

func newRevocation(b bus.BusID, sign, signer bus.SignPub, sig func(body []byte) []byte) Revocation {
	raw := []byte{bus.Version, bus.TypeRevocation}
	for _, part := range [][32]byte{b, sign, signer} {
		raw = append(raw, part[:]...)
	}
	return Revocation{BusID: b, SignPub: sign, Signer: signer, raw: append(raw, sig(raw)...)}
}

// ParseRevocation reads a revocation and its signature, keeping a copy of the
// bytes. It checks everything but whom and which bus it is to be for
// ([Revocation.Check]). Its errors have [bus.CodeMalformed], [bus.CodeWeakKey],
// or [bus.CodeBadSignature], also where somebody signed who is neither the key
// itself nor the root of the bus named.
func ParseRevocation(raw []byte) (Revocation, error) {
	var (
		r             Revocation
		version, kind uint8
		sig           [signatureSize]byte
	)
	s := cryptobyte.String(raw)
	ok := s.ReadUint8(&version) && version == bus.Version &&
		s.ReadUint8(&kind) && kind == bus.TypeRevocation &&
		s.CopyBytes(r.BusID[:]) &&
		s.CopyBytes(r.SignPub[:]) &&
		s.CopyBytes(r.Signer[:]) &&
		s.CopyBytes(sig[:]) &&
		s.Empty()
	if !ok {
		return Revocation{}, bus.Errorf(bus.CodeMalformed, "parse revocation: no revocation of version %d, cut short, or too long", bus.Version)
	}
	for _, key := range []bus.SignPub{r.SignPub, r.Signer} {
		if err := wire.CheckPublicKey(key[:]); err != nil {
			return Revocation{}, fmt.Errorf("parse revocation: %w", err)
		}
	}
	bySelf := r.Signer == r.SignPub && r.BusID.IsZero()
	if !bySelf && sha256.Sum256(r.Signer[:]) != r.BusID {
		return Revocation{}, bus.Errorf(bus.CodeBadSignature, "parse revocation: %s is neither the key itself nor the root of bus %s", r.Signer, r.BusID)
	}
	if !wire.Verify(r.Signer[:], wire.LabelRevoke, raw[:len(raw)-signatureSize], sig[:]) {
		return Revocation{}, bus.Errorf(bus.CodeBadSignature, "parse revocation: not signed by the key it names")
	}
	r.raw = bytes.Clone(raw)
	return r, nil
}

// Bytes returns the revocation with its signature. The caller must not change
// them.
func (r Revocation) Bytes() []byte { return r.raw }

// ID returns who is revoked.
func (r Revocation) ID() bus.ID { return IDOf(r.SignPub) }

// BySelf reports whether the key revokes itself, on every bus.
func (r Revocation) BySelf() bool { return r.BusID.IsZero() }

// Check refuses a revocation that is not for id on bus b, with
// [bus.CodeMisrouted] or [bus.CodeWrongBus].
func (r Revocation) Check(b bus.BusID, id bus.ID) error {
	switch {
	case r.ID() != id:
		return bus.Errorf(bus.CodeMisrouted, "check revocation: it is of %s, not of %s", r.ID(), id)
	case !r.BySelf() && r.BusID != b:
		return bus.Errorf(bus.CodeWrongBus, "check revocation: it is for bus %s, not %s", r.BusID, b)
	}
	return nil
}

// Marshal returns the text of a revocation's file.
func (r Revocation) Marshal() []byte {
	return encodeText(revocationLine, "revokes sign_pub "+r.SignPub.String(), r.raw)
}

// ParseRevocationText reads what [Revocation.Marshal] writes. Its errors are
// those of [ParseRevocation].
func ParseRevocationText(text []byte) (Revocation, error) {
	raw, err := decodeText(revocationLine, text)
	if err != nil {
		return Revocation{}, fmt.Errorf("parse revocation: %w", err)
	}
	return ParseRevocation(raw)
}

// Create writes a new file with mode 0600: whoever can read it can end the
// account. It never overwrites: [bus.CodeFileExists].
func (r Revocation) Create(path string) error {
	if err := createSecret(path, r.Marshal(), "", workFactor); err != nil {
		return fmt.Errorf("create revocation: %w", err)
	}
	return nil
}
