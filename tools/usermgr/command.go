package usermgr

import (
	"context"
	"fmt"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/identity"
)

const (
	flagSocket = "socket"
	flagStore  = "store"
	flagRole   = "role"
	flagSigned = "signed"
)

const exitStatus = `
Exit status: 0 done; 1 failed, also when the account exists or there is none;
2 wrong usage; 3 nobody can tell whether it was done; 4 denied; 5 the node
cannot be reached or cannot serve.`

const description = `Adds, lists and revokes the accounts of a bus, in one of three ways:

  --socket PATH    through the local socket of a running node, as root or as the
                   node's own user; for the first accounts and on servers
  (neither)        through the control plane of the context, signed by its
                   identity, which must be an administrator of the bus
  --store URL      in the store of a node that is stopped: sqlite:///path

An account that exists is left as it is. Nobody is deleted: revoking marks the
account, cuts its connections and lets no new ones in.
` + exitStatus

// Command returns the command usermgr.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "usermgr",
		Usage:       "add, list, vouch for and revoke the accounts of a bus",
		Description: description,
		UsageText: `unibus usermgr list
unibus usermgr --socket /var/lib/unibus/control.sock add alice SIGN_PUB --role admin
unibus usermgr --store sqlite:///var/lib/unibus/unibus.db list --json`,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: flagSocket, Usage: "go through the local socket `PATH` of a node", EnvVars: []string{"UNIBUS_SOCKET"}},
			&cli.StringFlag{Name: flagStore, Usage: "go into the store `URL` of a stopped node"},
		},
		BashComplete: cli.Complete(connect.Candidates),
		Subcommands: []*cli.Command{
			{
				Name:      "add",
				Usage:     "add an account",
				ArgsUsage: "HANDLE SIGN_PUB",
				Description: `Adds an account: HANDLE is its name on the bus, SIGN_PUB the 64 hexadecimal
characters of the public key that its owner's keygen showed, or - to read them
from standard input. A handle or key that exists is an error and changes
nothing. Prints how far the write reached.
` + exitStatus,
				UsageText: `unibus usermgr add alice 5f3a…e2
ssh laptop cat alice.pub | unibus usermgr add alice - --role admin`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: flagRole, Value: string(bus.UserMember), Usage: "make it `member|admin` of the bus; it says nothing about rooms"},
				},
				Action: cli.Action(add),
			},
			{
				Name:    "list",
				Aliases: []string{"ls"},
				Usage:   "list all accounts",
				Description: `Lists all accounts, revoked ones too, sorted by handle. ENTRY is until when the
bus root vouches for the handle, PROOF who signed that the account is revoked:
without them both are the word of the server. Warns of entries that end within
30 days.
` + exitStatus,
				Action: cli.Action(list),
			},
			{
				Name:      "entry",
				Usage:     "hand in what the bus root signed about handles",
				ArgsUsage: "FILE...",
				Description: `Stores directory entries, which keygen entry has signed with the bus root, from
files, or - for standard input. From then on those handles resolve with the
authority of the root. An entry that is stored already changes nothing; one that
is older than what is stored is refused.
` + exitStatus,
				UsageText: "unibus usermgr entry entries\nunibus usermgr --socket /var/lib/unibus/control.sock entry entries",
				Action:    cli.Action(putEntries),
			},
			{
				Name:      "revoke",
				Usage:     "end an account",
				ArgsUsage: "[WHO]",
				Description: `Ends the account WHO, a handle or a key of 64 hexadecimal characters. It cannot
be undone: somebody who is to come back is added with a new identity. The last
admin of a bus is revoked with --yes only: after that only the local socket can
add one.

With --signed it hands in a revocation that keygen revocation has signed, and
needs no administrator and no identity: it proves itself, to members too.

Rooms keep a revoked member until an admin of the room removes it:
unibus room remove ROOM WHO
` + exitStatus,
				UsageText: "unibus usermgr revoke alice\nunibus usermgr revoke --signed alice.revocation --url https://n1.example:8443",
				Flags: []cli.Flag{
					&cli.PathFlag{Name: flagSigned, Usage: "hand in the signed revocation in `FILE`"},
				},
				Action: cli.Action(revoke),
			},
			auditCommand(),
		},
	}
}

// door is a way to the accounts of a bus.
type door interface {
	// Add makes an account. One that exists is [bus.CodeExists].
	Add(ctx context.Context, u api.AddUser) (api.User, error)
	// Users returns all accounts.
	Users(ctx context.Context) ([]api.User, error)
	// Revoke ends an account. [bus.CodeNotFound] if there is none.
	Revoke(ctx context.Context, key bus.SignPub) (api.User, error)
	// PutEntry stores the signed entry of a handle.
	PutEntry(ctx context.Context, h bus.Handle, raw []byte) error
	// PutRevocation hands in a signed revocation.
	PutRevocation(ctx context.Context, r identity.Revocation) error
	// Reach tells how far the writes before it got.
	Reach(ctx context.Context) (reach, error)
	Close() error
}

// open opens the door that the flags choose.
func open(c *cli.Call) (door, error) { return openBy(c, openRemote) }

// openBy is open, with the way in that is left where no flag chooses another.
func openBy(c *cli.Call, remote func(*cli.Call) (door, error)) (door, error) {
	socket, store := c.Path(flagSocket), c.String(flagStore)
	switch {
	case store != "" && c.Source(flagSocket) == "flag":
		return nil, cli.Usagef("--%s and --%s are two ways to do the same; give one", flagSocket, flagStore)
	case store != "":
		return openStore(c, store)
	case socket != "" && c.Source("url") == "flag" && c.Source(flagSocket) == "flag":
		return nil, cli.Usagef("--%s and --url are two ways to do the same; give one", flagSocket)
	case socket != "" && c.Source("url") != "flag":
		return openSocket(c, socket)
	}
	return remote(c)
}

// with runs f with the door that the flags choose.
func with(c *cli.Call, f func(ctx context.Context, d door) error) error {
	return through(c, open, f)
}

// through runs f with a door.
func through(c *cli.Call, open func(*cli.Call) (door, error), f func(ctx context.Context, d door) error) (err error) {
	d, err := open(c)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := d.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close: %w", closeErr)
		}
	}()
	return f(c.Context, d)
}
