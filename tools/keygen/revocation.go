package keygen

import (
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

const (
	flagOut  = "out"
	flagRoot = "root"
)

func outFlag(what string) cli.Flag {
	return &cli.PathFlag{Name: flagOut, Aliases: []string{"o"}, Required: true, Usage: "write " + what + " to the new `FILE`, or - for standard output"}
}

func revocationCommand() *cli.Command {
	return &cli.Command{
		Name:      "revocation",
		Usage:     "sign in advance that a key is no longer to be believed",
		ArgsUsage: "[WHAT]",
		Description: "WHAT is an identity file, else that of the context: the identity signs that its own\n" +
			"key is stolen or lost, on every bus. With --root it is a sign_pub of 64 hexadecimal\n" +
			"characters, and the root signs it for its bus.\n\n" +
			"Make one for every identity on the day the identity is made, and keep it apart from\n" +
			"it and offline, on paper if need be. When it is time, anybody who has the file and\n" +
			"reaches the bus hands it in, without being an administrator:\n" +
			"unibus usermgr revoke --signed FILE\n\n" +
			"Members verify it themselves. It holds for good: there is no way back, and whoever\n" +
			"finds the file can end the account.",
		UsageText: "unibus keygen revocation alice.id -o alice.revocation\n" +
			"unibus keygen revocation --root bus.root 5f3a…e2 -o alice.revocation",
		Flags: []cli.Flag{
			outFlag("the revocation"),
			&cli.PathFlag{Name: flagRoot, Usage: "sign with the bus root `FILE`, in the name of the bus"},
		},
		Action: cli.Action(makeRevocation),
	}
}

func makeRevocation(c *cli.Call) error {
	r, err := signRevocation(c)
	if err != nil {
		return err
	}
	said := publicOfRevocation(r)
	if err := give(c, &said, r.Marshal(), r.Create); err != nil {
		return err
	}
	c.Note("signed that %s is revoked, for good", said.ID)
	c.Note("fingerprint  %s", said.Fingerprint)
	if said.File != "" {
		c.Note("file         %s: keep it offline; whoever has it ends the account with: unibus usermgr revoke --signed FILE", said.File)
	}
	if c.WantsJSON() {
		return c.JSON(said)
	}
	return nil
}

func signRevocation(c *cli.Call) (identity.Revocation, error) {
	file := c.Path(flagRoot)
	if file == "" {
		cfg, err := configFor(c, cli.NeedIdentity)
		if err != nil {
			return identity.Revocation{}, err
		}
		opened := opener{call: c, file: cfg.Identity}
		id, err := identity.Load(cfg.Identity, opened.passphrase)
		if err != nil {
			return identity.Revocation{}, err
		}
		return id.Revocation(), nil
	}
	key, err := bus.ParseSignPub(c.Arg(0))
	if err != nil {
		return identity.Revocation{}, cli.BadArg("WHAT", err)
	}
	root, err := loadRoot(c, file)
	if err != nil {
		return identity.Revocation{}, err
	}
	return root.Revocation(key)
}

func loadRoot(c *cli.Call, file string) (*identity.Root, error) {
	opened := opener{call: c, file: file}
	return identity.LoadRoot(file, opened.passphrase)
}

// give writes a text to the file of --out with create, or to standard output for
// "-", and notes the file in said.
func give(c *cli.Call, said *public, text []byte, create func(path string) error) error {
	out := c.Path(flagOut)
	if out != "-" {
		said.File = out
		return create(out)
	}
	if c.WantsJSON() {
		return cli.Usagef("with --json standard output is taken; name a file")
	}
	_, err := c.Stdout.Write(text)
	return err
}

func publicOfRevocation(r identity.Revocation) public {
	id, pub := r.ID(), r.SignPub
	said := public{Kind: "revocation", SignPub: &pub, ID: &id, Fingerprint: id.Fingerprint()}
	if !r.BySelf() {
		b := r.BusID
		said.BusID = &b
	}
	return said
}
