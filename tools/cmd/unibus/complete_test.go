package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ucli "github.com/urfave/cli/v2"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// proposals are what a shell is told about a line, the last word of which is
// not finished.
func proposals(t *testing.T, home string, line ...string) string {
	t.Helper()
	var out, errs strings.Builder
	env := &cli.Env{
		Args:    append([]string{"unibus", "__complete"}, line...),
		Environ: []string{"HOME=" + home},
		Stdin:   strings.NewReader(""), Stdout: &out, Stderr: &errs,
	}
	if code := program().Run(t.Context(), env); code != 0 || errs.Len() > 0 {
		t.Errorf("complete %q: exit %d, %s", line, code, &errs)
	}
	return out.String()
}

// placeholders are the words that ArgsUsage and flags have for values that
// complete, and something that is among what completes there.
var placeholders = map[string]string{
	"FILE":    ":files\n",
	"PATH":    ":files\n",
	"DIR":     ":dirs\n",
	"CONTEXT": "work\t",
	"ROOM":    "lobby\t",
	"WHO":     "bob\t",
	"SHELL":   "zsh\t",
	"CODE":    "fork\t",
	"COMMAND": "explain\t",
}

// metPeople is a home with a context, and with a room and a handle that were
// met on its bus.
func metPeople(t *testing.T) string {
	t.Helper()
	home, busID := t.TempDir(), bus.BusID{1}
	contexts, err := (&cli.Env{Environ: []string{"HOME=" + home}}).Contexts()
	if err != nil {
		t.Fatal(err)
	}
	if err := contexts.Create("work", cli.SavedContext{URLs: []string{"https://work"}, BusID: busID}); err != nil {
		t.Fatal(err)
	}
	if err := contexts.Select("work"); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(home, ".local", "state", "unibus", busID.Token(), bus.ID{1}.Token())
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"rooms.json":   `{"v":1,"rooms":[{"room":"` + bus.RoomID{2}.String() + `","name":"lobby"}]}`,
		"handles.json": `{"v":1,"handles":{"bob":{"id":"` + bus.ID{3}.String() + `"}}}`,
	} {
		if err := os.WriteFile(filepath.Join(state, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

// TestValuesComplete goes through every argument and every flag of every
// command whose placeholder names something that completes. A command where it
// fails lacks: BashComplete: cli.Complete(connect.Candidates).
func TestValuesComplete(t *testing.T) {
	home := metPeople(t)
	tried := map[string]int{}
	check := func(kind, want string, line ...string) {
		tried[kind]++
		if have := proposals(t, home, line...); !strings.Contains("\n"+have, "\n"+want) {
			t.Errorf("unibus %s: %s completes to %q, want %q among it", strings.Join(line, " "), kind, have, want)
		}
	}
	walk(commands(), "", func(path string, cmd *cli.Command) {
		line := strings.Fields(path)
		for _, word := range strings.Fields(cmd.ArgsUsage) {
			kind := strings.Trim(word, "[].")
			if want := placeholders[kind]; want != "" {
				check(kind, want, append(line, "")...)
			}
			line = append(line, "x")
		}
		for _, f := range cmd.Flags {
			d, ok := f.(ucli.DocGenerationFlag)
			if !ok || !d.TakesValue() {
				continue
			}
			_, rest, _ := strings.Cut(d.GetUsage(), "`")
			kind, _, _ := strings.Cut(rest, "`")
			want := placeholders[kind]
			if first, _, ok := strings.Cut(kind, "|"); ok {
				kind, want = "alternatives", first+"\t"
			}
			if want != "" {
				check(kind, want, append(strings.Fields(path), "--"+f.Names()[0], "")...)
				joined := want
				if !strings.HasPrefix(want, ":") {
					joined = "--" + f.Names()[0] + "=" + want
				}
				check(kind, joined, append(strings.Fields(path), "--"+f.Names()[0]+"=")...)
			}
		}
	})
	for kind := range placeholders {
		if tried[kind] == 0 {
			t.Errorf("no command has %s; is it still looked for?", kind)
		}
	}
	if tried["alternatives"] == 0 {
		t.Error("no flag has alternatives; are they still looked for?")
	}
	check("COMMAND", "invite\t", "man", "room", "in")
	check("ROOM", "lobby\t", "room", "invite", "--role", "reader", "")
	if have := proposals(t, home, "room", "invite", "lobby", "bob", ""); have != "" {
		t.Errorf("behind the last argument there is %q", have)
	}
}
