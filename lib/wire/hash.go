package wire

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"filippo.io/edwards25519"

	"github.com/enmanuel/unibus/lib/bus"
)

// Hash returns SHA-256 over the label and the parts, one after the other. The
// parts carry no lengths of their own: give it structures that do.
func Hash(l Label, parts ...[]byte) [sha256.Size]byte {
	h := sha256.New()
	var prefix [64]byte
	h.Write(AppendLabel(prefix[:0], l))
	for _, p := range parts {
		h.Write(p)
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

// Sign returns the 64-byte Ed25519 signature (RFC 8032) of msg under a label.
// Long messages are signed through their [Hash]: Ed25519 runs SHA-512 over the
// message twice, which is several times slower than SHA-256 once.
func Sign(key ed25519.PrivateKey, l Label, msg []byte) []byte {
	return ed25519.Sign(key, signInput(l, msg))
}

// Verify reports whether sig is the signature of msg under a label by pub. It
// is false for keys that [CheckPublicKey] refuses.
func Verify(pub []byte, l Label, msg, sig []byte) bool {
	if CheckPublicKey(pub) != nil || len(sig) != ed25519.SignatureSize {
		return false
	}
	return ed25519.Verify(pub, signInput(l, msg), sig)
}

func signInput(l Label, msg []byte) []byte {
	in := make([]byte, 0, 1+len(l)+4+len(msg))
	in = AppendLabel(in, l)
	in = binary.BigEndian.AppendUint32(in, uint32(len(msg)))
	return append(in, msg...)
}

// CheckPublicKey refuses Ed25519 public keys that are not canonical encodings
// or lie in the small subgroup. [ed25519.Verify] accepts both, and under the
// identity point one signature fits every message. The error has
// [bus.CodeWeakKey].
func CheckPublicKey(pub []byte) error {
	if len(pub) != ed25519.PublicKeySize {
		return bus.Errorf(bus.CodeWeakKey, "check public key: want %d bytes, have %d", ed25519.PublicKeySize, len(pub))
	}
	point, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil {
		return bus.Errorf(bus.CodeWeakKey, "check public key: %w", err)
	}
	if string(point.Bytes()) != string(pub) {
		return bus.Errorf(bus.CodeWeakKey, "check public key: encoding is not canonical")
	}
	if new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return bus.Errorf(bus.CodeWeakKey, "check public key: point of small order")
	}
	return nil
}

// DeriveKey returns n bytes of HKDF-SHA-256 (RFC 5869) from secret, with the
// label and the parts of context as info. n must be at most 8,160.
func DeriveKey(secret, salt []byte, l Label, n int, context ...[]byte) []byte {
	info := AppendLabel(nil, l)
	for _, c := range context {
		info = append(info, c...)
	}
	key, err := hkdf.Key(sha256.New, secret, salt, string(info), n)
	if err != nil {
		panic("wire: derive key: " + err.Error()) // only for n beyond what HKDF gives: a bug in the caller
	}
	return key
}
