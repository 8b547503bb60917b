package about

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/enmanuel/unibus/lib/cli"
)

// Man returns the command "man" of a program.
func Man(program string) *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "print a manual page, or write all of them",
		ArgsUsage: "[COMMAND...]",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "dir", Usage: "write the pages of the program and of every command into `DIR`, which must exist"},
		},
		UsageText: program + " man | man -l -\n" + program + " man --dir /usr/local/share/man/man1",
		Action:    cli.Action(manual),
	}
}

func manual(c *cli.Call) error {
	dir := c.Path("dir")
	if dir == "" {
		page, err := c.ManualPage(c.Args().Slice()...)
		if err != nil {
			return err
		}
		if c.WantsJSON() {
			return c.JSON(struct {
				Name string `json:"name"`
				Page string `json:"page"`
			}{strings.Join(append([]string{c.Program().Name}, c.Args().Slice()...), "-"), page})
		}
		c.Printf("%s", page)
		return nil
	}
	if c.NArg() > 0 {
		return cli.Usagef("--dir writes every page; leave %q away", strings.Join(c.Args().Slice(), " "))
	}
	return writePages(c, dir, c.Program(), nil)
}

// writePages writes the page of a command and those of the commands below it.
func writePages(c *cli.Call, dir string, cmd *cli.Command, path []string) error {
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
		if err := writePages(c, dir, sub, append(append([]string{}, path...), sub.Name)); err != nil {
			return err
		}
	}
	return nil
}
