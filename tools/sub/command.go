package sub

import (
	"context"
	"errors"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/cli/show"
	"github.com/enmanuel/unibus/lib/client"
)

const (
	flagFrom    = "from"
	flagCount   = "count"
	flagIdle    = "idle"
	flagSenders = "senders"
)

const description = `Writes the body of each message to standard output, followed by a newline unless
the message has the header "unibus-eol: none", so that what "unibus pub" was
given comes out byte for byte. On a terminal, characters that could drive it are
escaped, and each message begins with its sender, as --senders has it elsewhere. A
message that tells of a file is the line "blob NAME SIZE HASH", and what was said
with it.

Messages of one sender's session come in the order they were sent. Ones that are
missing are reported on standard error, and so is what failed a check, of which
nothing is put out. With --json each message is an object on a line: body is
base64url without padding, text the same where it is UTF-8; so are the values of
headers.

ROOM is the name of a room that was made or accepted here, or the id of any room
of yours; an id that begins with a dash is written id:ID.

Exit status: 0 ended by Ctrl-C, SIGTERM, --count, --idle or the end of what is
stored; 1 failed; 2 wrong usage; 3 messages are missing; 4 denied, or removed
from the room; 5 the bus cannot be reached.`

// origins are the places reading can begin at.
var origins = map[string]client.Origin{
	"now":    client.Now,
	"start":  client.Start,
	"stored": client.Stored,
}

// Command returns the command sub.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "sub",
		Usage:       "print what is sent to a room",
		ArgsUsage:   "ROOM",
		Description: description,
		UsageText: `unibus sub lobby
unibus sub lobby --from stored > lobby.txt
unibus sub lobby --json --count 10 | jq .text`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagFrom, Value: "now", Usage: "begin at `now|start|stored`: start is the first message there is, stored the same, and ends after what is stored"},
			&cli.Int64Flag{Name: flagCount, Aliases: []string{"n"}, DefaultText: "no limit", Usage: "end after `N` messages"},
			&cli.DurationFlag{Name: flagIdle, DefaultText: "never", Usage: "end when nothing came for this `TIME`"},
			&cli.BoolFlag{Name: flagSenders, DefaultText: "on a terminal", Usage: "put the sender's handle, or fingerprint, in front of each message, and a newline behind it"},
		},
		BashComplete: cli.Complete(connect.Candidates),
		Action:       cli.Action(run),
	}
}

func run(c *cli.Call) (err error) {
	from, ok := origins[c.String(flagFrom)]
	if !ok {
		return cli.Usagef("--%s %q: want now, start or stored", flagFrom, c.String(flagFrom))
	}
	o := options{count: c.Int64(flagCount), idle: c.Duration(flagIdle)}
	switch {
	case o.count < 0 || o.count == 0 && c.Source(flagCount) != "default":
		return cli.Usagef("--%s %d: want at least 1", flagCount, o.count)
	case o.idle < 0 || o.idle == 0 && c.Source(flagIdle) != "default":
		return cli.Usagef("--%s %s: want more than 0", flagIdle, o.idle)
	}
	senders := c.Bool(flagSenders)
	if c.Source(flagSenders) == "default" {
		senders = cli.IsTerminal(c.Env.Stdout)
	}
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connect.Close(cl)) }()
	r, err := connect.Room(c.Context, cl, c.Arg(0))
	if err != nil {
		return err
	}
	if from != client.Now && !r.Policy().Persisted() {
		return cli.Usagef("--%s %s: %s is a live room, which stores nothing", flagFrom, c.String(flagFrom), r.Name())
	}
	// Ends the iteration in every case, also if it is not used up.
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	messages := r.Messages(ctx, from)
	if r.Role().Valid() { // whoever was removed hears of that at once
		c.Note("reading %s from %s", r.Name(), c.String(flagFrom))
		if first := r.ReadableFrom(); first > 0 && from != client.Now {
			c.Note("messages before epoch %d are not for you: the room does not share its history with who came later", first)
		}
	}
	return read(ctx, messages, show.New(c, senders), c.Warn, o)
}
