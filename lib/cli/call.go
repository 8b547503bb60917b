package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	ucli "github.com/urfave/cli/v2"

	"github.com/enmanuel/unibus/lib/bus"
)

// flags are the flags and arguments of a command. The alias keeps the name
// Context free for the [context.Context] inside.
type flags = ucli.Context

// Call is one call of a command: its flags and arguments, through the methods
// of [ucli.Context] (c.String("name"), c.Args()), the context to pass on
// (c.Context), and everything the command needs of the world.
type Call struct {
	*flags
	// Env is the world around the command.
	Env *Env
	// Stdout takes results, byte for byte; [Call.Printf], [Call.Table] and
	// [Call.JSON] write to it too. Errors need no handling: the first one
	// cancels the context and is reported at the end.
	Stdout io.Writer
	// Stderr takes what is for people; prefer [Call.Note] and [Call.Warn].
	Stderr io.Writer

	frame *frame
}

// Action makes run the action of a command.
func Action(run func(c *Call) error) ucli.ActionFunc {
	return func(c *ucli.Context) error {
		f, ok := c.Context.Value(frameKey{}).(*frame)
		if !ok {
			return bus.Errorf(bus.CodeInternal, "run command %s: it was not started by package cli", c.Command.Name)
		}
		return run(&Call{flags: c, Env: f.env, Stdout: f.stdout, Stderr: f.stderr, frame: f})
	}
}

// Arg returns the n-th argument, counted from 0, or "". What the command's
// ArgsUsage asks for is there.
func (c *Call) Arg(n int) string { return c.Args().Get(n) }

// Source says where the value of a flag comes from: "flag", "env NAME", or
// "default".
func (c *Call) Source(flag string) string { return c.frame.inv.source(flag) }

// CommandLine returns the words that lead to this command, such as
// "unibus room show", for messages that tell what to type.
func (c *Call) CommandLine() string { return c.frame.inv.command() }

// Program returns the program that runs, for commands about commands. It is
// not to be changed.
func (c *Call) Program() *Command { return c.frame.root }

// WantsJSON reports --json.
func (c *Call) WantsJSON() bool { return c.Bool(flagJSON) }

// Quiet reports --quiet.
func (c *Call) Quiet() bool { return c.Bool(flagQuiet) }

// Verbose reports --verbose.
func (c *Call) Verbose() bool { return c.Bool(flagVerbose) }

// Printf writes a result for people to standard output. With --json use
// [Call.JSON] instead.
func (c *Call) Printf(format string, args ...any) { fmt.Fprintf(c.Stdout, format, args...) }

// Note says on standard error what was done or comes next, unless --quiet. The
// line end is added.
func (c *Call) Note(format string, args ...any) {
	if !c.Quiet() {
		c.line("", format, args...)
	}
}

// Detail says on standard error what only --verbose asks for.
func (c *Call) Detail(format string, args ...any) {
	if c.Verbose() {
		c.line("", format, args...)
	}
}

// Warn says on standard error that something is not as it should be, although
// the command goes on. --quiet does not silence it.
func (c *Call) Warn(format string, args ...any) { c.line("warning: ", format, args...) }

func (c *Call) line(prefix, format string, args ...any) {
	fmt.Fprintf(c.Stderr, "%s%s\n", prefix, Printable(fmt.Sprintf(format, args...)))
}

// Logger returns a logger to standard error for the libraries a command uses:
// warnings and worse, or everything with --verbose.
func (c *Call) Logger() *slog.Logger {
	level := slog.LevelWarn
	if c.Verbose() {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(c.Stderr, &slog.HandlerOptions{Level: level}))
}

// Interactive reports whether somebody is there to answer questions.
func (c *Call) Interactive() bool { return IsTerminal(c.Env.Stdin) }

// Confirm asks a yes-or-no question on standard error and returns an error
// with [bus.CodeUsage] unless the answer is yes. --yes answers it; where there
// is no terminal to ask, --yes is required.
func (c *Call) Confirm(format string, args ...any) error {
	if c.Bool(flagYes) {
		return nil
	}
	question := Printable(fmt.Sprintf(format, args...))
	if !c.Interactive() {
		return WithHint(Usagef("ask %q: standard input is no terminal", question), "add --yes if you are sure")
	}
	fmt.Fprintf(c.Stderr, "%s [y/N] ", question)
	answer, err := readLine(c.Context, c.Env.Stdin)
	if err != nil {
		return fmt.Errorf("ask %q: %w", question, err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return WithHint(Usagef("not confirmed; nothing was done"), "add --yes if you are sure")
}

// readLine reads a line, or less if the input ends. When ctx ends first, the
// read goes on in the background; the process is about to end then.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(r, 4<<10)).ReadString('\n')
		if err == io.EOF {
			err = nil
		}
		done <- result{line, err}
	}()
	select {
	case got := <-done:
		return got.line, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// ChildEnviron returns the environment for a program run by this one: its own,
// with the flags that every command has put into their variables.
func (c *Call) ChildEnviron() []string {
	set := map[string]string{}
	for _, s := range c.frame.inv.given {
		variable := c.frame.variables[s.name]
		if s.owner != c.frame.root || s.source != "flag" || variable == "" {
			continue
		}
		if before, ok := set[variable]; ok && (s.name == flagServer || s.name == flagURL) {
			set[variable] = before + "," + s.value
		} else {
			set[variable] = s.value
		}
	}
	// The old values have to go: of a name given twice, C programs see the first.
	environ := slices.DeleteFunc(slices.Clone(c.Env.Environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := set[name]
		return replaced
	})
	for _, variable := range slices.Sorted(maps.Keys(set)) {
		environ = append(environ, variable+"="+set[variable])
	}
	return environ
}
