package identity

import (
	"crypto/ecdh"
	"crypto/hpke"
	"fmt"
	"io"

	"github.com/enmanuel/unibus/lib/bus"
)

// KEMHybrid is the HPKE identifier of MLKEM768-X25519, also called X-Wing
// (draft-ietf-hpke-pq), the only KEM of this version.
const KEMHybrid uint16 = 0x647a

const (
	kemSeedSize  = 32
	x25519PubLen = 32
)

// KEM is one HPKE key pair of an identity, made for the card of one number.
type KEM struct {
	ID      uint16 // HPKE identifier: [KEMHybrid]
	CardSeq uint64 // number of the card that publishes it, from 1
	key     hpke.PrivateKey
}

func generateKEM(rand io.Reader, seq uint64) (KEM, error) {
	seed := make([]byte, kemSeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return KEM{}, bus.Errorf(bus.CodeInternal, "generate HPKE key: %w", err)
	}
	return newKEM(KEMHybrid, seq, seed)
}

func newKEM(id uint16, seq uint64, seed []byte) (KEM, error) {
	if id != KEMHybrid {
		return KEM{}, bus.Errorf(bus.CodeMalformed, "read HPKE key: unknown KEM %#04x", id)
	}
	if seq == 0 {
		return KEM{}, bus.Errorf(bus.CodeMalformed, "read HPKE key: card number 0")
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		return KEM{}, bus.Errorf(bus.CodeMalformed, "read HPKE key: %w", err)
	}
	return KEM{ID: id, CardSeq: seq, key: key}, nil
}

// Pub returns the encoded public key, 1,216 bytes.
func (k KEM) Pub() []byte { return k.key.PublicKey().Bytes() }

// String returns the KEM and its card number and nothing secret.
func (k KEM) String() string { return fmt.Sprintf("HPKE key %#04x of card %d", k.ID, k.CardSeq) }

// Format implements [fmt.Formatter], so that no verb reaches the key.
func (k KEM) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

func (k KEM) open(info, sealed []byte) ([]byte, error) {
	return hpke.Open(k.key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
}

// Seal encrypts plaintext to a public HPKE key, as a card has it, with
// HKDF-SHA256 and AES-256-GCM in base mode (RFC 9180 section 6.1) and returns
// the encapsulated key followed by the ciphertext: 1,136 bytes more than the
// plaintext. Randomness is the standard library's own. The error has
// [bus.CodeMalformed] or [bus.CodeWeakKey] and blames the key.
func Seal(kem uint16, kemPub, info, plaintext []byte) ([]byte, error) {
	pub, err := parseKEMPub(kem, kemPub)
	if err != nil {
		return nil, err
	}
	sealed, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), info, plaintext)
	if err != nil {
		return nil, bus.Errorf(bus.CodeWeakKey, "seal to HPKE key: %w", err)
	}
	return sealed, nil
}

func parseKEMPub(kem uint16, raw []byte) (hpke.PublicKey, error) {
	if kem != KEMHybrid {
		return nil, bus.Errorf(bus.CodeMalformed, "read public HPKE key: unknown KEM %#04x", kem)
	}
	pub, err := hpke.MLKEM768X25519().NewPublicKey(raw)
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "read public HPKE key: %w", err)
	}
	return pub, nil
}

// checkKEMPub refuses a public key that nobody could seal to, so that a card
// with one is turned away when it is published and not when its owner is
// invited. The X25519 half comes last; the standard library accepts points of
// small order when it reads them and fails only when it uses them.
func checkKEMPub(kem uint16, raw []byte) error {
	if _, err := parseKEMPub(kem, raw); err != nil {
		return err
	}
	point, err := ecdh.X25519().NewPublicKey(raw[len(raw)-x25519PubLen:])
	if err != nil {
		return bus.Errorf(bus.CodeMalformed, "read public HPKE key: %w", err)
	}
	if _, err := smallOrderProbe.ECDH(point); err != nil {
		return bus.Errorf(bus.CodeWeakKey, "check public HPKE key: %w", err)
	}
	return nil
}

// smallOrderProbe is any X25519 key at all: only the zero result of a point of
// small order is looked at.
var smallOrderProbe = func() *ecdh.PrivateKey {
	key, err := ecdh.X25519().NewPrivateKey([]byte("unibus/1 probe for small order.."))
	if err != nil {
		panic("identity: probe key: " + err.Error()) // any 32 bytes are an X25519 key
	}
	return key
}()
