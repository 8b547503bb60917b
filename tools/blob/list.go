package blob

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

func list(c *cli.Call) error {
	return with(c, func(_ *client.Client, r *client.Room) error {
		l := listing{Room: r.ID(), Blobs: []told{}}
		if err := scan(c, r, func(a announced) { l.Blobs = append(l.Blobs, a.told()) }); err != nil {
			return fmt.Errorf("read room: %w", err)
		}
		if c.WantsJSON() {
			return c.JSON(l)
		}
		rows := make([][]string, len(l.Blobs))
		for i, b := range l.Blobs {
			rows[i] = []string{b.Name, size(b.Size), b.Hash.String(), sender(b), b.Sent.Local().Format("2006-01-02 15:04 MST")}
		}
		c.Table([]string{"name", "size", "hash", "sender", "sent"}, rows)
		return nil
	})
}

func sender(t told) string {
	if t.Handle != "" {
		return string(t.Handle)
	}
	return t.Sender.Fingerprint()
}

func stat(c *cli.Call) error {
	return with(c, func(cl *client.Client, r *client.Room) error {
		found, err := find(c, r, c.Arg(1))
		if err != nil {
			return err
		}
		s := state{Room: r.ID(), told: found.told()}
		status, err := cl.StatBlob(c.Context, found.ref.Hash)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		s.Offset, s.Complete = status.Offset, err == nil && status.Complete
		if c.WantsJSON() {
			return c.JSON(s)
		}
		on := "complete"
		switch {
		case !s.Complete && s.Offset > 0:
			on = size(s.Offset) + " of it"
		case !s.Complete:
			on = "nothing of it"
		}
		for _, line := range [][2]string{
			{"name", s.Name}, {"media", s.Media}, {"size", strconv.FormatInt(s.Size, 10)}, {"sha256", s.SHA256},
			{"hash", s.Hash.String()}, {"sealed size", strconv.FormatInt(s.SealedSize, 10)},
			{"sender", sender(s.told)}, {"sent", s.Sent.Local().Format(time.RFC3339)}, {"the node has", on},
		} {
			if line[1] != "" {
				c.Printf("%-13s %s\n", line[0]+":", cli.Printable(line[1]))
			}
		}
		return nil
	})
}

func remove(c *cli.Call) error {
	return with(c, func(cl *client.Client, r *client.Room) error {
		found, err := find(c, r, c.Arg(1))
		if err != nil {
			return err
		}
		if err := c.Confirm("delete %s, %s, sent by %s?", label(found.ref), size(found.ref.Size), sender(found.told())); err != nil {
			return err
		}
		if err := cl.RemoveBlob(c.Context, found.ref.Hash); err != nil {
			return fmt.Errorf("remove %s: %w", label(found.ref), err)
		}
		c.Note("deleted %s", label(found.ref))
		if c.WantsJSON() {
			return c.JSON(removed{r.ID(), found.ref.Hash})
		}
		return nil
	})
}
