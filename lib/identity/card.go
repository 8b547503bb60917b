package identity

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

const signatureSize = 64

// Card publishes the public keys of an identity on one bus, signed by itself.
// It comes from [ParseCard] or [NewCard], and changing its fields changes
// neither its bytes nor its hash.
type Card struct {
	SignPub      bus.SignPub
	BusID        bus.BusID
	TransportPub bus.TransportPub
	KEM          uint16 // HPKE identifier: [KEMHybrid]
	KEMPub       []byte // encoded public HPKE key
	Seq          uint64 // number of the card, from 1; the next card has a higher one
	NotBefore    time.Time
	NotAfter     time.Time

	raw  []byte
	hash bus.CardHash
}

// NewCard makes the card of the identity's latest HPKE key on a bus, valid
// between two times in whole seconds, at most 90 days apart. The card of one
// number is to be made once: a second one with other times is a fork to those
// who know the first. The next one follows [Identity.AddKEM]. The error has
// [bus.CodeMalformed].
func NewCard(id *Identity, b bus.BusID, notBefore, notAfter time.Time) (*Card, error) {
	kem, transport, pub := id.LatestKEM(), id.Transport(b).TransportPub(), id.SignPub()
	var body cryptobyte.Builder
	body.AddUint8(bus.Version)
	body.AddUint8(bus.TypeCard)
	body.AddBytes(pub[:])
	body.AddBytes(b[:])
	body.AddBytes(transport[:])
	body.AddUint16(kem.ID)
	body.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(kem.Pub()) })
	body.AddUint64(kem.CardSeq)
	wire.AddTime(&body, notBefore)
	wire.AddTime(&body, notAfter)
	raw, err := body.Bytes()
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "make card: %w", err)
	}
	card, err := ParseCard(append(raw, id.Sign(wire.LabelCard, raw)...))
	if err != nil {
		return nil, fmt.Errorf("make card: %w", err)
	}
	return card, nil
}

// ParseCard reads a card and its signature, keeping a copy of the bytes. It
// checks everything but the time of day and the bus: form, keys, a life of at
// most 90 days, signature. Its errors have [bus.CodeMalformed],
// [bus.CodeWeakKey] or [bus.CodeBadSignature].
func ParseCard(raw []byte) (*Card, error) {
	if len(raw) > bus.MaxCardSize {
		return nil, bus.Errorf(bus.CodeMalformed, "parse card: %d bytes, at most %d", len(raw), bus.MaxCardSize)
	}
	raw = bytes.Clone(raw)
	c := &Card{raw: raw, hash: wire.Hash(wire.LabelCardHash, raw)}
	s := cryptobyte.String(raw)
	var version, kind uint8
	if !s.ReadUint8(&version) || !s.ReadUint8(&kind) || version != bus.Version || kind != bus.TypeCard {
		return nil, bus.Errorf(bus.CodeMalformed, "parse card: no card of version %d", bus.Version)
	}
	var kemPub cryptobyte.String
	var sig [signatureSize]byte
	ok := s.CopyBytes(c.SignPub[:]) &&
		s.CopyBytes(c.BusID[:]) &&
		s.CopyBytes(c.TransportPub[:]) &&
		s.ReadUint16(&c.KEM) &&
		s.ReadUint16LengthPrefixed(&kemPub) &&
		s.ReadUint64(&c.Seq) &&
		wire.ReadTime(&s, &c.NotBefore) &&
		wire.ReadTime(&s, &c.NotAfter) &&
		s.CopyBytes(sig[:]) &&
		s.Empty()
	if !ok {
		return nil, bus.Errorf(bus.CodeMalformed, "parse card: cut short, too long, or a time out of range")
	}
	c.KEMPub = kemPub
	if c.Seq == 0 {
		return nil, bus.Errorf(bus.CodeMalformed, "parse card: number 0")
	}
	if life := c.NotAfter.Sub(c.NotBefore); life <= 0 || life > bus.MaxCardLife {
		return nil, bus.Errorf(bus.CodeMalformed, "parse card: life of %s, want more than nothing and at most %s", life, bus.MaxCardLife)
	}
	if err := wire.CheckPublicKey(c.TransportPub[:]); err != nil {
		return nil, fmt.Errorf("parse card: transport key: %w", err)
	}
	if err := wire.CheckPublicKey(c.SignPub[:]); err != nil {
		return nil, fmt.Errorf("parse card: signing key: %w", err)
	}
	if !wire.Verify(c.SignPub[:], wire.LabelCard, raw[:len(raw)-signatureSize], sig[:]) {
		return nil, bus.Errorf(bus.CodeBadSignature, "parse card: not signed by the key it names")
	}
	if err := checkKEMPub(c.KEM, c.KEMPub); err != nil {
		return nil, fmt.Errorf("parse card: %w", err)
	}
	return c, nil
}

// Bytes returns the card with its signature as it arrived. The caller must not
// change them.
func (c *Card) Bytes() []byte { return c.raw }

// Hash returns the name of this very card.
func (c *Card) Hash() bus.CardHash { return c.hash }

// ID returns whose card it is.
func (c *Card) ID() bus.ID { return IDOf(c.SignPub) }

// CheckTime refuses a card that is not valid at now, give or take
// [bus.ClockSkew], with [bus.CodeExpired].
func (c *Card) CheckTime(now time.Time) error {
	if now.Before(c.NotBefore.Add(-bus.ClockSkew)) {
		return bus.Errorf(bus.CodeExpired, "check card: not valid before %s", c.NotBefore.Format(time.RFC3339))
	}
	if now.After(c.NotAfter.Add(bus.ClockSkew)) {
		return bus.Errorf(bus.CodeExpired, "check card: expired at %s", c.NotAfter.Format(time.RFC3339))
	}
	return nil
}
