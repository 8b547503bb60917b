package keygen

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

const flagField = "field"

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show the public half of an identity, root, card or revocation",
		ArgsUsage: "[FILE]",
		Description: "FILE is an identity, a bus root, a card or a revocation; - is a card on standard input. Without\n" +
			"FILE it is the identity of the context. Where --bus-id or the context name a bus,\n" +
			"the keys that an identity shows there are listed too, and the card that clients of\n" +
			"this machine have published there last, with its end.",
		UsageText: "unibus keygen show\nunibus keygen show alice.id --field sign_pub\nunibus keygen show - <alice.card",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagField, Usage: "print the value of the field `NAME` and nothing else"},
		},
		Action: cli.Action(show),
	}
}

func show(c *cli.Call) error {
	said, err := read(c)
	if err != nil {
		return err
	}
	if name := c.String(flagField); name != "" {
		return said.print(c, name)
	}
	if c.WantsJSON() {
		return c.JSON(said)
	}
	var rows [][]string
	for _, f := range said.fields() {
		rows = append(rows, f[:])
	}
	c.Table([]string{"field", "value"}, rows)
	return nil
}

// print prints the value of one field.
func (p public) print(c *cli.Call, name string) error {
	var names []string
	for _, f := range p.fields() {
		if f[0] == name {
			c.Printf("%s\n", f[1])
			return nil
		}
		names = append(names, f[0])
	}
	return cli.Usagef("--field %q: this %s has %s", name, p.Kind, strings.Join(names, ", "))
}

// read reads whatever the argument names.
func read(c *cli.Call) (public, error) {
	if c.Arg(0) == "-" {
		raw, err := io.ReadAll(io.LimitReader(c.Env.Stdin, maxCardText+1))
		if err != nil {
			return public{}, fmt.Errorf("read standard input: %w", err)
		}
		return readCard(raw)
	}
	var needs []cli.Need
	if c.Arg(0) == "" {
		needs = append(needs, cli.NeedIdentity)
	}
	cfg, err := configFor(c, needs...)
	if err != nil {
		return public{}, err
	}
	key, err := open(c, cfg.Identity)
	if err != nil {
		return public{}, err
	}
	said := key.public()
	if key.identity != nil && !cfg.BusID.IsZero() {
		said = said.withBus(key.identity, cfg.BusID)
		state, err := c.Env.StateDir()
		if err != nil {
			return public{}, err
		}
		card, err := client.OwnCard(state, cfg.BusID, key.identity.ID())
		switch {
		case err == nil:
			said = said.withCard(card)
		case !errors.Is(err, bus.ErrNotFound):
			return public{}, err
		}
	}
	said.File, said.Locked = cfg.Identity, key.passphrase != ""
	return said, nil
}

// maxCardText bounds the text of a card with the white space around it.
const maxCardText = 2 * bus.MaxCardSize

// readCard reads a card from its line of base64url, or from its bytes.
func readCard(raw []byte) (public, error) {
	if text := bytes.TrimSpace(raw); len(text) > 0 && text[0] != bus.Version {
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
		if err != nil {
			return public{}, cli.WithHint(bus.Errorf(bus.CodeMalformed, "read card: no line of base64url: %w", err),
				"give an identity, a bus root, a card or a revocation; this is none of them")
		}
		raw = decoded
	}
	card, err := identity.ParseCard(raw)
	if err != nil {
		return public{}, fmt.Errorf("read card: %w", err)
	}
	return publicOfCard(card), nil
}

// key is an opened file: exactly one of identity and root is set, unless it
// was a card or a revocation.
type key struct {
	identity   *identity.Identity
	root       *identity.Root
	card       public
	passphrase string
}

func (k key) public() public {
	switch {
	case k.identity != nil:
		return publicOfIdentity(k.identity)
	case k.root != nil:
		return publicOfRoot(k.root)
	}
	return k.card
}

// open opens a file of any kind. The passphrase is asked for at most once.
func open(c *cli.Call, file string) (key, error) {
	kind, err := sniff(file)
	if err != nil {
		return key{}, err
	}
	if kind == kindCard {
		raw, err := readSmall(file)
		if err != nil {
			return key{}, err
		}
		said, err := readCard(raw)
		return key{card: said}, err
	}
	if kind == kindRevocation {
		raw, err := readSmall(file)
		if err != nil {
			return key{}, err
		}
		r, err := identity.ParseRevocationText(raw)
		return key{card: publicOfRevocation(r)}, err
	}
	opened := opener{call: c, file: file}
	again := func() (string, error) { return opened.used, nil }
	id, err := identity.Load(file, opened.passphrase)
	if err == nil {
		return key{identity: id, passphrase: opened.used}, nil
	}
	// A locked file does not tell before it is opened which of the two it is.
	if !errors.Is(err, bus.ErrMalformed) {
		return key{}, err
	}
	root, rootErr := identity.LoadRoot(file, again)
	if rootErr != nil {
		if kind == kindRoot {
			err = rootErr
		}
		return key{}, err
	}
	return key{root: root, passphrase: opened.used}, nil
}
