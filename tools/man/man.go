// Package man is the command that prints manual pages, made from the same
// declarations as help. Only the dispatcher has it.
package man

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/enmanuel/unibus/lib/cli"
)

// Command returns the command "man".
func Command() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "print a manual page, or write all of them",
		ArgsUsage: "[COMMAND...]",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "dir", Usage: "write the pages of the program and of every command into `DIR`, which must exist"},
		},
		UsageText: "unibus man room invite | man -l -\nunibus man --dir /usr/local/share/man/man1",
		Action:    cli.Action(run),
	}
}

func run(c *cli.Call) error {
	dir := c.Path("dir")
	if dir == "" {
		page, err := c.ManualPage(c.Args().Slice()...)
		if err != nil {
			return err
		}
		c.Printf("%s", page)
		return nil
	}
	if c.NArg() > 0 {
		return cli.Usagef("--dir writes every page; leave %q away", strings.Join(c.Args().Slice(), " "))
	}
	return write(c, dir, c.Program(), nil)
}

// write writes the page of a command and those of the commands below it.
func write(c *cli.Call, dir string, cmd *cli.Command, path []string) error {
	page, err := c.ManualPage(path...)
	if err != nil {
		return err
	}
	name := strings.Join(append([]string{c.Program().Name}, path...), "-") + ".1"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(page), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	c.Detail("wrote %s", name)
	for _, sub := range cmd.Subcommands {
		if sub.Hidden {
			continue
		}
		if err := write(c, dir, sub, append(append([]string{}, path...), sub.Name)); err != nil {
			return err
		}
	}
	return nil
}
