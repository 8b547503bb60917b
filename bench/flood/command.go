package main

import (
	"time"

	"github.com/enmanuel/unibus/lib/cli"
)

const (
	flagConnections = "connections"
	flagBodies      = "bodies"
	flagRate        = "rate"
	flagDuration    = "duration"
	flagPace        = "pace"

	// For the other processes.
	flagSetup = "setup"
)

func command() *cli.Command {
	setup := []cli.Flag{&cli.StringFlag{Name: flagSetup, Usage: "what the first process says, as `JSON`"}}
	return &cli.Command{
		Name:  "flood",
		Usage: "flood a node and measure what its members notice",
		Description: `Latencies are counted from when a message was due, so that waiting for the one
before is part of them. The flooding process runs at a lower priority, because the
strangers it stands for have machines of their own.

Exit status: 0 nothing failed for the member and the newcomers; 1 something did.`,
		UsageText: "flood\nflood --connections 2000 --duration 3s --json",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: flagConnections, Value: 10_000, Usage: "hold `N` silent connections open, half on each plane"},
			&cli.IntFlag{Name: flagBodies, Value: 1000, Usage: "send `N` request bodies, a byte a second each"},
			&cli.IntFlag{Name: flagRate, Value: 1000, Usage: "send `N` bad requests or logins a second"},
			&cli.DurationFlag{Name: flagDuration, Value: 6 * time.Second, Usage: "flood for this `TIME` each"},
			&cli.DurationFlag{Name: flagPace, Value: 50 * time.Millisecond, Usage: "publish a message each `TIME`"},
		},
		Action: cli.Action(run),
		Subcommands: []*cli.Command{
			{Name: "node", Usage: "be the node", Hidden: true, Flags: setup, Action: cli.Action(beNode)},
			{Name: "attack", Usage: "be the strangers", Hidden: true, Flags: setup, Action: cli.Action(beStrangers)},
		},
	}
}

// options are what was asked for.
type options struct {
	connections, bodies, rate int
	duration, pace            time.Duration
}

func optionsOf(c *cli.Call) (options, error) {
	o := options{c.Int(flagConnections), c.Int(flagBodies), c.Int(flagRate), c.Duration(flagDuration), c.Duration(flagPace)}
	if o.connections < 0 || o.bodies < 0 || o.rate < 1 || o.pace <= 0 || o.duration <= 0 {
		return o, cli.Usagef("numbers and times must be positive")
	}
	return o, nil
}
