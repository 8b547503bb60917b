package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mlkem"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

// rawCard writes cards that no NewCard would, field by field.
type rawCard struct {
	version, kind            byte
	signPub, bus, transport  []byte
	kem                      uint16
	kemPub                   []byte
	seq, notBefore, notAfter uint64
	key                      ed25519.PrivateKey
}

func validCard(t testing.TB) rawCard {
	id := person(t, "alice")
	b := testRoot(t).BusID()
	signPub, transport := id.SignPub(), id.Transport(b).TransportPub()
	return rawCard{
		version: 1, kind: 1, signPub: signPub[:], bus: b[:], transport: transport[:],
		kem: identity.KEMHybrid, kemPub: id.LatestKEM().Pub(), seq: 1,
		notBefore: uint64(epoch.Unix()), notAfter: uint64(epoch.Add(time.Hour).Unix()),
		key: ed25519.NewKeyFromSeed(seedOf(t, "alice")),
	}
}

func (c rawCard) body() []byte {
	b := []byte{c.version, c.kind}
	b = append(b, c.signPub...)
	b = append(b, c.bus...)
	b = append(b, c.transport...)
	b = binary.BigEndian.AppendUint16(b, c.kem)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.kemPub)))
	b = append(b, c.kemPub...)
	b = binary.BigEndian.AppendUint64(b, c.seq)
	b = binary.BigEndian.AppendUint64(b, c.notBefore)
	return binary.BigEndian.AppendUint64(b, c.notAfter)
}

func (c rawCard) signed() []byte {
	body := c.body()
	return append(body, wire.Sign(c.key, wire.LabelCard, body)...)
}

func TestCardReadsBackAsItWasMade(t *testing.T) {
	id := person(t, "alice")
	b := testRoot(t).BusID()
	card, err := identity.NewCard(id, b, epoch, epoch.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if want := validCard(t).signed(); !bytes.Equal(card.Bytes(), want) {
		t.Fatalf("card is\n%x, want\n%x", card.Bytes(), want)
	}
	kem := id.LatestKEM()
	switch {
	case card.ID() != id.ID(), card.SignPub != id.SignPub(), card.BusID != b,
		card.TransportPub != id.Transport(b).TransportPub(),
		card.KEM != kem.ID, card.Seq != kem.CardSeq, !bytes.Equal(card.KEMPub, kem.Pub()),
		!card.NotBefore.Equal(epoch), !card.NotAfter.Equal(epoch.Add(time.Hour)),
		card.Hash() != bus.CardHash(wire.Hash(wire.LabelCardHash, card.Bytes())):
		t.Errorf("a field of the card is another than it was made with: %+v", card)
	}
}

func TestCardKeepsItsOwnCopyOfTheBytes(t *testing.T) {
	raw := validCard(t).signed()
	card, err := identity.ParseCard(raw)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(raw)
	clear(raw)
	if !bytes.Equal(card.Bytes(), kept) || len(card.KEMPub) == 0 || card.KEMPub[1] != kept[103] {
		t.Error("the card changed with the caller's bytes")
	}
}

func TestCardsThatAreRefused(t *testing.T) {
	smallOrder := make([]byte, 32)
	smallOrder[0] = 1 // the identity point
	for _, tc := range []struct {
		name   string
		change func(*rawCard)
		want   bus.Code
	}{
		{"another version", func(c *rawCard) { c.version = 2 }, bus.CodeMalformed},
		{"another type", func(c *rawCard) { c.kind = bus.TypeRecord }, bus.CodeMalformed},
		{"number zero", func(c *rawCard) { c.seq = 0 }, bus.CodeMalformed},
		{"ends as it begins", func(c *rawCard) { c.notAfter = c.notBefore }, bus.CodeMalformed},
		{"ends before it begins", func(c *rawCard) { c.notAfter = c.notBefore - 1 }, bus.CodeMalformed},
		{"a second over 90 days", func(c *rawCard) { c.notAfter = c.notBefore + 90*86400 + 1 }, bus.CodeMalformed},
		{"time beyond any calendar", func(c *rawCard) { c.notBefore, c.notAfter = 1<<63, 1<<63+1 }, bus.CodeMalformed},
		{"signing key of small order", func(c *rawCard) { c.signPub = smallOrder }, bus.CodeWeakKey},
		{"transport key of small order", func(c *rawCard) { c.transport = smallOrder }, bus.CodeWeakKey},
		{"signed by another key", func(c *rawCard) { c.key = ed25519.NewKeyFromSeed(seedOf(t, "bob")) }, bus.CodeBadSignature},
		{"unknown KEM", func(c *rawCard) { c.kem = 0x0020 }, bus.CodeMalformed},
		{"HPKE key too short", func(c *rawCard) { c.kemPub = c.kemPub[1:] }, bus.CodeMalformed},
		{"HPKE key not reduced", func(c *rawCard) { c.kemPub = slices.Repeat([]byte{0xff}, len(c.kemPub)) }, bus.CodeMalformed},
		{"HPKE key with a point of small order", func(c *rawCard) {
			c.kemPub = append(bytes.Clone(c.kemPub[:mlkem.EncapsulationKeySize768]), make([]byte, 32)...)
		}, bus.CodeWeakKey},
		{"larger than any card", func(c *rawCard) { c.kemPub = make([]byte, bus.MaxCardSize) }, bus.CodeMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := validCard(t)
			tc.change(&c)
			_, err := identity.ParseCard(c.signed())
			wantCode(t, "parse", err, tc.want)
		})
	}
	t.Run("cut short", func(t *testing.T) {
		raw := validCard(t).signed()
		for n := range raw {
			_, err := identity.ParseCard(raw[:n])
			wantCode(t, "parse", err, bus.CodeMalformed)
		}
	})
	t.Run("a byte too long", func(t *testing.T) {
		_, err := identity.ParseCard(append(validCard(t).signed(), 0))
		wantCode(t, "parse", err, bus.CodeMalformed)
	})
}

// Under the identity point one signature fits every message, so a card with it
// as its signing key would verify.
func TestCardSignedUnderTheIdentityPointIsRefused(t *testing.T) {
	c := validCard(t)
	c.signPub = make([]byte, 32)
	c.signPub[0] = 1
	body := c.body()
	sig := append(bytes.Clone(c.signPub), make([]byte, 32)...)
	if !ed25519.Verify(c.signPub, body, sig) {
		t.Fatal("the standard library refuses it now: the check may go")
	}
	_, err := identity.ParseCard(append(body, sig...))
	wantCode(t, "parse", err, bus.CodeWeakKey)
}

func TestEveryFlippedBitOfACardIsNoticed(t *testing.T) {
	flipEveryBit(t, validCard(t).signed(), func(raw []byte) error {
		_, err := identity.ParseCard(raw)
		return err
	}, bus.CodeMalformed, bus.CodeWeakKey, bus.CodeBadSignature)
}

func TestEveryFlippedBitOfAnEntryIsNoticed(t *testing.T) {
	root := testRoot(t)
	raw, err := root.SignEntry(identity.Entry{BusID: root.BusID(), Handle: "alice", ID: bus.ID{1}, Seq: 1, NotAfter: epoch})
	if err != nil {
		t.Fatal(err)
	}
	flipEveryBit(t, raw, func(raw []byte) error {
		_, err := identity.ParseEntry(raw, root.BusID())
		return err
	}, bus.CodeMalformed, bus.CodeWrongBus, bus.CodeBadSignature)
}

// flipEveryBit fails the test unless parse refuses raw with any one of its bits
// changed, each time with one of the codes, and accepts it as it is. It wants
// every code at least once.
func flipEveryBit(t *testing.T, raw []byte, parse func([]byte) error, codes ...bus.Code) {
	t.Helper()
	if err := parse(raw); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[bus.Code]bool)
	var workers sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for w := range n {
		workers.Go(func() {
			mine := bytes.Clone(raw)
			for bit := w; bit < 8*len(raw); bit += n {
				mine[bit/8] ^= 1 << (bit % 8)
				code := bus.CodeOf(parse(mine))
				mine[bit/8] ^= 1 << (bit % 8)
				if !slices.Contains(codes, code) {
					t.Errorf("bit %d of byte %d flipped: code %q", bit%8, bit/8, code)
				}
				mu.Lock()
				seen[code] = true
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	for _, c := range codes {
		if !seen[c] {
			t.Errorf("no flipped bit was %q", c)
		}
	}
}

func TestCardIsValidBetweenItsTimesGiveOrTakeTheSkew(t *testing.T) {
	c := cardOf(t, person(t, "alice"))
	for _, tc := range []struct {
		name string
		now  time.Time
		want bus.Code
	}{
		{"just early enough", c.NotBefore.Add(-bus.ClockSkew), ""},
		{"too early", c.NotBefore.Add(-bus.ClockSkew - time.Second), bus.CodeExpired},
		{"within", c.NotBefore.Add(time.Hour), ""},
		{"just not too late", c.NotAfter.Add(bus.ClockSkew), ""},
		{"too late", c.NotAfter.Add(bus.ClockSkew + time.Second), bus.CodeExpired},
	} {
		wantCode(t, tc.name, c.CheckTime(tc.now), tc.want)
	}
}

func TestNewCardRefusesTimesThatNoCardHas(t *testing.T) {
	id, b := person(t, "alice"), bus.BusID{1}
	for name, times := range map[string][2]time.Time{
		"over 90 days": {epoch, epoch.Add(bus.MaxCardLife + time.Second)},
		"no life":      {epoch, epoch},
		"before 1970":  {time.Unix(-1, 0), time.Unix(10, 0)},
		"year 10000":   {time.Unix(253402300799, 0), time.Unix(253402300800, 0)},
	} {
		_, err := identity.NewCard(id, b, times[0], times[1])
		wantCode(t, name, err, bus.CodeMalformed)
	}
}

func TestEntriesThatAreRefused(t *testing.T) {
	root := testRoot(t)
	other, err := identity.GenerateRoot(goldentest.Rand("other root"))
	if err != nil {
		t.Fatal(err)
	}
	e := identity.Entry{BusID: root.BusID(), Handle: "alice", ID: bus.ID{1}, Seq: 1, NotAfter: epoch}
	raw, err := root.SignEntry(e)
	if err != nil {
		t.Fatal(err)
	}
	_, err = identity.ParseEntry(raw, other.BusID())
	wantCode(t, "entry of another bus", err, bus.CodeWrongBus)
	_, err = other.SignEntry(e)
	wantCode(t, "sign for another bus", err, bus.CodeWrongBus)
	e.Handle = "Not A Handle"
	_, err = root.SignEntry(e)
	wantCode(t, "sign a bad handle", err, bus.CodeMalformed)
	_, err = identity.ParseEntry(append(raw, 0), root.BusID())
	wantCode(t, "a byte too long", err, bus.CodeMalformed)

	// The other root's key under this bus's id, signed by that key.
	forged := bytes.Clone(raw[:len(raw)-64])
	copy(forged[34:66], other.Pub())
	seed := payload(t, other.Marshal())
	forged = append(forged, wire.Sign(ed25519.NewKeyFromSeed(seed), wire.LabelDirectory, forged)...)
	_, err = identity.ParseEntry(forged, root.BusID())
	wantCode(t, "another root's key", err, bus.CodeWrongBus)

	parsed, err := identity.ParseEntry(raw, root.BusID())
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "in time", parsed.CheckTime(epoch.Add(bus.ClockSkew)), "")
	wantCode(t, "too late", parsed.CheckTime(epoch.Add(bus.ClockSkew+time.Second)), bus.CodeExpired)
}

func TestEntriesTravelInAFile(t *testing.T) {
	root, other := testRoot(t), person(t, "alice")
	var entries []identity.SignedEntry
	for i, handle := range []bus.Handle{"alice", "bob"} {
		e := identity.Entry{BusID: root.BusID(), Handle: handle, ID: other.ID(), Seq: uint64(i), NotAfter: epoch}
		raw, err := root.SignEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, identity.SignedEntry{Entry: e, Raw: raw})
	}
	path := filepath.Join(t.TempDir(), "entries")
	if err := identity.CreateEntries(path, entries); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "again", identity.CreateEntries(path, nil), bus.CodeFileExists)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := identity.ParseEntries(text); err != nil || !reflect.DeepEqual(got, entries) {
		t.Errorf("read back %+v, %v", got, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, tc := range map[string]struct {
		text string
		want bus.Code
	}{
		"nothing":       {"", bus.CodeMalformed},
		"another kind":  {string(root.Marshal()), bus.CodeMalformed},
		"no line end":   {strings.TrimSuffix(string(text), "\n"), bus.CodeMalformed},
		"an empty line": {string(text) + "\n", bus.CodeMalformed},
		"no base64url":  {lines[0] + "a=\n", bus.CodeMalformed},
		"Windows lines": {lines[0] + strings.TrimSuffix(lines[2], "\n") + "\r\n", bus.CodeMalformed},
		"huge":          {string(text) + "#" + strings.Repeat("x", bus.MaxEntriesFile) + "\n", bus.CodeMalformed},
		"damaged":       {lines[0] + strings.Repeat("A", 20) + lines[2][20:], bus.CodeMalformed},
	} {
		_, err := identity.ParseEntries([]byte(tc.text))
		wantCode(t, name, err, tc.want)
	}
}
