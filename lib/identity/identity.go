package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// Identity is the secret half of somebody on a bus: an Ed25519 key that signs
// and the HPKE keys that others seal to. It may be used from several goroutines
// at once.
type Identity struct {
	sign ed25519.PrivateKey
	pub  bus.SignPub
	id   bus.ID

	mu   sync.RWMutex
	kems []KEM // ascending by CardSeq, never empty
}

// IDOf returns the id that a signing key has: SHA-256 of its 32 bytes.
func IDOf(pub bus.SignPub) bus.ID { return sha256.Sum256(pub[:]) }

// Generate makes an identity with one HPKE key, of card number 1, from 64 bytes
// of rand, which is crypto/rand.Reader outside of tests.
func Generate(rand io.Reader) (*Identity, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "generate identity: %w", err)
	}
	kem, err := generateKEM(rand, 1)
	if err != nil {
		return nil, err
	}
	return newIdentity(seed, []KEM{kem}), nil
}

func newIdentity(seed []byte, kems []KEM) *Identity {
	sign := ed25519.NewKeyFromSeed(seed)
	pub := bus.SignPub(sign.Public().(ed25519.PublicKey))
	return &Identity{sign: sign, pub: pub, id: IDOf(pub), kems: kems}
}

// ID returns the name of the identity.
func (id *Identity) ID() bus.ID { return id.id }

// SignPub returns the public half of the signing key.
func (id *Identity) SignPub() bus.SignPub { return id.pub }

// Sign returns the 64-byte signature of msg under a label, as [wire.Sign] makes it.
func (id *Identity) Sign(l wire.Label, msg []byte) []byte { return wire.Sign(id.sign, l, msg) }

// LatestKEM returns the HPKE key with the highest card number: the one that the
// next card publishes.
func (id *Identity) LatestKEM() KEM {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.kems[len(id.kems)-1]
}

// AddKEM makes a new HPKE key from 32 bytes of rand, with the next card number,
// and returns it. Older keys stay, to open what was sealed to them. The identity
// is to be written ([Update]) before a card publishes the key. The
// error has [bus.CodeTooLarge] when the identity holds [bus.MaxKEMKeys] keys.
func (id *Identity) AddKEM(rand io.Reader) (KEM, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if len(id.kems) >= bus.MaxKEMKeys {
		return KEM{}, bus.Errorf(bus.CodeTooLarge, "add HPKE key: the identity holds %d already", len(id.kems))
	}
	last := id.kems[len(id.kems)-1].CardSeq
	if last == 1<<64-1 {
		return KEM{}, bus.Errorf(bus.CodeTooLarge, "add HPKE key: card number %d has no successor", last)
	}
	kem, err := generateKEM(rand, last+1)
	if err != nil {
		return KEM{}, err
	}
	id.kems = append(id.kems, kem)
	return kem, nil
}

// OpenSealed opens what [Seal] made to any of the identity's HPKE keys, the
// newest tried first, with the same info. The error has [bus.CodeDecrypt].
func (id *Identity) OpenSealed(info, sealed []byte) ([]byte, error) {
	id.mu.RLock()
	kems := id.kems // appended to or replaced, so the elements seen here stay
	id.mu.RUnlock()
	for i := len(kems) - 1; i >= 0; i-- {
		if plain, err := kems[i].open(info, sealed); err == nil {
			return plain, nil
		}
	}
	return nil, bus.Errorf(bus.CodeDecrypt, "open sealed key: none of %d HPKE keys fits", len(kems))
}

// String returns the id and nothing secret.
func (id *Identity) String() string { return "identity " + id.id.String() }

// Format implements [fmt.Formatter], so that no verb reaches the keys.
func (id *Identity) Format(f fmt.State, _ rune) { io.WriteString(f, id.String()) }
