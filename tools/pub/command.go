package pub

import (
	"context"
	"fmt"
	"io"
	"os"

	ucli "github.com/urfave/cli/v2"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
)

const (
	flagWhole  = "whole"
	flagHeader = "header"
)

const description = `Sends each line of standard input, or of the files in their order, as a message;
- is standard input. A message is the line without its newline, byte for byte,
whatever the bytes. What is not a whole line, such as the end of a file without
a newline or a part of a line longer than 240 KiB, is marked with the header
"unibus-eol: none", so that "unibus sub" puts out exactly what went in here.

ROOM is the name of a room that was made or accepted here, or the id of any room
of yours; an id that begins with a dash is written id:ID.

The first message that is refused, or of which nobody can tell what became of
it, ends the command; what was taken in before is accounted for. Ctrl-C stops
reading and waits up to 5 s for what is on its way.

Exit status: 0 everything was acknowledged; 1 failed; 2 wrong usage; 3 some
messages were refused, or their outcome is unknown; 4 denied, nothing was sent;
5 the bus cannot be reached; 130 ended by Ctrl-C, everything taken in before was
acknowledged.`

// Command returns the command pub.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "pub",
		Usage:       "send lines or files to a room",
		ArgsUsage:   "ROOM [FILE...]",
		Description: description,
		UsageText: `echo hello | unibus pub lobby
tail -f /var/log/syslog | unibus pub logs --header host=n1
unibus pub reports --whole january.pdf february.pdf`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: flagWhole, Usage: "send each file, or all of standard input, as one message"},
			&ucli.GenericFlag{Name: flagHeader, Value: &headerValues{}, Usage: "put the header `KEY=VALUE` on every message; may be repeated"},
		},
		BashComplete: cli.Complete(connect.Candidates),
		Action:       cli.Action(run),
	}
}

func run(c *cli.Call) error {
	headers, err := parseHeaders(*c.Generic(flagHeader).(*headerValues))
	if err != nil {
		return err
	}
	in, err := openInputs(c)
	if err != nil {
		return err
	}
	defer in.close()
	ctx := c.Context
	cl, err := connect.Dial(ctx, c)
	if err != nil {
		return err
	}
	defer abandon(cl)
	r, err := connect.Room(ctx, cl, c.Arg(0))
	if err != nil {
		return err
	}
	work := c.ProgressBytes("sending", in.size)
	t, sendErr := send(ctx, r, in, headers, work.Add)
	work.Close()
	c.Note("%s", t)
	if c.WantsJSON() {
		if err := c.JSON(t.result(r)); err != nil {
			return err
		}
	}
	return sendErr
}

// abandon ends a client at once. By then every message has been accounted for,
// so that nothing it says of them is news.
func abandon(cl *client.Client) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = cl.Close(ended)
}

// inputs are the streams to send, opened before anything is sent.
type inputs struct {
	whole bool
	files []input
	size  int64 // of all together, 0 if not known
}

type input struct {
	name string
	io.ReadCloser
}

// openInputs opens standard input or the files that are named.
func openInputs(c *cli.Call) (in *inputs, err error) {
	in = &inputs{whole: c.Bool(flagWhole)}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	names := c.Args().Slice()[1:]
	if len(names) == 0 {
		names = []string{"-"}
	}
	known, stdin := true, false
	for _, name := range names {
		if name == "-" {
			if stdin {
				return in, cli.Usagef("FILE: standard input is named twice")
			}
			stdin, known = true, false
			in.files = append(in.files, input{"standard input", io.NopCloser(c.Env.Stdin)})
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return in, fmt.Errorf("open input: %w", err)
		}
		in.files = append(in.files, input{name, f})
		info, err := f.Stat()
		switch {
		case err != nil:
			return in, fmt.Errorf("open input: %w", err)
		case info.IsDir():
			return in, cli.Usagef("FILE: %q is a directory", name)
		}
		known = known && info.Mode().IsRegular()
		in.size += info.Size()
	}
	if !known {
		in.size = 0
	}
	return in, nil
}

// close closes all files. They were only read, so that no error matters.
func (in *inputs) close() {
	for _, f := range in.files {
		f.Close()
	}
}
