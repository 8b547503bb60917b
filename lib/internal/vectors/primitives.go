package vectors

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"filippo.io/edwards25519"
)

// labelled is LP of the label of word.
func labelled(word string) []byte {
	l := "unibus/1 " + word
	return append([]byte{byte(len(l))}, l...)
}

// Hash is H(word, parts put together).
func Hash(word string, parts ...[]byte) Hash32 {
	return sha256.Sum256(slices.Concat(labelled(word), slices.Concat(parts...)))
}

func toSign(word string, x []byte) []byte {
	return slices.Concat(labelled(word), u32(len(x)), x)
}

// Sign is the Ed25519 signature of x under word by the key of a seed of 32 bytes.
func Sign(seed []byte, word string, x []byte) []byte {
	return ed25519.Sign(ed25519.NewKeyFromSeed(seed), toSign(word, x))
}

// Verify checks a signature by [Sign]. Codes: weak_key, bad_signature.
func Verify(pub Hash32, word string, x, sig []byte) error {
	if err := CheckKey(pub); err != nil {
		return err
	}
	if !ed25519.Verify(pub[:], toSign(word, x), sig) {
		return refuse("bad_signature", "sig", "not by %x over %d bytes as %s", pub, len(x), word)
	}
	return nil
}

// CheckKey refuses with weak_key what is no canonical encoding of a point, or one of small order.
func CheckKey(pub Hash32) error {
	p, err := new(edwards25519.Point).SetBytes(pub[:])
	if err != nil {
		return refuse("weak_key", "public key", "%v", err)
	}
	if !bytes.Equal(p.Bytes(), pub[:]) {
		return refuse("weak_key", "public key", "%x is not canonical", pub)
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return refuse("weak_key", "public key", "%x is of small order", pub)
	}
	return nil
}

// KDF is HKDF-SHA-256 with the label of word and the context as info; 32 bytes.
func KDF(key, salt []byte, word string, context ...[]byte) ([]byte, error) {
	info := slices.Concat(labelled(word), slices.Concat(context...))
	return hkdf.Key(sha256.New, key, salt, string(info), 32)
}

// SignPub is the public key of an Ed25519 seed of 32 bytes.
func SignPub(seed []byte) Hash32 {
	return Hash32(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
}

// ID is the id of a sign_pub, and the bus_id of a root_pub.
func ID(pub Hash32) Hash32 { return sha256.Sum256(pub[:]) }

// Text is binary as it stands in JSON and text.
func Text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// ParseText is the strict reverse of [Text].
func ParseText(s string) ([]byte, error) {
	// encoding/base64 skips line ends even where it is strict.
	if strings.ContainsAny(s, "\r\n") {
		return nil, refuse("malformed", "base64url", "a line end inside")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, refuse("malformed", "base64url", "%v", err)
	}
	return b, nil
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Token is an id as a token of a NATS subject: b32 of its first 16 bytes.
func Token(id Hash32) string { return lowerBase32.EncodeToString(id[:16]) }

// UserNKey is a public key as a NATS user nkey: the prefix of U, the key, and its CRC-16/XMODEM, low byte first.
func UserNKey(pub Hash32) string {
	b := append([]byte{20 << 3}, pub[:]...)
	var crc uint16
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(binary.LittleEndian.AppendUint16(b, crc))
}

func u16(n int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u32(n int) []byte    { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
