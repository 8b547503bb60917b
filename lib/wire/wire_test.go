package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"golang.org/x/crypto/sha3"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors published with the specification of XAES-256-GCM: one whose CMAC
// subkey needs no reduction and one whose subkey does.
func TestXAESMatchesPublishedVectors(t *testing.T) {
	for _, v := range []struct {
		name      string
		key       byte
		aad, want string
	}{
		{"most significant bit clear", 0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{"most significant bit set", 0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		t.Run(v.name, func(t *testing.T) {
			aead, err := wire.NewXAES256GCM(bytes.Repeat([]byte{v.key}, 32))
			if err != nil {
				t.Fatal(err)
			}
			nonce, plain := []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM")
			got := aead.Seal(nil, nonce, plain, []byte(v.aad))
			if want := unhex(t, v.want); !bytes.Equal(got, want) {
				t.Fatalf("sealed %x, want %x", got, want)
			}
			opened, err := aead.Open(nil, nonce, got, []byte(v.aad))
			if err != nil || !bytes.Equal(opened, plain) {
				t.Fatalf("opened %q, %v", opened, err)
			}
			got[0] ^= 1
			if _, err := aead.Open(nil, nonce, got, []byte(v.aad)); err == nil {
				t.Fatal("opened a changed ciphertext")
			}
		})
	}
}

// The accumulated vector of the same specification: inputs drawn from
// SHAKE-128, every output absorbed into a second one.
func TestXAESMatchesAccumulatedVector(t *testing.T) {
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	s, d := sha3.NewShake128(), sha3.NewShake128()
	draw := func(n int) []byte {
		b := make([]byte, n)
		s.Read(b)
		return b
	}
	for range 10_000 {
		key, nonce := draw(32), draw(24)
		plain := draw(int(draw(1)[0]))
		aad := draw(int(draw(1)[0]))
		aead, err := wire.NewXAES256GCM(key)
		if err != nil {
			t.Fatal(err)
		}
		ct := aead.Seal(nil, nonce, plain, aad)
		if opened, err := aead.Open(nil, nonce, ct, aad); err != nil || !bytes.Equal(opened, plain) {
			t.Fatal("round trip failed")
		}
		d.Write(ct)
	}
	got := make([]byte, 32)
	d.Read(got)
	if hex.EncodeToString(got) != want {
		t.Fatalf("accumulated %x, want %s", got, want)
	}
}

// RFC 8032 section 7.1, TEST 1 to 3, through the standard library that every
// signature here rests on.
func TestEd25519MatchesRFC8032(t *testing.T) {
	for _, v := range []struct{ seed, pub, msg, sig string }{
		{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
		{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
		{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
			"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
	} {
		key := ed25519.NewKeyFromSeed(unhex(t, v.seed))
		if got := key.Public().(ed25519.PublicKey); !bytes.Equal(got, unhex(t, v.pub)) {
			t.Errorf("public key %x, want %s", got, v.pub)
		}
		if got := ed25519.Sign(key, unhex(t, v.msg)); !bytes.Equal(got, unhex(t, v.sig)) {
			t.Errorf("signature %x, want %s", got, v.sig)
		}
		if err := wire.CheckPublicKey(unhex(t, v.pub)); err != nil {
			t.Error(err)
		}
	}
}

func TestSignatureHoldsForItsLabelKeyAndMessageOnly(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	pub, msg := key.Public().(ed25519.PublicKey), []byte("message")
	sig := wire.Sign(key, wire.LabelCard, msg)
	if !wire.Verify(pub, wire.LabelCard, msg, sig) {
		t.Fatal("own signature refused")
	}
	if !ed25519.Verify(pub, []byte("\x0dunibus/1 card\x00\x00\x00\x07message"), sig) {
		t.Fatal("the signed bytes are not LP(L) || u32(len x) || x")
	}
	switch {
	case wire.Verify(pub, wire.LabelRecord, msg, sig):
		t.Error("holds under another label")
	case wire.Verify(other.Public().(ed25519.PublicKey), wire.LabelCard, msg, sig):
		t.Error("holds for another key")
	case wire.Verify(pub, wire.LabelCard, []byte("messagf"), sig):
		t.Error("holds for another message")
	case wire.Verify(pub, wire.LabelCard, msg, sig[:63]):
		t.Error("holds when cut short")
	}
}

func TestHashIsLabelThenParts(t *testing.T) {
	want := sha256.Sum256([]byte("\x12unibus/1 card-hashabc"))
	if got := wire.Hash(wire.LabelCardHash, []byte("a"), []byte("bc")); got != want {
		t.Fatalf("hash %x, want %x", got, want)
	}
}

func TestWeakPublicKeysAreRefused(t *testing.T) {
	identity := "0100000000000000000000000000000000000000000000000000000000000000"
	for name, key := range map[string]string{
		"identity point":             identity,
		"order two":                  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"order four":                 "0000000000000000000000000000000000000000000000000000000000000000",
		"order eight":                "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"y not reduced":              "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"negative zero":              "0100000000000000000000000000000000000000000000000000000000000080",
		"no point on the curve":      "0200000000000000000000000000000000000000000000000000000000000000",
		"too short":                  "01",
		"order eight, the other one": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	} {
		if err := wire.CheckPublicKey(unhex(t, key)); !errors.Is(err, bus.ErrWeakKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What the check is for: the standard library accepts this for any message.
	sig := append(unhex(t, identity), make([]byte, 32)...)
	if wire.Verify(unhex(t, identity), wire.LabelFrame, []byte("anything"), sig) {
		t.Error("a signature under the identity point was accepted")
	}
}

func TestSuitesHaveTheStatedSizes(t *testing.T) {
	for _, suite := range []bus.Suite{bus.SuiteXAESGCM, bus.SuiteXChaCha20} {
		aead, err := wire.NewAEAD(suite, make([]byte, wire.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		if aead.NonceSize() != wire.NonceSize || aead.Overhead() != wire.Overhead {
			t.Errorf("suite %d: nonce %d, overhead %d", suite, aead.NonceSize(), aead.Overhead())
		}
	}
	if _, err := wire.NewAEAD(bus.SuitePlain, make([]byte, wire.KeySize)); !errors.Is(err, bus.ErrPolicy) {
		t.Errorf("plain suite: %v", err)
	}
	if _, err := wire.NewXAES256GCM(make([]byte, 16)); err == nil {
		t.Error("a short key was accepted")
	}
}
