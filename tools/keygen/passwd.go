package keygen

import (
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

const (
	flagNewFile = "new-passphrase-file"
	flagRemove  = "remove"
)

func passwdCommand() *cli.Command {
	return &cli.Command{
		Name:      "passwd",
		Usage:     "change, set or remove the passphrase of an identity or root",
		ArgsUsage: "[FILE]",
		Description: "FILE is an identity or a bus root, else the identity of the context. The file is\n" +
			"replaced in one step. With --passphrase-fd the first line is the old passphrase,\n" +
			"if there is one, and the next the new.\n\n" +
			"Old copies, backups among them, still open with the old passphrase.",
		UsageText: "unibus keygen passwd alice.id\nunibus keygen passwd alice.id --remove",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: flagNewFile, Usage: "read the new passphrase from the first line of `FILE`"},
			&cli.BoolFlag{Name: flagRemove, Usage: "leave the file without a passphrase"},
		},
		Action: cli.Action(passwd),
	}
}

func passwd(c *cli.Call) error {
	remove, newFile := c.Bool(flagRemove), c.Path(flagNewFile)
	if remove && newFile != "" {
		return cli.Usagef("--%s and --%s exclude each other", flagRemove, flagNewFile)
	}
	cfg, err := configFor(c, cli.NeedIdentity)
	if err != nil {
		return err
	}
	k, err := open(c, cfg.Identity)
	if err != nil {
		return err
	}
	if k.identity == nil && k.root == nil {
		return cli.Usagef("%s is a %s, and has no passphrase", cfg.Identity, k.card.Kind)
	}
	passphrase := ""
	if !remove {
		passphrase, err = c.ReplacingPassphrase(cfg.Identity, newFile)
		if err == nil && passphrase == "" {
			err = cli.WithHint(bus.Errorf(bus.CodePassphrase, "read passphrase: it is empty"), "%s %s --remove", c.CommandLine(), cfg.Identity)
		}
		if err != nil {
			return err
		}
	}
	if k.identity != nil {
		// Read again under the lock: a client may have added a key meanwhile.
		err = identity.ChangePassphrase(c.Context, cfg.Identity, func() (string, error) { return k.passphrase, nil }, passphrase)
	} else {
		err = k.root.Rewrite(cfg.Identity, passphrase)
	}
	if err != nil {
		return err
	}
	said := k.public()
	said.File, said.Locked = cfg.Identity, passphrase != ""
	if c.WantsJSON() {
		return c.JSON(said)
	}
	if said.Locked {
		c.Note("%s is locked with the new passphrase", cfg.Identity)
	} else {
		c.Note("%s has no passphrase now", cfg.Identity)
	}
	return nil
}
