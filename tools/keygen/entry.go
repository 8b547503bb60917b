package keygen

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

const (
	flagFrom = "from"
	flagAll  = "all"

	entryDays    = 365
	maxEntryDays = 3660

	// maxList bounds the list of accounts that is read: some 600 bytes each.
	maxList = 256 << 20
)

func entryCommand() *cli.Command {
	return &cli.Command{
		Name:      "entry",
		Usage:     "sign with the bus root whose a handle is",
		ArgsUsage: "[HANDLE] [SIGN_PUB]",
		Description: "A handle with an entry resolves with the authority of the bus root; one without is\n" +
			"the server's word when somebody first asks. Signing needs no network: carry the\n" +
			"file to where the bus is reached and hand it in with `unibus usermgr entry FILE`.\n\n" +
			"With --from it signs for many accounts at once: those in the output of\n" +
			"`unibus usermgr list --json` that are active and have no entry, or one that ends\n" +
			"within 30 days; with --all for every active account. That list is the server's\n" +
			"word, so the handles and fingerprints are shown, and asked about, before the root\n" +
			"vouches for them.",
		UsageText: "unibus keygen entry --root bus.root alice 5f3a…e2 -o alice.entry\n" +
			"unibus usermgr list --json >list\nunibus keygen entry --root bus.root --from list -o entries",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: flagRoot, Required: true, Usage: "sign with the bus root `FILE`"},
			outFlag("the entries"),
			&cli.IntFlag{Name: flagDays, Value: entryDays, Usage: "let them be valid for `N` days"},
			&cli.PathFlag{Name: flagFrom, Usage: "sign for the accounts in the JSON `LIST`, or - for standard input"},
			&cli.BoolFlag{Name: flagAll, Usage: "with --from, also where an entry is good for longer"},
		},
		Action: cli.Action(makeEntries),
	}
}

// entriesMade is what --json prints.
type entriesMade struct {
	BusID   bus.BusID   `json:"bus_id"`
	File    string      `json:"file"`
	Entries []entryMade `json:"entries"`
}

type entryMade struct {
	Handle   bus.Handle `json:"handle"`
	ID       bus.ID     `json:"id"`
	Seq      uint64     `json:"seq"`
	NotAfter string     `json:"not_after"` // RFC 3339
}

func makeEntries(c *cli.Call) error {
	days := c.Int(flagDays)
	if days < 1 || days > maxEntryDays {
		return cli.Usagef("--days %d: want 1 to %d", days, maxEntryDays)
	}
	users, err := accountsToSign(c)
	if err != nil {
		return err
	}
	root, err := loadRoot(c, c.Path(flagRoot))
	if err != nil {
		return err
	}
	now := c.Env.Now().UTC().Truncate(time.Second)
	entries, err := entriesFor(root, users, now, now.Add(time.Duration(days)*24*time.Hour), c.Bool(flagAll))
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		c.Note("every active account has an entry that is good for longer; --%s signs new ones", flagAll)
		return nil
	}
	for _, e := range entries {
		c.Note("%-20s %s", e.Handle, e.ID.Fingerprint())
	}
	if c.Path(flagFrom) != "" {
		if err := c.Confirm("have the root of bus %s say that these %d handles are theirs?", root.BusID().Fingerprint(), len(entries)); err != nil {
			return err
		}
	}
	var said public
	create := func(path string) error { return identity.CreateEntries(path, entries) }
	if err := give(c, &said, identity.MarshalEntries(entries), create); err != nil {
		return err
	}
	what := "1 entry"
	if len(entries) > 1 {
		what = fmt.Sprintf("%d entries", len(entries))
	}
	c.Note("signed %s of bus %s, valid until %s", what, root.BusID(), entries[0].NotAfter.Format(time.RFC3339))
	if said.File != "" {
		c.Note("hand them in with: unibus usermgr entry %s", said.File)
	}
	if !c.WantsJSON() {
		return nil
	}
	made := entriesMade{BusID: root.BusID(), File: said.File}
	for _, e := range entries {
		made.Entries = append(made.Entries, entryMade{e.Handle, e.ID, e.Seq, e.NotAfter.Format(time.RFC3339)})
	}
	return c.JSON(made)
}

// accountsToSign are those that the arguments, or the list, name.
func accountsToSign(c *cli.Call) ([]api.User, error) {
	from := c.Path(flagFrom)
	switch {
	case from != "" && c.Arg(0) != "":
		return nil, cli.Usagef("HANDLE and --%s exclude each other", flagFrom)
	case from != "":
		return readAccounts(c, from)
	case c.Arg(1) == "":
		return nil, cli.Usagef("give HANDLE and SIGN_PUB, or --%s LIST", flagFrom)
	}
	handle, err := bus.ParseHandle(c.Arg(0))
	if err != nil {
		return nil, cli.BadArg("HANDLE", err)
	}
	key, err := bus.ParseSignPub(c.Arg(1))
	if err != nil {
		return nil, cli.BadArg("SIGN_PUB", err)
	}
	return []api.User{{Handle: handle, SignPub: key, ID: identity.IDOf(key), Status: bus.UserActive}}, nil
}

// readAccounts reads the list of accounts that usermgr prints.
func readAccounts(c *cli.Call, from string) ([]api.User, error) {
	in := c.Env.Stdin
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return nil, fmt.Errorf("read list of accounts: %w", err)
		}
		defer f.Close()
		in = f
	}
	var list struct {
		V     int        `json:"v"`
		Users []api.User `json:"users"`
	}
	if err := json.NewDecoder(io.LimitReader(in, maxList)).Decode(&list); err != nil {
		return nil, cli.WithHint(bus.Errorf(bus.CodeMalformed, "read list of accounts: %w", err), "unibus usermgr list --json >LIST")
	}
	if list.V != 1 || list.Users == nil {
		return nil, cli.WithHint(bus.Errorf(bus.CodeMalformed, "read list of accounts: it is not what usermgr list --json prints"), "unibus usermgr list --json >LIST")
	}
	for _, u := range list.Users {
		if _, err := bus.ParseHandle(string(u.Handle)); err != nil {
			return nil, fmt.Errorf("read list of accounts: %w", err)
		}
	}
	return list.Users, nil
}

// entriesFor signs for active accounts, and only for those that need it soon
// unless all are wanted.
func entriesFor(root *identity.Root, users []api.User, now, until time.Time, all bool) ([]identity.SignedEntry, error) {
	var entries []identity.SignedEntry
	for _, u := range users {
		id := identity.IDOf(u.SignPub)
		if u.Status != bus.UserActive {
			continue
		}
		// Numbers only have to grow, so the time is one that needs no memory.
		e := identity.Entry{BusID: root.BusID(), Handle: u.Handle, ID: id, Seq: uint64(now.Unix()), NotAfter: until}
		if old, err := identity.ParseEntry(u.Entry, root.BusID()); err == nil {
			if !all && old.ID == id && old.NotAfter.After(now.Add(bus.EntryWarning)) {
				continue
			}
			e.Seq = max(e.Seq, old.Seq+1)
		}
		raw, err := root.SignEntry(e)
		if err != nil {
			return nil, err
		}
		entries = append(entries, identity.SignedEntry{Entry: e, Raw: raw})
	}
	return entries, nil
}
