package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"

	ucli "github.com/urfave/cli/v2"

	"github.com/enmanuel/unibus/lib/bus"
)

// Program is what a main function runs.
type Program struct {
	// Root is the program itself: its name, help and flags, and either an
	// action or subcommands. A program runs once, because urfave/cli keeps what
	// it parsed in the flags.
	Root *Command
	// External finds further commands, or is nil.
	External External
	// Local leaves away the flags that choose a bus, an identity and a timeout,
	// for programs that are no client of a bus, such as the daemon.
	Local bool
	// Files are those that the program reads and writes, each with what it is,
	// for manual pages. Those of every client of a bus are known.
	Files [][2]string
}

// Tool makes a command a program of its own, called "unibus-" and the name of
// the command.
func Tool(cmd *Command) Program {
	root := *cmd
	root.Name = "unibus-" + cmd.Name
	return Program{Root: &root}
}

// Main runs a command as the program of this process and returns its exit
// status: os.Exit(cli.Main(pub.Command())) is all that a main function does.
func Main(cmd *Command) int { return Tool(cmd).Main() }

// Run runs a command as the program "unibus-" and its name in env, without
// touching this process's signals or streams, and returns its exit status.
func Run(ctx context.Context, env *Env, cmd *Command) int { return Tool(cmd).Run(ctx, env) }

// signaled is why a context was cancelled: somebody sent the process a signal.
type signaled struct{ signal syscall.Signal }

func (s signaled) Error() string { return "ended by signal: " + s.signal.String() }

// Main runs the program as this process and returns its exit status. The first
// SIGINT or SIGTERM cancels the context of the command; the second kills the
// process. Where somebody closed the pipe of standard output, the context is
// cancelled too.
func (p Program) Main() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	// Asking for SIGPIPE turns the death of the process into an error of the
	// write, so that commands can put away what they hold. Unlike ignoring it,
	// this is not inherited by child processes.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)

	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGINT) { // shells ignore it for the jobs that scripts put in the background
		signal.Notify(end, syscall.SIGINT)
	}
	defer signal.Stop(end)
	go func() {
		select {
		case s := <-end:
			signal.Stop(end)
			cancel(signaled{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return p.Run(ctx, System())
}

// frame is one run of a program.
type frame struct {
	env      *Env
	inv      *invocation
	external External
	root     *Command
	globals  []Flag // also among the flags of root
	stdout   *stream
	stderr   *stream

	local     bool
	files     [][2]string
	vars      map[Flag][]string // environment variables of flags whose own list had to be emptied
	variables map[string]string // the environment variable of each of globals that has one

	mu          sync.Mutex
	descriptors map[int]*os.File  // those that were read from
	passphrases map[string]string // those that were given, by what they open
}

type frameKey struct{}

// Run runs the program in env, without touching this process's signals or
// streams, and returns its exit status.
func (p Program) Run(ctx context.Context, env *Env) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f, err := p.frame(env, cancel)
	if err == nil {
		err = f.run(ctx)
	}
	return int(f.finish(ctx, err))
}

// frame prepares a run of the program. The frame can report the error, which
// is one of its declaration. What ends standard output is given to failed.
func (p Program) frame(env *Env, failed func(error)) (*frame, error) {
	root := *p.Root
	f := &frame{
		env:      env,
		external: p.External,
		root:     &root,
		globals:  commonFlags(),
		stdout:   &stream{w: env.Stdout, failed: failed},
		stderr:   &stream{w: env.Stderr, failed: func(error) {}},

		local:       p.Local,
		files:       p.Files,
		vars:        map[Flag][]string{},
		variables:   map[string]string{},
		descriptors: map[int]*os.File{},
		passphrases: map[string]string{},
	}
	if !p.Local {
		f.globals = append(busFlags(), f.globals...)
	}
	for _, flag := range f.globals {
		if vars := envVars(flag); len(vars) > 0 {
			f.variables[flag.Names()[0]] = vars[0]
		}
	}
	if err := checkDeclaration(&root, f.globals); err != nil {
		return f, err
	}
	root.Flags = append(append([]Flag{}, root.Flags...), f.globals...)
	return f, nil
}

// run understands the command line and does what it says.
func (f *frame) run(ctx context.Context) error {
	if len(f.env.Args) > 1 && f.env.Args[1] == completeCommand {
		return f.complete(ctx, f.env.Args[2:])
	}
	inv, err := parse(f.root, f.external, f.env)
	f.inv = inv
	if err != nil {
		return err
	}
	if inv.help && inv.leaf().SkipFlagParsing {
		// Only the command itself knows its help.
		inv.help, inv.args = false, []string{"--" + flagHelp}
	}
	inv.fromEnvironment(f.env)
	switch {
	case inv.help:
		return f.help(f.stdout)
	case inv.version:
		return f.version()
	case inv.leaf().Action == nil:
		if err := f.help(f.stderr); err != nil {
			return err
		}
		return Status(ExitUsage)
	}
	if err := inv.check(); err != nil {
		return err
	}
	return f.action(context.WithValue(ctx, frameKey{}, f))
}

// version tells which program this is.
func (f *frame) version() error {
	said := struct {
		Program string `json:"program"`
		Version string `json:"version"`
		Commit  string `json:"commit"`
		Go      string `json:"go"`
	}{f.root.Name, f.env.Version, f.env.Commit, runtime.Version()}
	if f.wants(flagJSON) {
		line, err := encodeJSON(said)
		if err == nil {
			_, err = f.stdout.Write(line)
		}
		return err
	}
	from := "commit unknown"
	if said.Commit != "" {
		from = "commit " + said.Commit
	}
	_, err := fmt.Fprintf(f.stdout, "%s %s (%s, %s %s/%s)\n", said.Program, said.Version, from, said.Go, runtime.GOOS, runtime.GOARCH)
	return err
}

// action has urfave/cli parse the flags and call the command.
func (f *frame) action(ctx context.Context) error {
	for _, cmd := range f.inv.path {
		for _, flag := range cmd.Flags {
			f.vars[flag] = envVars(flag)
			forgetEnvVars(flag)
		}
	}
	var hide func(cmds []*Command)
	hide = func(cmds []*Command) {
		for _, cmd := range cmds {
			// Help is ours, and what urfave/cli would add is shared by all programs.
			cmd.HideHelp = true
			cmd.OnUsageError = f.usageError
			hide(cmd.Subcommands)
		}
	}
	commands := f.root.Subcommands
	if len(f.inv.path) > 1 {
		commands = f.inv.path[1:2] // an external command is not among them
	}
	hide(commands)
	app := &ucli.App{
		Name:                     f.root.Name,
		Usage:                    f.root.Usage,
		Commands:                 commands,
		Flags:                    f.root.Flags,
		Before:                   f.root.Before,
		After:                    f.root.After,
		Action:                   f.root.Action,
		OnUsageError:             f.usageError,
		InvalidFlagAccessHandler: unknownFlagRead,
		ExitErrHandler:           func(*ucli.Context, error) {},
		HideHelp:                 true,
		HideVersion:              true,
		Reader:                   f.env.Stdin,
		Writer:                   f.stdout,
		ErrWriter:                f.stderr,
	}
	return app.RunContext(ctx, f.inv.canonical())
}

func (f *frame) usageError(_ *ucli.Context, err error, _ bool) error { return f.inv.flagError(err) }

// unknownFlagRead finds commands that read a flag they forgot to declare. The
// two names are asked for by urfave/cli itself.
func unknownFlagRead(_ *ucli.Context, name string) {
	if name != "help" && name != "h" {
		panic("cli: a command reads the flag --" + name + ", which it does not declare")
	}
}

// finish says what is to be said about err and returns the exit status.
func (f *frame) finish(ctx context.Context, err error) Exit {
	if failure := f.stdout.failure(); failure != nil {
		if errors.Is(failure, syscall.EPIPE) || errors.Is(failure, io.ErrClosedPipe) {
			return 128 + Exit(syscall.SIGPIPE) // as if the signal had ended us
		}
		err = bus.Errorf(bus.CodeInternal, "write standard output: %w", failure)
	}
	if err == nil {
		return ExitOK
	}
	if s, ok := errors.AsType[Status](err); ok {
		return Exit(s)
	}
	if s, ok := errors.AsType[signaled](context.Cause(ctx)); ok && errors.Is(err, context.Canceled) {
		return 128 + Exit(s.signal)
	}
	command, asJSON, verbose := f.root.Name, false, false
	if f.inv != nil {
		command, asJSON, verbose = f.inv.command(), f.wants(flagJSON), f.wants(flagVerbose)
	}
	r := reportOf(err, command)
	if f.inv != nil {
		r.Hint = f.inv.carry(r.Hint)
	}
	if writeErr := r.write(f.stderr, asJSON, verbose); writeErr != nil {
		return max(r.Exit, ExitFailed) // nobody listens; the status still tells
	}
	return r.Exit
}

// wants reports whether a flag without a value was given, also when the line
// could not be
// understood any further.
func (f *frame) wants(flag string) bool {
	f.inv.fromEnvironment(f.env)
	value := "false"
	for _, s := range f.inv.given {
		if s.name == flag {
			value = s.value
		}
	}
	if slices.Contains(f.inv.rest, "--"+flagJSON) {
		return true
	}
	return value == "true" || value == "1" || value == "t" || value == "T" || value == "TRUE" || value == "True"
}
