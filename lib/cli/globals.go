package cli

import (
	"fmt"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// DefaultTimeout is how long commands wait for the bus when nobody says otherwise.
const DefaultTimeout = 10 * time.Second

// Names of the flags that every command has.
const (
	flagContext      = "context"
	flagServer       = "server"
	flagURL          = "url"
	flagCA           = "ca"
	flagBusID        = "bus-id"
	flagIdentity     = "identity"
	flagPassphraseFD = "passphrase-fd"
	flagTimeout      = "timeout"
	flagYes          = "yes"
	flagJSON         = "json"
	flagQuiet        = "quiet"
	flagVerbose      = "verbose"
	flagHelp         = "help"
	flagVersion      = "version"
)

// busFlags are the flags of programs that talk to a bus. [Call.Config],
// [Call.Given], [Call.Passphrase] and [Call.NewPassphrase] are for those.
func busFlags() []Flag {
	return []Flag{
		&StringFlag{Name: flagContext, Usage: "use the saved context `CONTEXT`", EnvVars: []string{"UNIBUS_CONTEXT"}},
		&StringSliceFlag{Name: flagServer, Usage: "connect to the NATS server `URL`; may be repeated", EnvVars: []string{"UNIBUS_SERVER"}},
		&StringSliceFlag{Name: flagURL, Usage: "reach the control plane at `URL`; may be repeated", EnvVars: []string{"UNIBUS_URL"}},
		&PathFlag{Name: flagCA, Usage: "trust the certificates in `FILE` instead of the system's", EnvVars: []string{"UNIBUS_CA"}},
		&StringFlag{Name: flagBusID, Usage: "insist on the bus with this `ID`", EnvVars: []string{"UNIBUS_BUS_ID"}},
		&PathFlag{Name: flagIdentity, Usage: "act as the identity in `FILE`", EnvVars: []string{"UNIBUS_IDENTITY"}},
		&IntFlag{Name: flagPassphraseFD, Value: -1, DefaultText: "ask", Usage: "read the passphrase from file descriptor `N`, see also $UNIBUS_PASSPHRASE_FILE", EnvVars: []string{"UNIBUS_PASSPHRASE_FD"}},
		&DurationFlag{Name: flagTimeout, Value: DefaultTimeout, Usage: "wait this `TIME` for an answer of the bus", EnvVars: []string{"UNIBUS_TIMEOUT"}},
	}
}

// commonFlags are the flags of every program.
func commonFlags() []Flag {
	return []Flag{
		&BoolFlag{Name: flagYes, Aliases: []string{"y"}, Usage: "answer yes to every question", EnvVars: []string{"UNIBUS_YES"}},
		&BoolFlag{Name: flagJSON, Usage: "print results and errors as JSON, one object a line", EnvVars: []string{"UNIBUS_JSON"}},
		&BoolFlag{Name: flagQuiet, Aliases: []string{"q"}, Usage: "print results, warnings and errors only", EnvVars: []string{"UNIBUS_QUIET"}},
		&BoolFlag{Name: flagVerbose, Aliases: []string{"v"}, Usage: "say what is being done", EnvVars: []string{"UNIBUS_VERBOSE"}},
		&BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "show help"},
		&BoolFlag{Name: flagVersion, Usage: "show the version"},
	}
}

// checkDeclaration refuses a program whose commands contradict the conventions
// of this package. It finds mistakes of programmers, not of users.
func checkDeclaration(root *Command, globals []Flag) error {
	taken := map[string]bool{}
	for _, f := range globals {
		for _, n := range f.Names() {
			taken[n] = true
		}
	}
	return checkCommand(root, root.Name, taken)
}

func checkCommand(cmd *Command, path string, taken map[string]bool) error {
	own := map[string]bool{}
	for _, f := range cmd.Flags {
		for _, n := range f.Names() {
			if taken[n] || own[n] {
				return bus.Errorf(bus.CodeInternal, "check command %s: flag %q is declared twice or belongs to every command", path, n)
			}
			own[n] = true
		}
	}
	if _, err := parseArgsUsage(cmd.ArgsUsage); err != nil {
		return bus.Errorf(bus.CodeInternal, "check command %s: %w", path, err)
	}
	if len(cmd.Subcommands) == 0 && cmd.Action == nil {
		return bus.Errorf(bus.CodeInternal, "check command %s: it has neither action nor commands", path)
	}
	for n := range taken {
		own[n] = true
	}
	seen := map[string]bool{}
	for _, sub := range cmd.Subcommands {
		for _, n := range sub.Names() {
			if seen[n] {
				return bus.Errorf(bus.CodeInternal, "check command %s: command %q is declared twice", path, n)
			}
			seen[n] = true
		}
		if err := checkCommand(sub, fmt.Sprint(path, " ", sub.Name), own); err != nil {
			return err
		}
	}
	return nil
}
