package identity_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

func TestSealedKeyOpensWithEveryKeyOfTheIdentity(t *testing.T) {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first, info := id.LatestKEM(), []byte("info")
	sealed, err := identity.Seal(first.ID, first.Pub(), info, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) != 1168 {
		t.Errorf("sealed key has %d bytes, want 1168", len(sealed))
	}
	if _, err := id.AddKEM(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if plain, err := id.OpenSealed(info, sealed); err != nil || !bytes.Equal(plain, make([]byte, 32)) {
		t.Fatalf("opened %x, %v", plain, err)
	}
	if _, err := id.OpenSealed([]byte("other"), sealed); bus.CodeOf(err) != bus.CodeDecrypt {
		t.Errorf("opened under other info: %v", err)
	}
}

func TestCardReadsBackAsItWasMade(t *testing.T) {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	card, err := identity.NewCard(id, bus.BusID{1}, now, now.Add(bus.MaxCardLife))
	if err != nil {
		t.Fatal(err)
	}
	if card.ID() != id.ID() || card.TransportPub != id.Transport(bus.BusID{1}).TransportPub() {
		t.Error("the card does not name its identity's keys")
	}
	if _, err := identity.NewCard(id, bus.BusID{1}, now, now.Add(bus.MaxCardLife+time.Second)); bus.CodeOf(err) != bus.CodeMalformed {
		t.Errorf("a card of more than 90 days: %v", err)
	}
}
