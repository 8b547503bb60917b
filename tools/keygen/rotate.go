package keygen

import (
	"context"
	"fmt"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
)

func rotateCommand() *cli.Command {
	return &cli.Command{
		Name:      "rotate",
		Usage:     "give an identity a new key to seal to, now",
		ArgsUsage: "[FILE]",
		Description: "Adds a key to the identity file, publishes a card with it on the bus of the context,\n" +
			"and seals the keys of all rooms again, to the new card. Clients do so on their own\n" +
			"when half of a card's life is over. FILE is the identity, else that of the context.\n" +
			"Clients of the identity may run meanwhile.\n\n" +
			"The older keys stay in the file until `unibus keygen prune`. The signing key never\n" +
			"changes: if that was stolen, revoke the identity and make another.",
		UsageText: "unibus keygen rotate",
		Action: cli.Action(func(c *cli.Call) error {
			return withKeys(c, "rotating", func(ctx context.Context, cl *client.Client, done *rotated) (err error) {
				if err := cl.RenewCard(ctx); err != nil {
					return err
				}
				done.Resealed, err = cl.Reseal(ctx)
				return err
			})
		}),
	}
}

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:      "prune",
		Usage:     "drop the older keys of an identity once nothing needs them",
		ArgsUsage: "[FILE]",
		Description: "Seals the keys of all rooms again to the newest card, where that is not done yet,\n" +
			"reads each back with the newest key alone, and only then takes the older keys out\n" +
			"of the identity file, in one step. If anything fails nothing is dropped. Whoever\n" +
			"steals the file later cannot open what was sealed to those keys and is not kept.\n\n" +
			"An identity has the same keys on every bus. Buses that it was used on from this\n" +
			"machine are checked: run `unibus --context OTHER keygen rotate` for each first. What\n" +
			"other machines use it for cannot be known here. Older copies of the file, backups\n" +
			"among them, still have the keys.",
		UsageText: "unibus keygen prune",
		Action: cli.Action(func(c *cli.Call) error {
			if err := c.Confirm("drop the older keys? what is sealed to them on a bus that was not used from this machine is lost"); err != nil {
				return err
			}
			return withKeys(c, "pruning", func(ctx context.Context, cl *client.Client, done *rotated) (err error) {
				done.Dropped, done.Resealed, err = cl.DropOldKeys(ctx)
				return err
			})
		}),
	}
}

// rotated is what both commands did.
type rotated struct {
	client.Resealed
	Dropped int
}

// rotatedJSON is what --json prints.
type rotatedJSON struct {
	File     string   `json:"file"`
	CardSeq  uint64   `json:"card_seq"`
	KEMCards []uint64 `json:"kem_cards"` // numbers of the cards whose keys are in the file
	Rooms    int      `json:"rooms"`
	Epochs   int      `json:"epochs"` // whose keys have a copy of their own
	Sealed   int      `json:"sealed"` // of these, copies made now
	Dropped  int      `json:"dropped"`
}

// withKeys connects as the identity of the first argument or the context, lets
// work on its keys, and says what came of it.
func withKeys(c *cli.Call, label string, work func(context.Context, *client.Client, *rotated) error) error {
	cfg, err := configFor(c, cli.NeedServers, cli.NeedURLs, cli.NeedBusID, cli.NeedIdentity)
	if err != nil {
		return err
	}
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return err
	}
	var done rotated
	progress := c.Progress(label, 0)
	err = work(c.Context, cl, &done)
	progress.Close()
	if closeErr := connect.Close(cl); err == nil && closeErr != nil {
		err = fmt.Errorf("close: %w", closeErr)
	}
	if err != nil {
		return err
	}
	id, err := connect.Identity(c, cfg)
	if err != nil {
		return err
	}
	said := rotatedJSON{
		File: cfg.Identity, CardSeq: id.LatestKEM().CardSeq, KEMCards: cardNumbers(id),
		Rooms: done.Rooms, Epochs: done.Epochs, Sealed: done.Made, Dropped: done.Dropped,
	}
	if c.WantsJSON() {
		return c.JSON(said)
	}
	c.Note("card %d is the newest; rooms whose keys it opens: %d; keys sealed again now: %d", said.CardSeq, said.Rooms, said.Sealed)
	switch older := len(said.KEMCards) - 1; {
	case said.Dropped > 0:
		c.Note("older keys dropped from %s: %d", said.File, said.Dropped)
	case older > 0:
		c.Note("older keys still in %s: %d; to drop them: %s", said.File, older, pruneLine(c))
	}
	return nil
}

// pruneLine is the command that drops the older keys of the identity that was
// just rotated, on the same bus.
func pruneLine(c *cli.Call) string {
	line := "unibus keygen prune"
	if file := c.Arg(0); file != "" {
		line += " " + file
	}
	return c.Carry(line)
}
