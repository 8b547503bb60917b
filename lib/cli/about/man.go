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
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of manual pages: %w", err)
	}
	pages, err := writePages(c, dir, c.Program(), nil)
	if err != nil {
		return err
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Dir   string   `json:"dir"`
			Pages []string `json:"pages"`
		}{dir, pages})
	}
	c.Note("wrote %d pages to %s", len(pages), dir)
	return nil
}

// writePages writes the page of a command and those of the commands below it,
// and returns the names of their files.
func writePages(c *cli.Call, dir string, cmd *cli.Command, path []string) ([]string, error) {
	page, err := c.ManualPage(path...)
	if err != nil {
		return nil, err
	}
	name := strings.Join(append([]string{c.Program().Name}, path...), "-") + ".1"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(page), 0o644); err != nil {
		return nil, fmt.Errorf("write manual page: %w", err)
	}
	c.Detail("wrote %s", name)
	written := []string{name}
	for _, sub := range cmd.Subcommands {
		if sub.Hidden {
			continue
		}
		below, err := writePages(c, dir, sub, append(append([]string{}, path...), sub.Name))
		if err != nil {
			return nil, err
		}
		written = append(written, below...)
	}
	return written, nil
}
