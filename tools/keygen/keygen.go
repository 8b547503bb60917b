// Package keygen is the command that makes and shows keys: identities, which
// are people and programs on a bus, and bus roots, which a bus is named after.
//
// Start with [Command]. Files are those of package identity: made with mode
// 0600, never overwritten, locked with a passphrase if one is wanted. Secrets
// reach standard output only where "-" asks for that; public halves go to
// standard error, into comments, and to "show".
//
// It makes no certificates. It talks to no server but for "rotate" and "prune",
// which change what a bus keeps together with the file.
package keygen

import (
	"fmt"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

const flagPassphrase = "passphrase"

// Command returns the command "keygen".
func Command() *cli.Command {
	return &cli.Command{
		Name:  "keygen",
		Usage: "make and show identities and bus roots",
		Description: "Files with keys are readable by their owner alone and never overwritten. Copies\n" +
			"are keys too: an identity belongs to one person or program.",
		Subcommands: []*cli.Command{
			{
				Name:      "identity",
				Usage:     "make an identity",
				ArgsUsage: "FILE",
				Description: "Makes who somebody is on a bus: a signing key and a key that others seal to.\n" +
					"An administrator needs the public key, sign_pub, to add the user.\n\n" +
					"With - as FILE the identity goes to standard output, for a secret store.",
				UsageText: "unibus keygen identity alice.id --passphrase\nunibus keygen identity - | vault kv put secret/alice id=-",
				Flags:     []cli.Flag{passphraseFlag()},
				Action:    cli.Action(makeIdentity),
			},
			{
				Name:      "bus",
				Usage:     "make the root of a new bus",
				ArgsUsage: "FILE",
				Description: "The bus is named after the root: bus_id is the hash of its public key. The root\n" +
					"signs which identity a handle belongs to. No server needs it; keep it offline.\n" +
					"`unibus init` makes one too, with all else that a bus needs.",
				UsageText: "unibus keygen bus bus.root --passphrase",
				Flags:     []cli.Flag{passphraseFlag()},
				Action:    cli.Action(makeRoot),
			},
			cardCommand(),
			entryCommand(),
			revocationCommand(),
			rotateCommand(),
			pruneCommand(),
			showCommand(),
			passwdCommand(),
		},
	}
}

func passphraseFlag() cli.Flag {
	return &cli.BoolFlag{Name: flagPassphrase, Usage: "lock the file with a passphrase; implied where one is given"}
}

// lock returns the passphrase for a new file, "" for none.
func lock(c *cli.Call, file string) (string, error) {
	if !c.Bool(flagPassphrase) && !c.PassphraseGiven() {
		return "", nil
	}
	if file == "-" {
		return "", cli.Usagef("what goes to standard output is not locked; name a file, or leave the passphrase away")
	}
	passphrase, err := c.NewPassphrase(file)
	if err == nil && passphrase == "" {
		err = bus.Errorf(bus.CodePassphrase, "read passphrase: it is empty")
	}
	return passphrase, err
}

// secret is a key with its file: an identity or a root.
type secret interface {
	Marshal() []byte
	Create(path, passphrase string) error
}

// keep writes a new secret to file, or to standard output for "-", and says
// what may be known about it.
func keep(c *cli.Call, s secret, file, passphrase string, said public) error {
	said.File = file
	if file == "-" {
		if c.WantsJSON() {
			return cli.Usagef("with --json standard output is taken; name a file")
		}
		if cli.IsTerminal(c.Env.Stdout) {
			c.Warn("this is a secret key, and it is on the screen now")
		}
		said.note(c)
		_, err := c.Stdout.Write(s.Marshal())
		return err
	}
	if err := s.Create(file, passphrase); err != nil {
		return err
	}
	said.Locked = passphrase != ""
	said.note(c)
	if c.WantsJSON() {
		return c.JSON(said)
	}
	return nil
}

func makeIdentity(c *cli.Call) error {
	file := c.Arg(0)
	passphrase, err := lock(c, file)
	if err != nil {
		return err
	}
	id, err := identity.Generate(c.Env.Rand)
	if err != nil {
		return err
	}
	return keep(c, id, file, passphrase, publicOfIdentity(id))
}

func makeRoot(c *cli.Call) error {
	file := c.Arg(0)
	passphrase, err := lock(c, file)
	if err != nil {
		return err
	}
	root, err := identity.GenerateRoot(c.Env.Rand)
	if err != nil {
		return err
	}
	return keep(c, root, file, passphrase, publicOfRoot(root))
}

// public is what may be known about a key or card; empty fields do not apply.
type public struct {
	Kind         string            `json:"kind"` // "identity", "root", "card" or "revocation"
	File         string            `json:"file,omitempty"`
	Locked       bool              `json:"locked,omitempty"` // with a passphrase
	SignPub      *bus.SignPub      `json:"sign_pub,omitempty"`
	ID           *bus.ID           `json:"id,omitempty"`
	BusID        *bus.BusID        `json:"bus_id,omitempty"`
	Fingerprint  string            `json:"fingerprint"` // of id, or else of bus_id
	TransportPub *bus.TransportPub `json:"transport_pub,omitempty"`
	NKey         string            `json:"nkey,omitempty"`
	KEMCards     []uint64          `json:"kem_cards,omitempty"` // numbers of the cards whose keys an identity has
	CardSeq      uint64            `json:"card_seq,omitempty"`  // the highest
	CardHash     *bus.CardHash     `json:"card_hash,omitempty"`
	NotBefore    string            `json:"not_before,omitempty"` // RFC 3339
	NotAfter     string            `json:"not_after,omitempty"`
	Card         string            `json:"card,omitempty"` // base64url
}

func publicOfIdentity(id *identity.Identity) public {
	pub, name := id.SignPub(), id.ID()
	return public{Kind: "identity", SignPub: &pub, ID: &name, Fingerprint: name.Fingerprint(), KEMCards: cardNumbers(id), CardSeq: id.LatestKEM().CardSeq}
}

// cardNumbers are those of the cards whose keys an identity has.
func cardNumbers(id *identity.Identity) []uint64 {
	var numbers []uint64
	for _, k := range id.KEMs() {
		numbers = append(numbers, k.CardSeq)
	}
	return numbers
}

func publicOfRoot(root *identity.Root) public {
	name := root.BusID()
	return public{Kind: "root", BusID: &name, Fingerprint: name.Fingerprint()}
}

// withBus adds what an identity shows to one bus.
func (p public) withBus(id *identity.Identity, b bus.BusID) public {
	transport := id.Transport(b)
	pub := transport.TransportPub()
	p.BusID, p.TransportPub, p.NKey = &b, &pub, transport.NKey()
	return p
}

// withCard adds the card that clients on this machine have made last for the bus,
// unless the identity has a later key, whose card is still to be made.
func (p public) withCard(card *identity.Card) public {
	if card.Seq != p.CardSeq {
		return p
	}
	hash := card.Hash()
	p.CardHash = &hash
	p.NotBefore, p.NotAfter = card.NotBefore.UTC().Format(time.RFC3339), card.NotAfter.UTC().Format(time.RFC3339)
	return p
}

// fields are the names, as in JSON, and values that are there, in the order
// people read them.
func (p public) fields() [][2]string {
	var out [][2]string
	add := func(name, value string, there bool) {
		if there {
			out = append(out, [2]string{name, value})
		}
	}
	add("kind", p.Kind, true)
	add("file", p.File, p.File != "")
	add("locked", "yes", p.Locked)
	add("sign_pub", text(p.SignPub), p.SignPub != nil)
	add("id", text(p.ID), p.ID != nil)
	add("bus_id", text(p.BusID), p.BusID != nil)
	add("fingerprint", p.Fingerprint, true)
	add("transport_pub", text(p.TransportPub), p.TransportPub != nil)
	add("nkey", p.NKey, p.NKey != "")
	add("kem_keys", fmt.Sprintf("%d, of cards %s", len(p.KEMCards), strings.Trim(fmt.Sprint(p.KEMCards), "[]")), len(p.KEMCards) > 0)
	add("card_seq", fmt.Sprint(p.CardSeq), p.CardSeq > 0)
	add("card_hash", text(p.CardHash), p.CardHash != nil)
	add("not_before", p.NotBefore, p.NotBefore != "")
	add("not_after", p.NotAfter, p.NotAfter != "")
	return out
}

func text[T fmt.Stringer](v *T) string {
	if v == nil {
		return ""
	}
	return (*v).String()
}

// note tells people what was made.
func (p public) note(c *cli.Call) {
	switch p.Kind {
	case "identity":
		c.Note("made identity %s", p.ID)
		c.Note("sign_pub     %s", p.SignPub)
	case "root":
		c.Note("made root of bus %s", p.BusID)
	}
	c.Note("fingerprint  %s", p.Fingerprint)
	if p.File == "-" {
		return
	}
	lock := "not locked"
	if p.Locked {
		lock = "locked with a passphrase"
	}
	c.Note("file         %s, %s", strings.TrimSpace(p.File), lock)
}
