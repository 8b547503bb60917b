package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// latest is the word for the last file of a room.
const latest = "latest"

func get(c *cli.Call) error {
	out := c.Path(flagOutput)
	if out == "-" && c.WantsJSON() {
		return cli.Usagef("--json and --%s -: standard output has room for one of them", flagOutput)
	}
	return with(c, func(cl *client.Client, r *client.Room) error {
		found, err := find(c, r, c.Arg(1))
		if err != nil {
			return err
		}
		ref := found.ref
		path := out
		if path == "" {
			if path, err = ownName(ref); err != nil {
				return err
			}
		}
		t := newTransfer(c, "fetching "+label(ref))
		opts := client.GetOptions{Force: c.Bool(flagForce), Progress: t.move}
		if path == "-" {
			err = cl.GetBlob(c.Context, ref, c.Stdout, opts)
		} else {
			err = cl.GetBlobFile(c.Context, ref, path, opts)
		}
		if err = t.end(c, err); err != nil {
			return hint(err)
		}
		if path == "-" {
			c.Note("wrote %s to standard output", size(ref.Size))
			return nil
		}
		c.Note("wrote %s, %s", path, size(ref.Size))
		if c.WantsJSON() {
			return c.JSON(gotFile{r.ID(), describe(ref), path})
		}
		return nil
	})
}

// hint says what helps where fetching fails.
func hint(err error) error {
	switch {
	case errors.Is(err, bus.ErrFileExists):
		return cli.WithHint(err, "write to another file with --%s FILE, or replace it with --%s", flagOutput, flagForce)
	case errors.Is(err, bus.ErrNotFound) && !errors.Is(err, os.ErrNotExist):
		return cli.WithHint(err, "the node does not have it any more; ask who sent it to put it again")
	}
	return err
}

// ownName is the file's own name, if it is one to use unasked: a file that
// hides, or that commands take for an option, is nobody else's to place here.
func ownName(ref client.BlobRef) (string, error) {
	if ref.Name == "" || strings.HasPrefix(ref.Name, ".") || strings.HasPrefix(ref.Name, "-") {
		return "", cli.WithHint(cli.Usagef("the file is called %q, which is no name to give it unasked", ref.Name), "add --%s FILE", flagOutput)
	}
	return ref.Name, nil
}

func label(ref client.BlobRef) string {
	if ref.Name != "" {
		return ref.Name
	}
	return ref.Hash.String()
}

// announced is a file and the message that tells of it.
type announced struct {
	ref client.BlobRef
	msg *client.Message
}

func (a announced) told() told {
	return told{describe(a.ref), a.msg.Sender, a.msg.Handle, a.msg.Sent.UTC()}
}

// scan hands over the files that messages of the room tell of, in their order.
func scan(c *cli.Call, r *client.Room, use func(announced)) error {
	work := c.Progress("reading "+string(r.Name()), 0)
	defer work.Close()
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	for m, err := range r.Messages(ctx, client.Stored) {
		if err != nil {
			if !goesOn(err) {
				return stored(r, err)
			}
			c.Warn("%s (%s)", err, bus.CodeOf(err))
			continue
		}
		work.Add(1)
		ref, ok, err := m.Blob()
		switch {
		case err != nil:
			c.Warn("message %d of %s tells of a file in a way that cannot be read: %s", m.Seq, m.Sender.Fingerprint(), err)
		case ok:
			use(announced{ref, m})
		}
	}
	return c.Context.Err()
}

// goesOn reports whether an iteration goes on after err.
func goesOn(err error) bool {
	if _, ok := errors.AsType[*client.GapError](err); ok {
		return true
	}
	_, ok := errors.AsType[*client.FrameError](err)
	return ok
}

// stored adds what to do about a room that stores nothing.
func stored(r *client.Room, err error) error {
	if errors.Is(err, bus.ErrPolicy) && !r.Policy().Persisted() {
		return cli.WithHint(err, "a live room keeps no messages that could be looked through; use a room that persists")
	}
	return err
}

// find returns the last file in the room that an argument names.
func find(c *cli.Call, r *client.Room, which string) (found announced, err error) {
	which = strings.TrimPrefix(which, "id:")
	err = scan(c, r, func(a announced) {
		if which == latest || matches(a.ref, which) {
			found = a
		}
	})
	if err == nil && found.msg == nil {
		err = cli.WithHint(bus.Errorf(bus.CodeNotFound, "find file: room %s tells of none called %q", r.Name(), which), "unibus blob ls %s", c.Arg(0))
	}
	if err != nil {
		return announced{}, fmt.Errorf("read room: %w", err)
	}
	return found, nil
}
