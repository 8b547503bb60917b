package identity_test

import (
	"bytes"
	"crypto/hpke"
	"strconv"
	"testing"

	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

// What seals keys is the standard library's; these are published vectors of the
// same construction, which it must open.
func TestHPKEOpensPublishedVectors(t *testing.T) {
	file := goldentest.Read(t, "hpke.json")
	if len(file.Vectors) != 2 {
		t.Fatalf("%d vectors", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			in := func(name string) []byte { return goldentest.Unhex(t, v.Inputs[name]) }
			number := func(name string) uint16 {
				n, err := strconv.ParseUint(v.Inputs[name], 16, 16)
				if err != nil {
					t.Fatal(err)
				}
				return uint16(n)
			}
			kem, err := hpke.NewKEM(number("kem"))
			if err != nil {
				t.Fatal(err)
			}
			kdf, err := hpke.NewKDF(number("kdf"))
			if err != nil {
				t.Fatal(err)
			}
			aead, err := hpke.NewAEAD(number("aead"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := kem.NewPrivateKey(in("sk_r"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(key.PublicKey().Bytes(), in("pk_r")) {
				t.Error("the private key gives another public key")
			}
			recipient, err := hpke.NewRecipient(in("enc"), key, kdf, aead, in("info"))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := recipient.Open(in("aad"), v.Raw(t)); err != nil || !bytes.Equal(plain, in("pt")) {
				t.Errorf("opened %x, %v", plain, err)
			}
			changed := v.Raw(t)
			changed[0] ^= 1
			again, err := hpke.NewRecipient(in("enc"), key, kdf, aead, in("info"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again.Open(in("aad"), changed); err == nil {
				t.Error("opened a changed ciphertext")
			}
		})
	}
}
