package identity

import (
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/nats-io/nkeys"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// Transport is the Ed25519 key with which an identity signs in to the servers
// of one bus, over NATS and over HTTP. It is derived from the signing key and
// the bus, so servers of two buses cannot tell that they serve the same
// identity by it, and nothing a server gets signed is ever a statement of the
// identity itself.
type Transport struct {
	key ed25519.PrivateKey
	pub bus.TransportPub
}

// Transport returns the identity's key on a bus; the same every time.
func (id *Identity) Transport(b bus.BusID) *Transport {
	seed := wire.DeriveKey(id.sign.Seed(), b[:], wire.LabelTransport, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(seed)
	return &Transport{key: key, pub: bus.TransportPub(key.Public().(ed25519.PublicKey))}
}

// TransportPub returns the public half.
func (t *Transport) TransportPub() bus.TransportPub { return t.pub }

// SignRaw returns the plain Ed25519 signature of msg, without a label: the
// formats that use it, HTTP message signatures (RFC 9421), bring their own.
func (t *Transport) SignRaw(msg []byte) []byte { return ed25519.Sign(t.key, msg) }

// SignNonce signs the nonce of a NATS server. A server chooses its nonces, so
// one that is not 15 to 64 of the characters of base64url, and could therefore
// be something else that a signature is good for, is refused with
// [bus.CodeNonceRefused].
func (t *Transport) SignNonce(nonce []byte) ([]byte, error) {
	const shortest, longest = 15, 64
	ok := len(nonce) >= shortest && len(nonce) <= longest
	for _, c := range nonce {
		ok = ok && (c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	}
	if !ok {
		return nil, bus.Errorf(bus.CodeNonceRefused, "sign nonce %.80q: want %d to %d characters of base64url", nonce, shortest, longest)
	}
	return t.SignRaw(nonce), nil
}

// NKey returns the text form that NATS uses for the public half, "U" and 55
// more characters.
func (t *Transport) NKey() string { return EncodeNKey(t.pub) }

// String returns the nkey and nothing secret.
func (t *Transport) String() string { return t.NKey() }

// Format implements [fmt.Formatter], so that no verb reaches the key.
func (t *Transport) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// EncodeNKey returns the text form of a transport key, a NATS user nkey.
func EncodeNKey(pub bus.TransportPub) string {
	text, err := nkeys.Encode(nkeys.PrefixByteUser, pub[:])
	if err != nil {
		panic("identity: encode nkey: " + err.Error()) // only for a prefix byte that is none
	}
	return string(text)
}

// ParseNKey reads what [EncodeNKey] writes, strictly. Its errors have
// [bus.CodeMalformed] or, for a key that [wire.CheckPublicKey] refuses,
// [bus.CodeWeakKey].
func ParseNKey(s string) (bus.TransportPub, error) {
	raw, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(s))
	if err != nil {
		return bus.TransportPub{}, bus.Errorf(bus.CodeMalformed, "parse nkey %.80q: %w", s, err)
	}
	if len(raw) != ed25519.PublicKeySize {
		return bus.TransportPub{}, bus.Errorf(bus.CodeMalformed, "parse nkey %.80q: %d bytes of key", s, len(raw))
	}
	pub := bus.TransportPub(raw)
	if EncodeNKey(pub) != s {
		return bus.TransportPub{}, bus.Errorf(bus.CodeMalformed, "parse nkey %.80q: not in its canonical form", s)
	}
	if err := wire.CheckPublicKey(raw); err != nil {
		return bus.TransportPub{}, fmt.Errorf("parse nkey %.80q: %w", s, err)
	}
	return pub, nil
}
