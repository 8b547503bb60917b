package identity_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

func openPins(t *testing.T, dir string) *identity.CardPins {
	t.Helper()
	pins, err := identity.OpenCardPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	return pins
}

// later returns the identity's next card.
func later(t *testing.T, id *identity.Identity) *identity.Card {
	t.Helper()
	if _, err := id.AddKEM(goldentest.Rand("later")); err != nil {
		t.Fatal(err)
	}
	return cardOf(t, id)
}

func TestCardPinsMoveForwardOnly(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "bus", "cards")
	alice, bob := person(t, "alice"), cardOf(t, person(t, "bob"))
	first := cardOf(t, alice)
	sameNumber, err := identity.NewCard(alice, first.BusID, epoch, epoch.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	second := later(t, alice)

	for _, step := range []struct {
		name  string
		cards []*identity.Card
		want  bus.Code
	}{
		{"first use", []*identity.Card{first}, ""},
		{"the same again", []*identity.Card{first}, ""},
		{"another card of that number", []*identity.Card{sameNumber}, bus.CodeCardFork},
		{"two of a number at once", []*identity.Card{bob, sameNumber}, bus.CodeCardFork},
		{"a newer one", []*identity.Card{second}, ""},
		{"the older one", []*identity.Card{first}, bus.CodeRollback},
		{"an older one that was never seen", []*identity.Card{sameNumber}, bus.CodeRollback},
		{"several", []*identity.Card{bob, second}, ""},
		{"none", nil, ""},
	} {
		before, err := os.ReadFile(filepath.Join(dir, "cards"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		// Opened anew each time: what counts is on the disk.
		wantCode(t, step.name, openPins(t, dir).Observe(ctx, step.cards...), step.want)
		after, err := os.ReadFile(filepath.Join(dir, "cards"))
		if err != nil {
			t.Fatal(err)
		}
		if step.want != "" && !bytes.Equal(before, after) {
			t.Errorf("%s: refused and remembered all the same", step.name)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "cards"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDamagedCardPinsAreNotForgotten(t *testing.T) {
	dir := t.TempDir()
	card := cardOf(t, person(t, "alice"))
	pins := openPins(t, dir)
	if err := pins.Observe(context.Background(), card); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cards")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"cut short":     whole[:len(whole)-1],
		"too long":      append(bytes.Clone(whole), 0),
		"the pin twice": append(bytes.Clone(whole), whole...),
	} {
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		wantCode(t, name, pins.Observe(context.Background(), card), bus.CodeMalformed)
	}
}

func TestManyProcessesShareCardPins(t *testing.T) {
	dir, alice := t.TempDir(), person(t, "alice")
	cards := []*identity.Card{cardOf(t, alice)}
	for range 9 {
		cards = append(cards, later(t, alice))
	}
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			pins, err := identity.OpenCardPins(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for _, c := range cards {
				if err := pins.Observe(context.Background(), c); err != nil && bus.CodeOf(err) != bus.CodeRollback {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	wantCode(t, "last but one", openPins(t, dir).Observe(context.Background(), cards[8]), bus.CodeRollback)
	wantCode(t, "last", openPins(t, dir).Observe(context.Background(), cards[9]), "")
}

func TestObservingGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := openPins(t, t.TempDir()).Observe(ctx, cardOf(t, person(t, "alice")))
	wantCode(t, "cancelled", err, bus.CodeTimeout)
}
