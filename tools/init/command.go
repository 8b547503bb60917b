package initcmd

import (
	"fmt"
	"path/filepath"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

const (
	flagName        = "name"
	flagHandle      = "handle"
	flagNATSPort    = "nats-port"
	flagControlPort = "control-port"
	flagPassphrase  = "passphrase"

	defaultDir         = "unibus-bus"
	defaultName        = "local"
	defaultHandle      = "admin"
	defaultNATSPort    = 4222
	defaultControlPort = 4280
)

const description = `Makes a bus in DIR (./unibus-bus), which must be empty or not exist: the root
key of the bus, the identity of its first administrator, and the settings of a
node that serves on this machine. It saves and selects a context for the bus,
and prints the next three commands: start the node, check it, make a room.

  DIR/bus.root      the root key; it names the bus and signs its handles.
                    The node never needs it: keep it offline.
  DIR/HANDLE.id     the administrator's identity; keep it private
  DIR/unibusd.env   settings of the node, for a shell and for systemd's
                    EnvironmentFile
  DIR/data          what the node stores, made when it starts

Nothing is overwritten, and a failure leaves nothing behind.

Exit status: 0 made; 1 DIR is not empty, the context exists, or a file could
not be written; 2 wrong usage.`

// Command returns the command init.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "init",
		Usage:       "make a bus in an empty directory",
		ArgsUsage:   "[DIR]",
		Description: description,
		UsageText: `unibus init
unibus init --handle alice --name work ~/bus
unibus init --passphrase --nats-port 5222 --control-port 5280 /srv/bus`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagName, Value: defaultName, Usage: "save the context as `NAME`"},
			&cli.StringFlag{Name: flagHandle, Value: defaultHandle, Usage: "call the administrator `HANDLE`"},
			&cli.IntFlag{Name: flagNATSPort, Value: defaultNATSPort, Usage: "messages go through `PORT` of this machine"},
			&cli.IntFlag{Name: flagControlPort, Value: defaultControlPort, Usage: "the control plane listens on `PORT` of this machine"},
			&cli.BoolFlag{Name: flagPassphrase, Usage: "lock the root key and the identity with a passphrase; implied where one is given"},
		},
		Action: cli.Action(run),
	}
}

// options are what the command line asks for.
type options struct {
	dir         string // absolute
	name        string // of the context
	handle      bus.Handle
	natsPort    int
	controlPort int
	passphrase  string // "" for none
}

func run(c *cli.Call) error {
	o, err := readOptions(c)
	if err != nil {
		return err
	}
	made, err := makeBus(c, o)
	if err != nil {
		return fmt.Errorf("make bus in %s: %w", o.dir, err)
	}
	return made.report(c)
}

func readOptions(c *cli.Call) (options, error) {
	for _, flag := range []string{"context", "server", "url", "ca", "bus-id", "identity"} {
		if c.Source(flag) == "flag" {
			return options{}, cli.Usagef("--%s is of a bus that exists, and init makes a new one", flag)
		}
	}
	o := options{name: c.String(flagName), natsPort: c.Int(flagNATSPort), controlPort: c.Int(flagControlPort)}
	var err error
	if o.handle, err = bus.ParseHandle(c.String(flagHandle)); err != nil {
		return options{}, cli.BadArg("--"+flagHandle, err)
	}
	for flag, port := range map[string]int{flagNATSPort: o.natsPort, flagControlPort: o.controlPort} {
		if port < 1 || port > 65535 {
			return options{}, cli.Usagef("--%s %d: want 1 to 65535", flag, port)
		}
	}
	if o.natsPort == o.controlPort {
		return options{}, cli.Usagef("--%s and --%s are both %d", flagNATSPort, flagControlPort, o.natsPort)
	}
	dir := c.Arg(0)
	if dir == "" {
		dir = defaultDir
	}
	if o.dir, err = filepath.Abs(dir); err != nil {
		return options{}, cli.BadArg("DIR", err)
	}
	if err := checkValue(o.dir); err != nil {
		return options{}, cli.BadArg("DIR", err)
	}
	contexts, err := c.Env.Contexts()
	if err != nil {
		return options{}, err
	}
	if _, err := contexts.Path(o.name); err != nil {
		return options{}, cli.BadArg("--"+flagName, err)
	}
	if c.Bool(flagPassphrase) || c.PassphraseGiven() {
		o.passphrase, err = c.NewPassphrase("the root key and " + string(o.handle))
		if err == nil && o.passphrase == "" {
			err = bus.Errorf(bus.CodePassphrase, "read passphrase: it is empty")
		}
	}
	return o, err
}

// result is what was made, as --json prints it.
type result struct {
	Dir      string      `json:"dir"`
	BusID    bus.BusID   `json:"bus_id"`
	Root     string      `json:"root"`
	Settings string      `json:"settings"`
	Handle   bus.Handle  `json:"handle"`
	SignPub  bus.SignPub `json:"sign_pub"`
	Identity string      `json:"identity"`
	Context  string      `json:"context"`
	Next     []string    `json:"next"` // commands to paste, in this order
}

// report prints what was made: the commands on standard output, one a line.
func (r *result) report(c *cli.Call) error {
	c.Note("bus         %s", r.BusID)
	c.Note("bus root    %s: keep it offline, the node does not need it", r.Root)
	c.Note("identity    %s (%s, sign_pub %s)", r.Identity, r.Handle, r.SignPub)
	c.Note("settings    %s", r.Settings)
	c.Note("context     %s, selected", r.Context)
	c.Note("next, the first in a terminal of its own:")
	if c.WantsJSON() {
		return c.JSON(r)
	}
	for _, command := range r.Next {
		c.Printf("%s\n", command)
	}
	return nil
}
