package blob

import (
	"context"
	"errors"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
)

const (
	flagName    = "name"
	flagMedia   = "media"
	flagMessage = "message"
	flagOutput  = "output"
	flagForce   = "force"
)

const description = `Files of any size go through a room sealed: the servers keep what they cannot
read, and a message of the room says what it is and holds the key. Whoever can
read the message can get the file.

A transfer that was interrupted, by Ctrl-C, a lost connection or the end of the
process, goes on where it was when the same command is run again within a week.
The node takes files of up to 64 MiB unless it is set up otherwise.

ROOM is the name of a room that was made or accepted here, or the id of any room
of yours; an id that begins with a dash is written id:ID.

WHICH names a file in the room: latest, or its hash, or its name, where the last
one of that name counts; a hash that begins with a dash is written id:HASH.`

const exits = `

Exit status: 0 done; 1 failed; 2 wrong usage; 3 some files were sent and others
not, or it is not known; 4 denied; 5 the bus cannot be reached; 130 ended by
Ctrl-C.`

// Command returns the command blob.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "blob",
		Usage:       "send files through a room, and fetch them",
		Description: description,
		Subcommands: []*cli.Command{putCommand(), getCommand(), listCommand(), statCommand(), removeCommand()},
	}
}

func putCommand() *cli.Command {
	return &cli.Command{
		Name:      "put",
		Usage:     "send files to a room",
		ArgsUsage: "ROOM FILE...",
		Description: `Seals each file, uploads it and tells the room of it; - is standard input. The
hash by which others can name the file goes to standard output.

Run again after an interruption it sends only what the node does not have: the
sealed file is kept in $XDG_STATE_HOME/unibus until it was sent.` + exits,
		UsageText: `unibus blob put lobby report.pdf
tar cz logs | unibus blob put lobby - --name logs.tar.gz
unibus blob put lobby *.jpg --message "from the site"`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagName, DefaultText: "the file's, without directories", Usage: "tell others that the one file is called `NAME`"},
			&cli.StringFlag{Name: flagMedia, DefaultText: "by the name's ending", Usage: "say that it is of media `TYPE`, such as image/png"},
			&cli.StringFlag{Name: flagMessage, Aliases: []string{"m"}, Usage: "send `TEXT` with it"},
		},
		BashComplete: cli.Complete(connect.Candidates),
		Action:       cli.Action(put),
	}
}

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "fetch a file from a room",
		ArgsUsage: "ROOM WHICH",
		Description: `Fetches the file, checks it from end to end, and only then gives it its name; it
never replaces a file without --force. Without --output the name is the one that
its sender gave it, in the current directory.` + exits,
		UsageText: `unibus blob get lobby latest
unibus blob get lobby report.pdf --output january.pdf
unibus blob get lobby logs.tar.gz -o - | tar tz`,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: flagOutput, Aliases: []string{"o"}, DefaultText: "its own name", Usage: "write it to `FILE`; - is standard output"},
			&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "replace the file if it exists"},
		},
		BashComplete: cli.Complete(connect.Candidates),
		Action:       cli.Action(get),
	}
}

func listCommand() *cli.Command {
	return &cli.Command{
		Name:         "ls",
		Usage:        "list the files in a room",
		ArgsUsage:    "ROOM",
		UsageText:    "unibus blob ls lobby",
		Description:  "Lists the files that messages of the room tell of, as far back as you can read." + exits,
		BashComplete: cli.Complete(connect.Candidates),
		Action:       cli.Action(list),
	}
}

func statCommand() *cli.Command {
	return &cli.Command{
		Name:         "stat",
		Usage:        "tell about a file in a room, and whether the node has it",
		ArgsUsage:    "ROOM WHICH",
		UsageText:    "unibus blob stat lobby latest",
		Description:  "Says what the message says, and asks the node how much it has of the file." + exits,
		BashComplete: cli.Complete(connect.Candidates),
		Action:       cli.Action(stat),
	}
}

func removeCommand() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "have the node delete a file that you sent",
		ArgsUsage: "ROOM WHICH",
		UsageText: "unibus blob rm lobby report.pdf --yes",
		Description: `Nobody can fetch the file afterwards, and its bytes no longer count against your
quota. The message that tells of it stays in the room, and who has fetched the
file keeps it. Administrators of the bus can delete anybody's.` + exits,
		BashComplete: cli.Complete(connect.Candidates),
		Action:       cli.Action(remove),
	}
}

// with connects, opens the room of the first argument, and hands both to work.
func with(c *cli.Call, work func(cl *client.Client, r *client.Room) error) (err error) {
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connect.Close(cl)) }()
	r, err := connect.Room(c.Context, cl, c.Arg(0))
	if err != nil {
		return err
	}
	return work(cl, r)
}

// transfer shows how far something is on its way.
type transfer struct {
	work        *cli.Progress
	done, total int64
}

func newTransfer(c *cli.Call, label string) *transfer {
	return &transfer{work: c.ProgressBytes(label, 0)}
}

// move takes the news of the client.
func (t *transfer) move(done, total int64) {
	if t.total != total {
		t.total = total
		t.work.SetTotal(total)
	}
	if done > t.done {
		t.work.Add(done - t.done)
	}
	t.done = max(t.done, done)
}

// end turns the error of a transfer into what people need to know to go on.
func (t *transfer) end(c *cli.Call, err error) error {
	t.work.Close()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled) && c.Context.Err() != nil:
		if t.total > 0 {
			c.Note("interrupted after %s of %s; run the same command again to go on", size(t.done), size(t.total))
		} else {
			c.Note("interrupted; run the same command again")
		}
		return context.Canceled
	case errors.Is(err, bus.ErrUnavailable) && t.total > 0:
		return cli.WithHint(err, "run the same command again; it goes on after %s of %s", size(t.done), size(t.total))
	}
	return err
}
