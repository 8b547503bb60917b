package usermgr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

// readFile reads a small file, or standard input for "-".
func readFile(c *cli.Call, path string, limit int64) ([]byte, error) {
	in := c.Env.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, limit+1))
}

// revocationHandedIn is what --json prints of a signed revocation.
type revocationHandedIn struct {
	SignPub   bus.SignPub `json:"sign_pub"`
	ID        bus.ID      `json:"id"`
	RevokedBy string      `json:"revoked_by"` // "self" or "root"
	Reached   *reach      `json:"reached,omitempty"`
}

func revokeSigned(c *cli.Call, file string) error {
	text, err := readFile(c, file, bus.MaxSecretFile)
	if err != nil {
		return fmt.Errorf("read revocation: %w", err)
	}
	r, err := identity.ParseRevocationText(text)
	if err != nil {
		return fmt.Errorf("read revocation %s: %w", file, err)
	}
	said := revocationHandedIn{SignPub: r.SignPub, ID: r.ID(), RevokedBy: "root"}
	if r.BySelf() {
		said.RevokedBy = "self"
	}
	if err := c.Confirm("revoke %s (%s) for good?", r.SignPub, said.ID.Fingerprint()); err != nil {
		return err
	}
	return through(c, openUnsigned, func(ctx context.Context, d door) error {
		if err := d.PutRevocation(ctx, r); err != nil {
			return fmt.Errorf("revoke %s: %w", said.ID.Fingerprint(), err)
		}
		said.Reached = reached(ctx, c, d, "revoked")
		if c.WantsJSON() {
			return c.JSON(said)
		}
		c.Printf("revoked %s, signed by %s\n", r.SignPub, map[string]string{"self": "the key itself", "root": "the bus root"}[said.RevokedBy])
		said.Reached.note(c)
		tellRooms(c, said.ID.String())
		return nil
	})
}

// entriesHandedIn is what --json prints of entries.
type entriesHandedIn struct {
	Stored  []entryHandedIn `json:"stored"`
	Reached *reach          `json:"reached,omitempty"`
}

type entryHandedIn struct {
	Handle bus.Handle `json:"handle"`
	ID     bus.ID     `json:"id"`
	Seq    uint64     `json:"seq"`
	Until  string     `json:"not_after"`
}

// putEntries stores what it can: one entry that is refused, such as that of a
// handle nobody has, keeps no other from being stored.
func putEntries(c *cli.Call) error {
	var entries []identity.SignedEntry
	for _, file := range c.Args().Slice() {
		text, err := readFile(c, file, bus.MaxEntriesFile)
		if err != nil {
			return fmt.Errorf("read entries: %w", err)
		}
		more, err := identity.ParseEntries(text)
		if err != nil {
			return fmt.Errorf("read entries %s: %w", file, err)
		}
		entries = append(entries, more...)
	}
	return with(c, func(ctx context.Context, d door) error {
		said := entriesHandedIn{Stored: []entryHandedIn{}}
		var refused []error
		work := c.Progress("storing entries", int64(len(entries)))
		defer work.Close()
		for _, e := range entries {
			if err := d.PutEntry(ctx, e.Handle, e.Raw); err != nil {
				refused = append(refused, fmt.Errorf("store entry of %s: %w", e.Handle, err))
				if ctx.Err() != nil {
					break
				}
				continue
			}
			work.Add(1)
			said.Stored = append(said.Stored, entryHandedIn{e.Handle, e.ID, e.Seq, e.NotAfter.UTC().Format(time.RFC3339)})
		}
		work.Close()
		if len(said.Stored) > 0 {
			said.Reached = reached(ctx, c, d, "stored")
		}
		if err := reportEntries(c, said); err != nil {
			return err
		}
		return errors.Join(refused...)
	})
}

func reportEntries(c *cli.Call, said entriesHandedIn) error {
	if c.WantsJSON() {
		return c.JSON(said)
	}
	for _, e := range said.Stored {
		c.Printf("%s is %s until %s\n", e.Handle, e.ID.Fingerprint(), e.Until)
	}
	said.Reached.note(c)
	return nil
}
