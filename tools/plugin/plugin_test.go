package plugin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/cli"
)

// place makes files below a new directory: a name that ends in "!" is executable.
func place(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		mode := os.FileMode(0o644)
		if n, ok := strings.CutSuffix(name, "!"); ok {
			name, mode = n, 0o755
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// paths are where the commands of a listing would run.
func paths(root string, cmds []*cli.Command) []string {
	var have []string
	for _, cmd := range cmds {
		rel, err := filepath.Rel(root, cmd.Usage)
		if err != nil {
			rel = err.Error()
		}
		have = append(have, cmd.Name+" "+rel)
	}
	return have
}

func TestPlacesAreSearchedInOrder(t *testing.T) {
	root := place(t, "bin/unibus!", "bin/unibus-a!", "one/unibus-a!", "one/unibus-b!", "two/unibus-b!", "two/unibus-c!",
		"path/unibus-c!", "path/unibus-d!", "path/unibus-x", "path/unibus-Y!", "path/unibus-!", "path/unibus-9!", "path/unibus-e.sh!",
		"path/unibus-dir/file", "path/other!")
	if err := os.Symlink(filepath.Join(root, "path/unibus-d"), filepath.Join(root, "path/unibus-link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(root, "path/unibus-torn")); err != nil {
		t.Fatal(err)
	}
	at := func(dir string) string { return filepath.Join(root, dir) }
	env := &cli.Env{
		Executable: at("bin/unibus"),
		Environ: []string{
			"UNIBUS_PLUGIN_PATH=" + strings.Join([]string{at("one"), at("none"), at("two")}, string(filepath.ListSeparator)),
			"PATH=" + at("path"),
		},
	}
	f := Finder{}
	want := []string{"a bin/unibus-a", "b one/unibus-b", "c two/unibus-c", "d path/unibus-d", "link path/unibus-link"}
	if diff := cmp.Diff(want, paths(root, f.List(env))); diff != "" {
		t.Error(diff)
	}
	var found []*cli.Command
	for _, name := range []string{"a", "b", "c", "d", "link", "x", "Y", "", "9", "e.sh", "dir", "torn", "../path/unibus-d", "d/../d"} {
		cmd, err := f.Lookup(env, name)
		if err != nil {
			t.Fatal(err)
		}
		if cmd != nil {
			found = append(found, cmd)
		}
	}
	if diff := cmp.Diff(want, paths(root, found)); diff != "" {
		t.Error(diff)
	}
}

func TestALinkToTheProgramFindsWhatIsBesideTheProgram(t *testing.T) {
	root := place(t, "opt/unibus!", "opt/unibus-a!")
	link := filepath.Join(t.TempDir(), "unibus")
	if err := os.Symlink(filepath.Join(root, "opt/unibus"), link); err != nil {
		t.Fatal(err)
	}
	want := []string{"a opt/unibus-a"}
	if diff := cmp.Diff(want, paths(root, Finder{}.List(&cli.Env{Executable: link}))); diff != "" {
		t.Error(diff)
	}
}

func TestRelativeDirectoriesArePassedOver(t *testing.T) {
	root := place(t, "unibus-a!", "sub/unibus-b!")
	t.Chdir(root)
	for _, path := range []string{"", ".", "sub", "./sub", strings.Repeat(string(filepath.ListSeparator), 2)} {
		env := &cli.Env{Environ: []string{"PATH=" + path, "UNIBUS_PLUGIN_PATH=" + path}}
		if list := (Finder{}).List(env); len(list) > 0 {
			t.Errorf("with %q: %q", path, paths(root, list))
		}
		if cmd, err := (Finder{}).Lookup(env, "a"); cmd != nil || err != nil {
			t.Errorf("with %q: %v, %v", path, cmd, err)
		}
	}
}

func TestThePlugInIsGivenItsLineAndSettings(t *testing.T) {
	root := place(t, "unibus-a!")
	var argv, environ []string
	f := Finder{Exec: func(_ string, a, e []string) error {
		argv, environ = a, e
		return errors.New("exec format error")
	}}
	var errs strings.Builder
	env := &cli.Env{
		Args:    []string{"unibus", "--url", "https://x", "--json", "a", "--url", "-h"},
		Environ: []string{"PATH=" + root, "UNIBUS_URL=https://old", "HOME=/h"},
		Stdin:   strings.NewReader(""), Stdout: &strings.Builder{}, Stderr: &errs,
	}
	program := cli.Program{Root: &cli.Command{Name: "unibus", Subcommands: []*cli.Command{
		{Name: "b", Usage: "no", Action: cli.Action(func(*cli.Call) error { return nil })}}}, External: f}
	if code := program.Run(t.Context(), env); code != 1 || !strings.Contains(errs.String(), "run plug-in") {
		t.Errorf("exit %d: %s", code, &errs)
	}
	if diff := cmp.Diff([]string{"unibus-a", "--url", "-h"}, argv); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"PATH=" + root, "HOME=/h", "UNIBUS_JSON=true", "UNIBUS_URL=https://x"}, environ); diff != "" {
		t.Error(diff)
	}
}
