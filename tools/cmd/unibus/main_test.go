package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ucli "github.com/urfave/cli/v2"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/clitest"
)

func TestMain(m *testing.M) {
	mains := map[string]func() int{
		"unibus": func() int { return program().Main() },
		"unibus-plug": func() int {
			fmt.Printf("%q\n", os.Args)
			return 7
		},
	}
	for _, cmd := range commands() {
		mains["unibus-"+cmd.Name] = func() int { return cli.Main(cmd) }
	}
	clitest.Main(m, mains)
}

func TestScripts(t *testing.T) { clitest.Run(t, clitest.Params{}) }

// walk calls f for every command of the program with the words that lead to it.
func walk(cmds []*cli.Command, path string, f func(path string, cmd *cli.Command)) {
	for _, cmd := range cmds {
		words := path + " " + cmd.Name
		f(words, cmd)
		walk(cmd.Subcommands, words, f)
	}
}

func TestEveryCommandKeepsTheConventions(t *testing.T) {
	walk(commands(), "unibus", func(path string, cmd *cli.Command) {
		usages := map[string]string{path: cmd.Usage}
		for _, f := range cmd.Flags {
			if d, ok := f.(ucli.DocGenerationFlag); ok {
				usages[path+" --"+f.Names()[0]] = d.GetUsage()
				if d.TakesValue() && strings.Count(d.GetUsage(), "`") != 2 {
					t.Errorf("%s --%s: its usage does not name the value in backquotes: %q", path, f.Names()[0], d.GetUsage())
				}
			}
		}
		for what, usage := range usages {
			if usage == "" || usage[:1] != strings.ToLower(usage[:1]) || strings.HasSuffix(usage, ".") {
				t.Errorf("%s: usage %q; want lower case and no full stop", what, usage)
			}
		}
		// The log is there to be read; checking it is the one other thing to do with it.
		if len(cmd.Subcommands) > 0 && cmd.Action != nil && path != "unibus usermgr audit" {
			t.Errorf("%s has both an action and commands", path)
		}
	})
}

// Those are about the dispatcher itself.
var onlyInDispatcher = []string{"completion", "man", "plugins", "schema"}

func TestEveryCommandIsAlsoAProgram(t *testing.T) {
	for _, cmd := range commands() {
		if slices.Contains(onlyInDispatcher, cmd.Name) {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", "unibus-"+cmd.Name, "main.go")); err != nil {
			t.Errorf("%s: %v", cmd.Name, err)
		}
	}
}

func TestEveryCommandHasHelpAndAManualPage(t *testing.T) {
	walk(program().Root.Subcommands, "unibus", func(path string, cmd *cli.Command) {
		var out, errs strings.Builder
		env := &cli.Env{
			Args:    append(strings.Fields(path), "--help"),
			Environ: []string{"HOME=" + t.TempDir()},
			Stdin:   strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: time.Now,
		}
		if cmd.SkipFlagParsing {
			env.Args = slices.Insert(strings.Fields(path), 1, "help")
		}
		if code := program().Run(t.Context(), env); code != 0 || !strings.HasPrefix(out.String(), path+" - ") {
			t.Errorf("%s --help: exit %d, %s%s", path, code, &out, &errs)
		}
		out.Reset()
		env.Args = slices.Insert(strings.Fields(path), 1, "man")
		if code := program().Run(t.Context(), env); code != 0 || !strings.HasPrefix(out.String(), ".TH ") {
			t.Errorf("manual page of %s: exit %d, %s%s", path, code, &out, &errs)
		}
	})
}
