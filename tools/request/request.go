// Package request is the command request: it asks a room and prints the replies.
//
// Start with [Command]. What a request and a reply are is settled by package
// client ([client.Room.Request]); this package names whom to ask and for how long.
package request

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/cli/show"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

const (
	flagFrom  = "from"
	flagCount = "count"
	flagIn    = "in"
)

const description = `Sends BODY to the room as a request and writes the body of the reply to standard
output, followed by a newline unless the message has the header "unibus-eol:
none". Without BODY, or where it is -, standard input is sent as one message,
byte for byte. A reply is waited for as long as --timeout says.

Any member of the room who may write can reply; --from says whose reply counts.
With --count N the command ends after N replies, with --count 0 it prints those
that come in the time of --timeout. With --json each reply is an object on a line,
as "unibus sub --json" prints messages.

Exit status: 0 there were as many replies as asked for; 1 a reply says that the
request failed, which the error repeats; 2 wrong usage; 3 fewer replies came than
--count, or it is not known whether the request was stored; 4 denied; 5 nobody
replied, or the bus cannot be reached.`

// Command returns the command request.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "request",
		Usage:       "ask a room, and print the reply",
		ArgsUsage:   "ROOM [BODY]",
		Description: description,
		UsageText: `unibus request agent.scout "what is new?"
unibus request builds --timeout 5m - < job.json
unibus request sensors status --count 0 --timeout 3s --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagFrom, DefaultText: "anybody", Usage: "take replies of `WHO` only: a handle, an id or a signing key"},
			&cli.Int64Flag{Name: flagCount, Aliases: []string{"n"}, Value: 1, Usage: "end after `N` replies; 0 is all that come in time"},
			&cli.StringFlag{Name: flagIn, DefaultText: "the same", Usage: "replies come in `ROOM`"},
		},
		Action:       cli.Action(run),
		BashComplete: cli.Complete(connect.Candidates),
	}
}

func run(c *cli.Call) (err error) {
	count := c.Int64(flagCount)
	if count < 0 {
		return cli.Usagef("--%s %d: want 0 or more", flagCount, count)
	}
	cfg, err := c.Config()
	if err != nil {
		return err
	}
	body, err := bodyOf(c)
	if err != nil {
		return err
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
	opts := client.RequestOptions{}
	if name := c.String(flagIn); name != "" {
		if opts.In, err = connect.Room(c.Context, cl, name); err != nil {
			return err
		}
	}
	if opts.From, err = who(c.Context, cl, c.String(flagFrom)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, cfg.Timeout)
	defer cancel()
	work := c.Progress("waiting for a reply", 0)
	defer work.Close()
	out := show.New(c, count != 1 && cli.IsTerminal(c.Env.Stdout))
	return ask(ctx, r, body, opts, count, func(m *client.Message) error {
		work.Close()
		return errors.Join(out.Write(m), out.Flush())
	})
}

// ask sends the request and prints count replies, or all that come if it is 0.
func ask(ctx context.Context, r *client.Room, body []byte, opts client.RequestOptions, count int64, print func(*client.Message) error) error {
	var got int64
	var failed error
	for m, err := range r.RequestAll(ctx, body, opts) {
		if m == nil {
			return err
		}
		if failed == nil {
			failed = err
		}
		if err := print(m); err != nil {
			return err
		}
		if got++; got == count {
			break
		}
	}
	switch {
	case failed != nil:
		return failed
	case got < count && ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ctx.Err()
	case got < count:
		return cli.WithExit(bus.Errorf(bus.CodeNoReply, "request: %d of %d replies came", got, count), cli.ExitPartial)
	}
	return nil
}

// bodyOf returns the body of the request.
func bodyOf(c *cli.Call) ([]byte, error) {
	var in io.Reader = strings.NewReader(c.Arg(1))
	name := "BODY"
	if c.Args().Len() < 2 || c.Arg(1) == "-" {
		in, name = c.Env.Stdin, "standard input"
	}
	type read struct {
		body []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		body, err := show.ReadBody(in)
		done <- read{body, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("read %s: %w", name, r.err)
		}
		return r.body, nil
	case <-c.Context.Done(): // nothing wakes a read of a terminal
		return nil, c.Context.Err()
	}
}

// who returns the id of whom an argument names, zero for nobody.
func who(ctx context.Context, cl *client.Client, text string) (bus.ID, error) {
	if text == "" {
		return bus.ID{}, nil
	}
	if id, err := bus.ParseID(strings.TrimPrefix(text, "id:")); err == nil {
		return id, nil
	}
	if key, err := bus.ParseSignPub(text); err == nil {
		return identity.IDOf(key), nil
	}
	handle, err := bus.ParseHandle(text)
	if err != nil {
		return bus.ID{}, cli.Usagef("--%s %.80q: want a handle, an id or a signing key", flagFrom, text)
	}
	peer, err := cl.Resolve(ctx, handle)
	if errors.Is(err, bus.ErrNotFound) {
		return bus.ID{}, cli.WithHint(bus.Errorf(bus.CodeNotFound, "find %s: nobody on this bus has that handle", handle), "check the spelling; unibus room show ROOM lists the members")
	}
	return peer.ID, err
}
