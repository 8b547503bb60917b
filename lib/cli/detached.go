package cli

import (
	"context"
	"io"
	"strings"
)

// Detached returns a call of no command, for Go programs that want the settings
// of the tools: UNIBUS_* variables, and the saved context name, or the one that
// commands would use if name is "". Nothing is read from the arguments or
// standard input of env, nothing is written to its streams, and nobody is asked
// for anything: a passphrase comes from UNIBUS_PASSPHRASE_FILE or not at all.
//
// An error has [bus.CodeUsage] for a variable whose value does not do.
func Detached(ctx context.Context, env *Env, name string) (*Call, error) {
	var args []string
	if name != "" {
		args = append(args, "--"+flagContext+"="+name)
	}
	return detached(ctx, env, args)
}

// detached is [Detached] with flags of every command.
func detached(ctx context.Context, env *Env, args []string) (*Call, error) {
	quiet := *env
	quiet.Stdin, quiet.Stdout, quiet.Stderr, quiet.Terminal = strings.NewReader(""), io.Discard, io.Discard, ""
	// Flags go before variables, which turns off those that are for commands.
	quiet.Args = append([]string{"unibus"}, args...)
	quiet.Args = append(quiet.Args, "--"+flagPassphraseFD+"=-1",
		"--"+flagYes+"=false", "--"+flagJSON+"=false", "--"+flagQuiet+"=false", "--"+flagVerbose+"=false")
	var call *Call
	p := Program{Root: &Command{Name: "unibus", Action: Action(func(c *Call) error {
		call = c
		return nil
	})}}
	f, err := p.frame(&quiet, func(error) {})
	if err == nil {
		err = f.run(ctx)
	}
	return call, err
}
