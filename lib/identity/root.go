package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// Root is the key that a bus is named after. It is kept offline and signs which
// identity a handle belongs to.
type Root struct {
	key ed25519.PrivateKey
}

// GenerateRoot makes a root from 32 bytes of rand, which is crypto/rand.Reader
// outside of tests.
func GenerateRoot(rand io.Reader) (*Root, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "generate bus root: %w", err)
	}
	return &Root{key: ed25519.NewKeyFromSeed(seed)}, nil
}

// Pub returns the 32 bytes of the public half.
func (r *Root) Pub() []byte { return []byte(r.key.Public().(ed25519.PublicKey)) }

// BusID returns the name of the bus: SHA-256 of the public half.
func (r *Root) BusID() bus.BusID { return sha256.Sum256(r.Pub()) }

// String returns the bus id and nothing secret.
func (r *Root) String() string { return "root of bus " + r.BusID().String() }

// Format implements [fmt.Formatter], so that no verb reaches the key.
func (r *Root) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// Entry says, in the name of a bus, which identity a handle belongs to.
type Entry struct {
	BusID    bus.BusID
	Handle   bus.Handle
	ID       bus.ID
	Seq      uint64 // a later entry of the same handle has a higher number
	NotAfter time.Time
}

// CheckTime refuses an entry past its time, give or take [bus.ClockSkew], with
// [bus.CodeExpired].
func (e Entry) CheckTime(now time.Time) error {
	if now.After(e.NotAfter.Add(bus.ClockSkew)) {
		return bus.Errorf(bus.CodeExpired, "check directory entry of %q: expired at %s", e.Handle, e.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// SignEntry returns the encoded entry with its signature. It refuses an entry of
// another bus ([bus.CodeWrongBus]) and one that [ParseEntry] would not read
// ([bus.CodeMalformed]).
func (r *Root) SignEntry(e Entry) ([]byte, error) {
	if e.BusID != r.BusID() {
		return nil, bus.Errorf(bus.CodeWrongBus, "sign directory entry: it is of bus %s, the root of bus %s", e.BusID, r.BusID())
	}
	if _, err := bus.ParseHandle(string(e.Handle)); err != nil {
		return nil, fmt.Errorf("sign directory entry: %w", err)
	}
	var body cryptobyte.Builder
	body.AddUint8(bus.Version)
	body.AddUint8(bus.TypeEntry)
	body.AddBytes(e.BusID[:])
	body.AddBytes(r.Pub())
	body.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(e.Handle)) })
	body.AddBytes(e.ID[:])
	body.AddUint64(e.Seq)
	wire.AddTime(&body, e.NotAfter)
	raw, err := body.Bytes()
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "sign directory entry: %w", err)
	}
	return append(raw, wire.Sign(r.key, wire.LabelDirectory, raw)...), nil
}

// ParseEntry reads an entry and its signature. It checks everything but the
// time of day: form, that the entry is of bus b and the key in it the root that
// b is named after, and the signature. Its errors have [bus.CodeMalformed],
// [bus.CodeWrongBus], [bus.CodeWeakKey] or [bus.CodeBadSignature].
func ParseEntry(raw []byte, b bus.BusID) (Entry, error) {
	e, err := ParseSignedEntry(raw)
	if err == nil && e.BusID != b {
		err = bus.Errorf(bus.CodeWrongBus, "parse directory entry: it is of bus %s, not %s", e.BusID, b)
	}
	if err != nil {
		return Entry{}, err
	}
	return e, nil
}

// ParseSignedEntry is [ParseEntry] for whatever bus the entry names: that it is
// the right one is for the caller to see.
func ParseSignedEntry(raw []byte) (Entry, error) {
	var (
		e             Entry
		version, kind uint8
		root          [ed25519.PublicKeySize]byte
		handle        cryptobyte.String
		sig           [signatureSize]byte
	)
	s := cryptobyte.String(raw)
	ok := s.ReadUint8(&version) && version == bus.Version &&
		s.ReadUint8(&kind) && kind == bus.TypeEntry &&
		s.CopyBytes(e.BusID[:]) &&
		s.CopyBytes(root[:]) &&
		s.ReadUint8LengthPrefixed(&handle) &&
		s.CopyBytes(e.ID[:]) &&
		s.ReadUint64(&e.Seq) &&
		wire.ReadTime(&s, &e.NotAfter) &&
		s.CopyBytes(sig[:]) &&
		s.Empty()
	if !ok {
		return Entry{}, bus.Errorf(bus.CodeMalformed, "parse directory entry: no entry of version %d, cut short, or too long", bus.Version)
	}
	var err error
	if e.Handle, err = bus.ParseHandle(string(handle)); err != nil {
		return Entry{}, fmt.Errorf("parse directory entry: %w", err)
	}
	if sha256.Sum256(root[:]) != e.BusID {
		return Entry{}, bus.Errorf(bus.CodeWrongBus, "parse directory entry: signed by another root than that of bus %s", e.BusID)
	}
	if err := wire.CheckPublicKey(root[:]); err != nil {
		return Entry{}, fmt.Errorf("parse directory entry: root key: %w", err)
	}
	if !wire.Verify(root[:], wire.LabelDirectory, raw[:len(raw)-signatureSize], sig[:]) {
		return Entry{}, bus.Errorf(bus.CodeBadSignature, "parse directory entry: not signed by the root of its bus")
	}
	return e, nil
}
