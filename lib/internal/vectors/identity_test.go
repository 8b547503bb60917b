package vectors

import (
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// cast is who the golden files of identities and rooms are about, as far as their secrets are in the files.
type cast struct {
	alice    *Identity
	rootSeed []byte
	busID    Hash32
}

func readCast(t *testing.T) cast {
	t.Helper()
	vs := readVectors(t, identityFile)
	if vs["identity file"] == nil || vs["root file"] == nil {
		t.Fatalf("%s has no identity or root file", identityFile)
	}
	alice := must[*Identity](t)(ParseIdentity(vs["identity file"].Inputs["text"]))
	seed, _, err := ParseRoot(vs["root file"].Inputs["text"])
	if err != nil {
		t.Fatal(err)
	}
	return cast{alice, seed, ID(SignPub(seed))}
}

// latestKEM is the HPKE key of alice's highest card number.
func (c cast) latestKEM() KEMKey { return c.alice.KEMKeys[len(c.alice.KEMKeys)-1] }

func TestIdentityVectors(t *testing.T) {
	c := readCast(t)
	checks{
		"identity file":                c.identityFile,
		"root file":                    c.rootFile,
		"transport key":                c.transportKey,
		"card":                         c.card,
		"another card":                 c.bobsCard,
		"directory entry":              c.entry,
		"sealed":                       c.sealed,
		"revocation by the key itself": func(t *testing.T, v *vector) { c.revocation(t, v, Hash32{}, c.alice.SignSeed) },
		"revocation by the root":       func(t *testing.T, v *vector) { c.revocation(t, v, c.busID, c.rootSeed) },
		"card pins":                    c.cardPins,
	}.replay(t, identityFile)
}

func (c cast) identityFile(t *testing.T, v *vector) {
	text := v.inputText(t, "text")
	id := must[*Identity](t)(ParseIdentity(text))
	v.has(t, id.Fields)
	pub := SignPub(id.SignSeed)
	who := ID(pub)
	v.derives(t, "sign_pub", pub[:])
	v.derives(t, "id", who[:])
	v.derivesText(t, "id_text", Text(who[:]))
	v.derivesText(t, "id_token_text", Token(who))
	v.derives(t, "kem_pub_latest", must[[]byte](t)(KEMPub(c.latestKEM().Seed)))
	comment(t, text, "# sign_pub "+hex.EncodeToString(pub[:]))
}

func (c cast) rootFile(t *testing.T, v *vector) {
	text := v.inputText(t, "text")
	seed, fields, err := ParseRoot(text)
	if err != nil {
		t.Fatal(err)
	}
	v.has(t, fields)
	pub := SignPub(seed)
	bus := ID(pub)
	v.derives(t, "root_pub", pub[:])
	v.derives(t, "bus_id", bus[:])
	comment(t, text, "# bus_id "+Text(bus[:]))
}

// comment checks that the only comment of a file is the one that is true.
func comment(t *testing.T, text, want string) {
	t.Helper()
	got := strings.Split(text, "\n")
	if len(got) != 4 || got[1] != want || got[3] != "" {
		t.Errorf("text: %q does not have the one comment %q", text, want)
	}
}

func (c cast) transportKey(t *testing.T, v *vector) {
	same(t, "sign_seed", v.input(t, "sign_seed"), c.alice.SignSeed)
	same(t, "bus_id", v.input(t, "bus_id"), c.busID[:])
	seed := must[[]byte](t)(c.alice.TransportSeed(c.busID))
	same(t, "bytes", seed, v.bytes(t))
	pub := SignPub(seed)
	v.derives(t, "transport_pub", pub[:])
	v.derivesText(t, "nkey_text", UserNKey(pub))
	nonce := v.inputText(t, "nonce_text")
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{15,64}$`).MatchString(nonce) {
		t.Errorf("nonce_text: a client does not sign %q", nonce)
	}
	v.derives(t, "nonce_signature", ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(nonce)))
}

func (c cast) card(t *testing.T, v *vector) {
	card := must[*Card](t)(ParseCard(v.bytes(t)))
	v.has(t, card.Fields)
	kem := c.latestKEM()
	transport := SignPub(must[[]byte](t)(c.alice.TransportSeed(c.busID)))
	pub := SignPub(c.alice.SignSeed)
	same(t, "sign_pub", card.SignPub[:], pub[:])
	same(t, "transport_pub", card.TransportPub[:], transport[:])
	same(t, "kem_pub", card.KEMPub, must[[]byte](t)(KEMPub(kem.Seed)))
	same(t, "seq", u64(card.Seq), u64(kem.CardSeq))
	same(t, "sig", card.Sig, Sign(c.alice.SignSeed, "card", card.Signed))
	c.ofTheBus(t, v, card)
}

func (c cast) bobsCard(t *testing.T, v *vector) {
	card := must[*Card](t)(ParseCard(v.bytes(t)))
	v.has(t, card.Fields)
	c.ofTheBus(t, v, card)
}

func (c cast) ofTheBus(t *testing.T, v *vector, card *Card) {
	t.Helper()
	who := ID(card.SignPub)
	same(t, "bus_id", card.BusID[:], c.busID[:])
	v.derives(t, "id", who[:])
	v.derives(t, "card_hash", card.Hash[:])
}

func (c cast) entry(t *testing.T, v *vector) {
	e := must[*Entry](t)(ParseEntry(v.bytes(t)))
	v.has(t, e.Fields)
	who, root := ID(SignPub(c.alice.SignSeed)), SignPub(c.rootSeed)
	same(t, "handle", []byte(e.Handle), []byte("alice"))
	same(t, "id", e.ID[:], who[:])
	same(t, "root_pub", e.RootPub[:], root[:])
	same(t, "bus_id", e.BusID[:], c.busID[:])
	same(t, "sig", e.Sig, Sign(c.rootSeed, "dir", e.Signed))
}

func (c cast) revocation(t *testing.T, v *vector, bus Hash32, signSeed []byte) {
	r := must[*Revocation](t)(ParseRevocation(v.bytes(t)))
	v.has(t, r.Fields)
	alice, signer := SignPub(c.alice.SignSeed), SignPub(signSeed)
	who := ID(alice)
	v.derives(t, "id", who[:])
	same(t, "bus_id", r.BusID[:], bus[:])
	same(t, "sign_pub", r.SignPub[:], alice[:])
	same(t, "signer", r.Signer[:], signer[:])
	same(t, "sig", r.Sig, Sign(signSeed, "revoke", r.Signed))
	text := v.inputText(t, "text")
	comment(t, text, "# revokes sign_pub "+hex.EncodeToString(alice[:]))
	same(t, "sig in the file", must[*Revocation](t)(ParseRevocationFile(text)).Sig, r.Sig)
}

func (c cast) sealed(t *testing.T, v *vector) {
	r := newReader(v.bytes(t))
	r.take("enc", 1120)
	r.take("ct", 48)
	if err := r.done(); err != nil {
		t.Fatal(err)
	}
	v.has(t, r.fields)
	pt := must[[]byte](t)(OpenSealed(c.latestKEM().Seed, v.input(t, "info"), v.bytes(t)))
	same(t, "plaintext", pt, v.input(t, "plaintext"))
}

func (c cast) cardPins(t *testing.T, v *vector) {
	pins, fields, err := ParseCardPins(v.bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	v.has(t, fields)
	vs := readVectors(t, identityFile)
	for _, name := range []string{"card", "another card"} {
		card := must[*Card](t)(ParseCard(vs[name].bytes(t)))
		if want := (CardPin{ID(card.SignPub), card.Seq, card.Hash}); !slices.Contains(pins, want) {
			t.Errorf("there is no pin of %q, %+v", name, want)
		}
	}
	if len(pins) != 2 {
		t.Errorf("%d pins of 2 cards", len(pins))
	}
}

func TestHPKEVectors(t *testing.T) {
	checks{"RFC 9180 A.1.1": opensHPKE, "draft-ietf-hpke-pq MLKEM768-X25519": opensHPKE}.replay(t, hpkeFile)
}

func opensHPKE(t *testing.T, v *vector) {
	number := func(name string) uint16 { return binary.BigEndian.Uint16(v.input(t, name)) }
	kem := must[hpke.KEM](t)(hpke.NewKEM(number("kem")))
	kdf := must[hpke.KDF](t)(hpke.NewKDF(number("kdf")))
	aead := must[hpke.AEAD](t)(hpke.NewAEAD(number("aead")))
	seed, enc, info, aad := v.input(t, "sk_r"), v.input(t, "enc"), v.input(t, "info"), v.input(t, "aad")
	pub, pt := v.input(t, "pk_r"), v.input(t, "pt")
	if kem.ID() == kemID {
		same(t, "pk_r by the page", must[[]byte](t)(KEMPub(seed)), pub)
		same(t, "pt by the page", must[[]byte](t)(openHPKE(seed, info, append(enc, v.bytes(t)...), aad, aead.ID())), pt)
	}
	key := must[hpke.PrivateKey](t)(kem.NewPrivateKey(seed))
	same(t, "pk_r", key.PublicKey().Bytes(), pub)
	r := must[*hpke.Recipient](t)(hpke.NewRecipient(enc, key, kdf, aead, info))
	same(t, "pt", must[[]byte](t)(r.Open(aad, v.bytes(t))), pt)
}
