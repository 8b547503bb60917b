package demo

import (
	"github.com/enmanuel/unibus/lib/cli"
)

const description = `Starts a bus in this process, in a temporary directory and on free ports of the
loopback interface: a bus root, an admin, the members alice and bob, and a
persisted room. They talk through it for real. Prints side by side what they
read and what the node stored, looks for every line they said in every file of
the node, then removes bob and shows what the next message is to him.

Nothing outside the temporary directory is read or written, and it is removed
at the end, except with --keep.

Exit status: 0 it went as it should; 1 it did not.`

// Command returns the command demo.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "demo",
		Usage:       "run a whole bus in this process, and show what its server saw",
		Description: description,
		UsageText:   "unibus demo\nunibus demo --keep",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep", Usage: "leave the directory where it is, and say where"},
		},
		Action: cli.Action(run),
	}
}
