package identity_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

const goldenFile = "identity.json"

// The signing seed of the identity that a name gives is the first thing drawn.
func seedOf(t testing.TB, name string) []byte {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	if _, err := goldentest.Rand(name).Read(seed); err != nil {
		t.Fatal(err)
	}
	return seed
}

func payload(t testing.TB, text []byte) []byte {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	raw, err := base64.RawURLEncoding.DecodeString(lines[len(lines)-1])
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestGoldenVectors(t *testing.T) {
	alice, root := person(t, "alice"), testRoot(t)
	if _, err := alice.AddKEM(goldentest.Rand("alice, second key")); err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, goldenFile, goldentest.File{
		About: "Structures of package identity. Everything is hexadecimal but what is called text. Integers are big-endian; a field named x_length is the length of the field x after it.",
		Vectors: []goldentest.Vector{
			identityVector(t, alice),
			rootVector(t, root),
			transportVector(t, alice, root.BusID()),
			cardVector(t, "card", cardOf(t, alice)),
			cardVector(t, "another card", cardOf(t, person(t, "bob"))),
			entryVector(t, root, alice),
			revocationVector(t, "revocation by the key itself", "Alice's key revokes itself on every bus, so bus_id is zero", alice.Revocation()),
			revocationVector(t, "revocation by the root", "The root revokes alice's key on its bus", rootRevocation(t, root, alice)),
			sealedVector(t, alice),
			pinsVector(t, cardOf(t, alice), cardOf(t, person(t, "bob"))),
		},
	})
}

func identityVector(t *testing.T, id *identity.Identity) goldentest.Vector {
	secret := payload(t, id.Marshal())
	f := goldentest.Split(t, secret)
	f.Take("sign_seed", 32)
	for f.Left() > 0 {
		f.Take("kem", 2)
		f.Take("card_seq", 8)
		f.Prefixed("seed", 2)
	}
	signPub, name := id.SignPub(), id.ID()
	return goldentest.Vector{
		Name:   "identity file",
		About:  "The identity alice, who has two HPKE keys. The bytes are the secret; text is the file without a passphrase, whose lines that begin with # are comments.",
		Inputs: map[string]string{"text": string(id.Marshal())},
		Fields: f.End(), Bytes: hex.EncodeToString(secret),
		Derived: map[string]string{
			"sign_pub":       hex.EncodeToString(signPub[:]),
			"id":             hex.EncodeToString(name[:]),
			"id_text":        name.String(),
			"id_token_text":  name.Token(),
			"kem_pub_latest": hex.EncodeToString(id.LatestKEM().Pub()),
		},
	}
}

func rootVector(t *testing.T, root *identity.Root) goldentest.Vector {
	secret, name := payload(t, root.Marshal()), root.BusID()
	f := goldentest.Split(t, secret)
	f.Take("seed", 32)
	return goldentest.Vector{
		Name:   "root file",
		About:  "The root of the bus that every other vector is on. The bytes are the secret; text is the file without a passphrase.",
		Inputs: map[string]string{"text": string(root.Marshal())},
		Fields: f.End(), Bytes: hex.EncodeToString(secret),
		Derived: map[string]string{"root_pub": hex.EncodeToString(root.Pub()), "bus_id": hex.EncodeToString(name[:])},
	}
}

func transportVector(t *testing.T, id *identity.Identity, b bus.BusID) goldentest.Vector {
	const nonce = "abcdefghij_-0123"
	tr, signSeed := id.Transport(b), seedOf(t, "alice")
	seed := wire.DeriveKey(signSeed, b[:], wire.LabelTransport, ed25519.SeedSize)
	pub, sig := tr.TransportPub(), mustSign(t, tr, nonce)
	if !bytes.Equal(pub[:], ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)) {
		t.Error("the transport key is not the one that the seed gives")
	}
	return goldentest.Vector{
		Name:   "transport key",
		About:  "The key of alice on the bus: the bytes are its seed, HKDF-SHA-256 of sign_seed with salt bus_id and info LP(transport).",
		Inputs: map[string]string{"sign_seed": hex.EncodeToString(signSeed), "bus_id": hex.EncodeToString(b[:]), "nonce_text": nonce},
		Bytes:  hex.EncodeToString(seed),
		Derived: map[string]string{
			"transport_pub": hex.EncodeToString(pub[:]), "nkey_text": tr.NKey(), "nonce_signature": hex.EncodeToString(sig),
		},
	}
}

func mustSign(t *testing.T, tr *identity.Transport, nonce string) []byte {
	t.Helper()
	sig, err := tr.SignNonce([]byte(nonce))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func cardVector(t *testing.T, name string, c *identity.Card) goldentest.Vector {
	f := goldentest.Split(t, c.Bytes())
	f.Take("version", 1)
	f.Take("type", 1)
	f.Take("sign_pub", 32)
	f.Take("bus_id", 32)
	f.Take("transport_pub", 32)
	f.Take("kem", 2)
	f.Prefixed("kem_pub", 2)
	f.Take("seq", 8)
	f.Take("not_before", 8)
	f.Take("not_after", 8)
	f.Take("sig", 64)
	hash, id := c.Hash(), c.ID()
	return goldentest.Vector{
		Name:   name,
		About:  "A card; sig is under the label card and over all fields before it.",
		Fields: f.End(), Bytes: hex.EncodeToString(c.Bytes()),
		Derived: map[string]string{"card_hash": hex.EncodeToString(hash[:]), "id": hex.EncodeToString(id[:])},
	}
}

func entryVector(t *testing.T, root *identity.Root, id *identity.Identity) goldentest.Vector {
	e := identity.Entry{BusID: root.BusID(), Handle: "alice", ID: id.ID(), Seq: 7, NotAfter: epoch.AddDate(1, 0, 0)}
	raw, err := root.SignEntry(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := identity.ParseEntry(raw, root.BusID()); err != nil || got != e {
		t.Errorf("entry reads back as %+v, %v", got, err)
	}
	f := goldentest.Split(t, raw)
	f.Take("version", 1)
	f.Take("type", 1)
	f.Take("bus_id", 32)
	f.Take("root_pub", 32)
	f.Prefixed("handle", 1)
	f.Take("id", 32)
	f.Take("seq", 8)
	f.Take("not_after", 8)
	f.Take("sig", 64)
	return goldentest.Vector{
		Name:   "directory entry",
		About:  "The root says that the handle alice is alice's; sig is under the label dir and over all fields before it.",
		Fields: f.End(), Bytes: hex.EncodeToString(raw),
	}
}

func rootRevocation(t *testing.T, root *identity.Root, id *identity.Identity) identity.Revocation {
	t.Helper()
	r, err := root.Revocation(id.SignPub())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func revocationVector(t *testing.T, name, about string, r identity.Revocation) goldentest.Vector {
	raw, id := r.Bytes(), r.ID()
	f := goldentest.Split(t, raw)
	f.Take("version", 1)
	f.Take("type", 1)
	f.Take("bus_id", 32)
	f.Take("sign_pub", 32)
	f.Take("signer", 32)
	f.Take("sig", 64)
	return goldentest.Vector{
		Name:   name,
		About:  about + "; sig is under the label revoke and over all fields before it. Text is the file.",
		Inputs: map[string]string{"text": string(r.Marshal())},
		Fields: f.End(), Bytes: hex.EncodeToString(raw),
		Derived: map[string]string{"id": hex.EncodeToString(id[:])},
	}
}

// sealedVector is the one thing here that cannot be made twice: HPKE draws its
// own randomness. It was recorded once and is opened in every run.
func sealedVector(t *testing.T, id *identity.Identity) goldentest.Vector {
	const name = "sealed"
	kem := id.LatestKEM()
	info, plain := []byte("what it is bound to"), bytes.Repeat([]byte{0x2a}, 32)
	var sealed []byte
	if _, err := os.Stat(filepath.Join("testdata", goldenFile)); err == nil {
		sealed = goldentest.Read(t, goldenFile).Find(t, name).Raw(t)
	} else if sealed, err = identity.Seal(kem.ID, kem.Pub(), info, plain); err != nil {
		t.Fatal(err)
	}
	if got, err := id.OpenSealed(info, sealed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("recorded sealed bytes open to %x, %v", got, err)
	}
	f := goldentest.Split(t, sealed)
	f.Take("enc", 1120)
	f.Take("ct", 48)
	return goldentest.Vector{
		Name:   name,
		About:  "32 bytes sealed to the latest HPKE key of the identity file: base mode, MLKEM768-X25519, HKDF-SHA256, AES-256-GCM, no aad. Sealing is random, so this one is for opening.",
		Inputs: map[string]string{"info": hex.EncodeToString(info), "plaintext": hex.EncodeToString(plain)},
		Fields: f.End(), Bytes: hex.EncodeToString(sealed),
	}
}

func pinsVector(t *testing.T, cards ...*identity.Card) goldentest.Vector {
	dir := t.TempDir()
	pins, err := identity.OpenCardPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := pins.Observe(context.Background(), cards...); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cards"))
	if err != nil {
		t.Fatal(err)
	}
	f := goldentest.Split(t, raw)
	for f.Left() > 0 {
		f.Take("id", 32)
		f.Take("seq", 8)
		f.Take("card_hash", 32)
	}
	return goldentest.Vector{
		Name: "card pins", About: "The file of pins after both cards were seen.",
		Fields: f.End(), Bytes: hex.EncodeToString(raw),
	}
}
