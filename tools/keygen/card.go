package keygen

import (
	"encoding/base64"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

const flagDays = "days"

// maxDays is how long a card may live.
const maxDays = int(bus.MaxCardLife / (24 * time.Hour))

func cardCommand() *cli.Command {
	return &cli.Command{
		Name:      "card",
		Usage:     "make a card of an identity, to hand to others",
		ArgsUsage: "[FILE]",
		Description: "A card shows the public keys of an identity on one bus, signed by itself, so that\n" +
			"others can seal to it before it has ever been online. Clients make and renew\n" +
			"theirs on their own. FILE is the identity, else that of the context; --bus-id or\n" +
			"the context name the bus.\n\n" +
			"Each card has a key and a number of its own, so this adds to the identity file:\n" +
			"a key for the card and, so that no two cards ever carry one number, another for\n" +
			"the card that the client will make next. Clients of the identity may run meanwhile.\n\n" +
			"The card goes to standard output as one line of base64url.",
		UsageText: "unibus keygen card alice.id --bus-id ID >alice.card",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: flagDays, Value: maxDays, Usage: "let it be valid for `N` days"},
		},
		Action: cli.Action(makeCard),
	}
}

func makeCard(c *cli.Call) error {
	days := c.Int(flagDays)
	if days < 1 || days > maxDays {
		return cli.Usagef("--days %d: want 1 to %d", days, maxDays)
	}
	cfg, err := configFor(c, cli.NeedIdentity, cli.NeedBusID)
	if err != nil {
		return err
	}
	opened := opener{call: c, file: cfg.Identity}
	var card *identity.Card
	// The file first: a card whose key is lost would be worse than none.
	_, err = identity.Update(c.Context, cfg.Identity, opened.passphrase, func(id *identity.Identity) error {
		if _, err := id.AddKEM(c.Env.Rand); err != nil {
			return err
		}
		from := c.Env.Now().Truncate(time.Second)
		if card, err = identity.NewCard(id, cfg.BusID, from, from.Add(time.Duration(days)*24*time.Hour)); err != nil {
			return err
		}
		_, err := id.AddKEM(c.Env.Rand)
		return err
	})
	if err != nil {
		return err
	}
	said := publicOfCard(card)
	if c.WantsJSON() {
		return c.JSON(said)
	}
	c.Note("made card %d of %s", card.Seq, card.ID())
	c.Note("fingerprint  %s", said.Fingerprint)
	c.Note("bus          %s", card.BusID)
	c.Note("valid until  %s", said.NotAfter)
	c.Printf("%s\n", said.Card)
	return nil
}

func publicOfCard(card *identity.Card) public {
	id, hash := card.ID(), card.Hash()
	return public{
		Kind: "card", SignPub: &card.SignPub, ID: &id, BusID: &card.BusID, Fingerprint: id.Fingerprint(),
		TransportPub: &card.TransportPub, NKey: identity.EncodeNKey(card.TransportPub),
		CardSeq: card.Seq, CardHash: &hash,
		NotBefore: card.NotBefore.UTC().Format(time.RFC3339), NotAfter: card.NotAfter.UTC().Format(time.RFC3339),
		Card: base64.RawURLEncoding.EncodeToString(card.Bytes()),
	}
}

// configFor is the configuration in effect, with the identity that the first
// argument names, if there is one, as --identity would.
func configFor(c *cli.Call, needs ...cli.Need) (cli.Config, error) {
	if file := c.Arg(0); file != "" {
		if err := c.Set("identity", file); err != nil {
			return cli.Config{}, err
		}
	}
	return c.Config(needs...)
}

// opener asks for the passphrase of a file and remembers it, for writing the
// file again.
type opener struct {
	call *cli.Call
	file string
	used string // "" as long as none was needed
}

func (o *opener) passphrase() (string, error) {
	p, err := o.call.Passphrase(o.file)
	o.used = p
	return p, err
}
