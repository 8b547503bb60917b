package keygen

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/clitest"
	"github.com/enmanuel/unibus/lib/identity"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func() int{"unibus-keygen": func() int { return cli.Main(Command()) }})
}

func TestScripts(t *testing.T) { clitest.Run(t, clitest.Params{}) }

func newCard(t testing.TB) *identity.Card {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Unix(1_800_000_000, 0)
	card, err := identity.NewCard(id, bus.BusID{1}, from, from.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return card
}

func TestCardsAreReadAsTextAndAsBytes(t *testing.T) {
	card := newCard(t)
	line := base64.RawURLEncoding.EncodeToString(card.Bytes())
	for name, raw := range map[string]string{
		"bytes": string(card.Bytes()), "text": line, "line": line + "\n", "Windows line": " " + line + "\r\n",
	} {
		said, err := readCard([]byte(raw))
		if err != nil || *said.CardHash != card.Hash() || said.Card != line || *said.ID != card.ID() {
			t.Errorf("%s: %+v, %v", name, said, err)
		}
	}
	for name, raw := range map[string]string{
		"nothing": "", "prose": "not a card", "cut": line[:len(line)-4], "two lines": line + "\n" + line, "padding": line + "==",
	} {
		if _, err := readCard([]byte(raw)); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadCard(f *testing.F) {
	card := newCard(f)
	f.Add(card.Bytes())
	f.Add([]byte(base64.RawURLEncoding.EncodeToString(card.Bytes()) + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		said, err := readCard(raw)
		if err != nil {
			return
		}
		again, err := readCard([]byte(said.Card))
		if err != nil || *again.CardHash != *said.CardHash {
			t.Errorf("the text of an accepted card does not read as itself: %v", err)
		}
	})
}
