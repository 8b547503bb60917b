package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// call is where a text names a command: the words behind "unibus" in lower case.
var call = regexp.MustCompile(`\bunibus((?: [a-z][a-z-]*)+)`)

func find(cmds []*cli.Command, name string) *cli.Command {
	i := slices.IndexFunc(cmds, func(cmd *cli.Command) bool { return cmd.HasName(name) })
	if i < 0 {
		return nil
	}
	return cmds[i]
}

// unknownCommand returns the first command in text that is not built in, ""
// where all are.
func unknownCommand(text string) string {
	for _, match := range call.FindAllStringSubmatch(text, -1) {
		cmds, path := commands(), "unibus"
		for _, word := range strings.Fields(match[1]) {
			if len(cmds) == 0 {
				break // what follows is arguments, or prose
			}
			path += " " + word
			cmd := find(cmds, word)
			if cmd == nil {
				return path
			}
			cmds = cmd.Subcommands
		}
	}
	return ""
}

func TestAdviceNamesCommandsThatExist(t *testing.T) {
	named := 0
	for _, code := range bus.Codes() {
		a := cli.AdviceFor(code)
		for _, text := range []string{a.Hint, a.Why, a.Do} {
			named += len(call.FindAllString(text, -1))
			if path := unknownCommand(text); path != "" {
				t.Errorf("%s: there is no %q: %s", code, path, text)
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d commands are named; are they still found?", named)
	}
}

func TestUnknownCommandsAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"run: unibus room invite ROOM HANDLE":            "",
		"as unibus pub does, and `unibus sub` too":       "",
		"something else than unibus 1":                   "",
		"first unibus keygen show, then unibus nosuch x": "unibus nosuch",
		"unibus room put":                                "unibus room put",
	} {
		if have := unknownCommand(text); have != want {
			t.Errorf("%s: found %q, want %q", text, have, want)
		}
	}
}
