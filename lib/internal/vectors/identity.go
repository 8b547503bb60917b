package vectors

import (
	"regexp"
	"strings"
)

// KEMKey is one HPKE key of an identity.
type KEMKey struct {
	CardSeq uint64
	Seed    []byte
}

// Identity is what an identity file holds.
type Identity struct {
	SignSeed []byte
	KEMKeys  []KEMKey // card numbers ascend
	Fields   []Field
}

// ParseIdentity reads an identity file without passphrase. Code: malformed.
func ParseIdentity(text string) (*Identity, error) {
	secret, err := secretOf(text, "unibus-identity-1")
	if err != nil {
		return nil, err
	}
	r := newReader(secret)
	id := &Identity{SignSeed: r.take("sign_seed", 32)}
	var last uint64
	for r.more() {
		r.check(r.uint("kem", 2) == kemID, "kem", "not %#x", kemID)
		seq := r.uint("card_seq", 8)
		r.check(seq > last, "card_seq", "%d follows %d", seq, last)
		seed := r.blob("seed", 2)
		r.check(len(seed) == kemSeedSize, "seed", "has %d bytes", len(seed))
		id.KEMKeys, last = append(id.KEMKeys, KEMKey{seq, seed}), seq
	}
	r.check(len(id.KEMKeys) > 0, "kem", "there is no HPKE key")
	id.Fields = r.fields
	return id, r.done()
}

// ParseRoot reads a root file without passphrase and returns the seed. Code: malformed.
func ParseRoot(text string) (seed []byte, fields []Field, err error) {
	secret, err := secretOf(text, "unibus-root-1")
	if err != nil {
		return nil, nil, err
	}
	r := newReader(secret)
	seed = r.take("seed", 32)
	return seed, r.fields, r.done()
}

// secretOf reads the lines of an identity or root file: first, comments, base64url.
func secretOf(text, first string) ([]byte, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != first {
		return nil, refuse("malformed", "first line", "%q is not %q", lines[0], first)
	}
	lines = lines[1:]
	for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
		lines = lines[1:]
	}
	if len(lines) != 1 {
		return nil, refuse("malformed", "secret", "%d lines behind the comments", len(lines))
	}
	return ParseText(lines[0])
}

// TransportSeed is the seed of the identity's transport key on a bus.
func (id *Identity) TransportSeed(bus Hash32) ([]byte, error) {
	return KDF(id.SignSeed, bus[:], "transport")
}

// Card is a card whose form, keys and signature have been checked.
type Card struct {
	SignPub, BusID, TransportPub Hash32
	KEMPub                       []byte
	Seq, NotBefore, NotAfter     uint64
	Signed, Sig                  []byte
	Hash                         Hash32
	Fields                       []Field
}

// ParseCard reads and verifies a card. Codes: malformed, policy, weak_key, bad_signature.
func ParseCard(b []byte) (*Card, error) {
	r := newReader(b)
	r.check(len(b) <= 2048, "card", "has %d bytes", len(b))
	r.head(1)
	c := &Card{SignPub: r.key("sign_pub"), BusID: r.hash("bus_id"), TransportPub: r.key("transport_pub")}
	r.check(r.uint("kem", 2) == kemID, "kem", "not %#x", kemID)
	c.KEMPub = r.blob("kem_pub", 2)
	c.Seq, c.NotBefore, c.NotAfter = r.uint("seq", 8), r.uint("not_before", 8), r.uint("not_after", 8)
	r.check(c.Seq >= 1, "seq", "is 0")
	r.times(c.NotBefore, c.NotAfter)
	c.Signed, c.Sig = r.sig()
	if err := r.done(); err != nil {
		return nil, err
	}
	if err := CheckKEMPub(c.KEMPub); err != nil {
		return nil, err
	}
	c.Hash, c.Fields = Hash("card-hash", b), r.fields
	return c, Verify(c.SignPub, "card", c.Signed, c.Sig)
}

// Entry is a directory entry whose form, root and signature have been checked.
type Entry struct {
	BusID, RootPub, ID Hash32
	Handle             string
	Seq, NotAfter      uint64
	Signed, Sig        []byte
	Fields             []Field
}

var handleForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// ParseEntry reads and verifies a directory entry. Codes: malformed, weak_key, bad_signature.
func ParseEntry(b []byte) (*Entry, error) {
	r := newReader(b)
	r.head(4)
	e := &Entry{BusID: r.hash("bus_id"), RootPub: r.key("root_pub"), Handle: string(r.blob("handle", 1)), ID: r.hash("id"),
		Seq: r.uint("seq", 8), NotAfter: r.uint("not_after", 8)}
	r.check(ID(e.RootPub) == e.BusID, "root_pub", "is not the root of the bus")
	r.check(len(e.Handle) <= 64 && handleForm.MatchString(e.Handle), "handle", "%q", e.Handle)
	r.check(e.NotAfter <= maxTime, "not_after", "%d is after the year 9999", e.NotAfter)
	e.Signed, e.Sig = r.sig()
	if err := r.done(); err != nil {
		return nil, err
	}
	e.Fields = r.fields
	return e, Verify(e.RootPub, "dir", e.Signed, e.Sig)
}

// Revocation is a revocation whose form, signer and signature have been checked.
type Revocation struct {
	BusID, SignPub, Signer Hash32
	Signed, Sig            []byte
	Fields                 []Field
}

// ParseRevocation reads and verifies a revocation. Codes: malformed, weak_key, bad_signature.
func ParseRevocation(b []byte) (*Revocation, error) {
	r := newReader(b)
	r.head(5)
	v := &Revocation{BusID: r.hash("bus_id"), SignPub: r.key("sign_pub"), Signer: r.key("signer")}
	v.Signed, v.Sig = r.sig()
	if err := r.done(); err != nil {
		return nil, err
	}
	if own := v.BusID == (Hash32{}) && v.Signer == v.SignPub; !own && ID(v.Signer) != v.BusID {
		return nil, refuse("bad_signature", "signer", "is neither the key itself nor the root of the bus")
	}
	v.Fields = r.fields
	return v, Verify(v.Signer, "revoke", v.Signed, v.Sig)
}

// ParseRevocationFile reads the text of a revocation's file. Codes: malformed and those of ParseRevocation.
func ParseRevocationFile(text string) (*Revocation, error) {
	b, err := secretOf(text, "unibus-revocation-1")
	if err != nil {
		return nil, err
	}
	return ParseRevocation(b)
}

// CardPin is what a client remembers of an identity's cards.
type CardPin struct {
	ID   Hash32
	Seq  uint64
	Hash Hash32
}

// ParseCardPins reads a file of card pins. Code: malformed.
func ParseCardPins(b []byte) ([]CardPin, []Field, error) {
	r := newReader(b)
	var pins []CardPin
	var last []byte
	for r.more() {
		p := CardPin{r.hash("id"), r.uint("seq", 8), r.hash("card_hash")}
		r.check(ascends(last, p.ID[:]), "id", "%x does not ascend", p.ID)
		pins, last = append(pins, p), p.ID[:]
	}
	return pins, r.fields, r.done()
}
