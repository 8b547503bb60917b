// Package plugin finds and runs commands that are no part of unibus:
// executables called unibus-NAME, which "unibus NAME …" stands for.
//
// Start with [Finder], which a program takes as its External commands.
//
// It looks beside the running program, then in the directories of
// $UNIBUS_PLUGIN_PATH, then in those of $PATH; the first hit counts. Relative
// directories, "." and the empty one among them, are passed over, so that
// nobody runs what happens to lie in the directory they are in. A name is
// lower-case letters, digits and dashes, a letter first. What a program has
// built in is never looked for.
//
// A plug-in takes the place of the process: its arguments come through
// unchanged, the flags of every command come as UNIBUS_* variables, and its
// exit status, or the signal that ended it, is the program's. Finding and
// listing run nothing.
//
// Plug-ins run with all rights of the user. The package does not check who
// owns an executable: whoever can write to a directory on the path can already
// do as they like. It needs an operating system with execve.
package plugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// PathVariable names further directories to look in, separated as in PATH.
const PathVariable = "UNIBUS_PLUGIN_PATH"

const prefix = "unibus-"

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Finder implements [cli.External] with the plug-ins of this machine.
type Finder struct {
	// Exec replaces the process by a program, as [syscall.Exec] does, and
	// returns only if it could not.
	Exec func(path string, argv, environ []string) error
}

// Lookup implements [cli.External].
func (f Finder) Lookup(env *cli.Env, name string) (*cli.Command, error) {
	if !namePattern.MatchString(name) {
		return nil, nil
	}
	for _, dir := range directories(env) {
		path := filepath.Join(dir, prefix+name)
		if isExecutable(path) {
			return f.command(name, path), nil
		}
	}
	return nil, nil
}

// List implements [cli.External]. A directory that cannot be read holds nothing
// that could be run by name.
func (f Finder) List(env *cli.Env) []*cli.Command {
	found := map[string]*cli.Command{}
	for _, dir := range directories(env) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			name, ok := strings.CutPrefix(e.Name(), prefix)
			path := filepath.Join(dir, e.Name())
			if !ok || !namePattern.MatchString(name) || found[name] != nil || !isExecutable(path) {
				continue
			}
			found[name] = f.command(name, path)
		}
	}
	commands := make([]*cli.Command, 0, len(found))
	for _, cmd := range found {
		commands = append(commands, cmd)
	}
	slices.SortFunc(commands, func(a, b *cli.Command) int { return strings.Compare(a.Name, b.Name) })
	return commands
}

// command is the plug-in as a command of the program.
func (f Finder) command(name, path string) *cli.Command {
	return &cli.Command{
		Name:            name,
		Usage:           path,
		ArgsUsage:       "[ARG...]",
		SkipFlagParsing: true,
		Action: cli.Action(func(c *cli.Call) error {
			argv := append([]string{prefix + name}, c.Args().Slice()...)
			if err := f.Exec(path, argv, c.ChildEnviron()); err != nil {
				return cli.WithHint(bus.Errorf(bus.CodeInternal, "run plug-in %s: %w", path, err),
					"check that it is a program of this machine, or a script that begins with #!")
			}
			return nil
		}),
	}
}

// directories returns where to look, in order, each once.
func directories(env *cli.Env) []string {
	var dirs []string
	add := func(dir string) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, filepath.Clean(dir)) {
			dirs = append(dirs, filepath.Clean(dir))
		}
	}
	if env.Executable != "" {
		exe := env.Executable
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real // the plug-ins are beside the program, not beside a link to it
		}
		add(filepath.Dir(exe))
	}
	for _, variable := range []string{PathVariable, "PATH"} {
		for _, dir := range filepath.SplitList(env.Getenv(variable)) {
			add(dir)
		}
	}
	return dirs
}

// isExecutable reports whether this process may run the file.
func isExecutable(path string) bool {
	_, err := exec.LookPath(path) // of an absolute path it checks that one file
	return err == nil
}
