package identity_test

import (
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

// epoch is the time on every clock here: 2027-01-15T08:00:00Z.
var epoch = time.Unix(1_800_000_000, 0).UTC()

// person returns the identity that belongs to a name, the same in every run.
func person(t testing.TB, name string) *identity.Identity {
	t.Helper()
	id, err := identity.Generate(goldentest.Rand(name))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// testRoot returns the root of the bus that the tests are on.
func testRoot(t testing.TB) *identity.Root {
	t.Helper()
	root, err := identity.GenerateRoot(goldentest.Rand("root"))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func cardOf(t testing.TB, id *identity.Identity) *identity.Card {
	t.Helper()
	card, err := identity.NewCard(id, testRoot(t).BusID(), epoch, epoch.Add(bus.MaxCardLife))
	if err != nil {
		t.Fatal(err)
	}
	return card
}

func wantCode(t testing.TB, what string, err error, want bus.Code) {
	t.Helper()
	if got := bus.CodeOf(err); got != want {
		t.Errorf("%s: %v (code %q), want %q", what, err, got, want)
	}
}
