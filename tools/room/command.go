package room

import (
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
)

const (
	flagLive      = "live"
	flagPlain     = "plain"
	flagNoHistory = "no-history"
	flagPad       = "pad"
	flagSuite     = "suite"
	flagRotate    = "rotate"
	flagMaxAge    = "max-age"
	flagGrace     = "grace"
	flagLife      = "life"
	flagRole      = "role"
	flagOnce      = "once"
	flagEvery     = "every"
	flagProven    = "proven"
	flagAs        = "as"
	flagPins      = "pins"
)

const exitStatus = `
Exit status: 0 done; 1 failed; 2 wrong usage; 3 done for a part of the rooms, or
nobody can tell; 4 denied; 5 the bus cannot be reached.`

const roomArg = `ROOM is the name of a room that was made or accepted here, or the id of any room
of yours; an id that begins with a dash is written id:ID.
`

// Command returns the command room.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "room",
		Usage: "make rooms, and say who is in them",
		Description: `Makes rooms and changes who is in them. Every change is a record that an admin
or owner of the room signs; servers can neither read nor make one.

` + roomArg + exitStatus,
		BashComplete: cli.Complete(connect.Candidates),
		Subcommands: []*cli.Command{
			createCommand(),
			{
				Name:        "ls",
				Aliases:     []string{"list"},
				Usage:       "list your rooms, and those you are invited to",
				Description: "Lists the rooms of which you are a member. One that fails verification is\nlisted with what is wrong with it, and the exit status is 3.\n" + exitStatus,
				Action:      cli.Action(list),
			},
			{
				Name:        "show",
				Usage:       "show a room's policy and members",
				ArgsUsage:   "ROOM",
				Description: "Shows what the newest record of a room says.\n\n" + roomArg + exitStatus,
				Action:      cli.Action(show),
			},
			{
				Name:      "invite",
				Usage:     "make somebody a member, or give a member another role",
				ArgsUsage: "ROOM WHO",
				Description: `Makes WHO, a handle, an id or a key, a member of the room. Readers read, writers
also send, admins also add and remove readers and writers, owners may do
everything. WHO then runs: unibus room accept ID

Who is a member already keeps their role unless --role says another.

A handle is what the servers say unless the root of the bus has signed it; the
first answer is pinned. Compare the fingerprint with WHO's own.

` + roomArg + exitStatus,
				UsageText: "unibus room invite hello bob\nunibus room invite hello bob --role reader",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: flagRole, Value: bus.RoleWriter.String(), Usage: "as `reader|writer|admin|owner`"},
				},
				Action: cli.Action(invite),
			},
			{
				Name:      "accept",
				Usage:     "join a room you are invited to",
				ArgsUsage: "ID",
				Description: `Verifies the history of a room you were invited to, and from then on finds the
room by its name. Accepting again is no change. Whoever invites chooses the name: one
that another room here has is refused, until --as gives this one a name of its own.
` + exitStatus,
				UsageText: "unibus room ls\nunibus room accept ID\nunibus room accept ID --as team.west",
				Flags:     []cli.Flag{&cli.StringFlag{Name: flagAs, Usage: "call the room `NAME` here"}},
				Action:    cli.Action(accept),
			},
			{
				Name:      "leave",
				Usage:     "stop being a member of a room, as far as that is in your hands",
				ArgsUsage: "ROOM",
				Description: `Takes you out of a room. Only admins and owners sign who is in a room, and an admin may
not change who is an admin: an owner leaves where there is another one; for anybody else
the room's name is forgotten here, and the exit status is 3 with whom to ask.

` + roomArg + exitStatus,
				Action: cli.Action(leave),
			},
			{
				Name:      "forget",
				Usage:     "remove what is kept here of a room",
				ArgsUsage: "ROOM",
				Description: `Forgets the name of a room and how far workers have read it. Nobody is told, and
you stay a member.

With --pins which records you have accepted is forgotten too, and the proofs that are kept:
the next look believes whatever the servers show. That is for a fork that no owner can
resolve, after talking to the others; it is what a lying server would want.

` + roomArg + exitStatus,
				Flags:  []cli.Flag{&cli.BoolFlag{Name: flagPins, Usage: "forget which records were accepted, and all proofs"}},
				Action: cli.Action(forget),
			},
			{
				Name:      "remove",
				Usage:     "take members out of a room",
				ArgsUsage: "ROOM WHO...",
				Description: `Takes members out of a room: the next record has a key that they never get.
What they sent so far stays readable; to find it, the room is read once.

` + roomArg + exitStatus,
				Action: cli.Action(remove),
			},
			{
				Name:        "rotate",
				Usage:       "give a room a new key, and renew it",
				ArgsUsage:   "ROOM",
				Description: "Makes the next record with the same members and a new key, which also renews the\nroom for as long as it lived before.\n\n" + roomArg + exitStatus,
				Action:      cli.Action(rotate),
			},
			maintainCommand(),
			{
				Name:        "log",
				Usage:       "show the verified history of a room",
				ArgsUsage:   "ROOM",
				Description: "Shows every record of a room, each verified against the one before: its hash,\nwhen it was made, who signed it and what it changed. Two members who see the\nsame last hash see the same room.\n\nBelow are the proofs kept here: of forks, where two records follow the same one, and\nof members who signed two messages as one. Others check their files with: unibus room\nproof FILE\n\n" + roomArg + exitStatus,
				Action:      cli.Action(history),
			},
			proofCommand(),
			resolveCommand(),
		},
	}
}

func createCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "make a room",
		ArgsUsage: "NAME",
		Description: `Makes a room with you as its owner and only member, and prints its id. Servers
see neither the name nor what is sent, unless the room is made with --plain.

A name that a room made or accepted here has already is refused, since no command
would find either of them by it; with --yes a second room of that name is made.
` + exitStatus,
		UsageText: "unibus room create hello\nunibus room create agent.scout.in --live --pad\nunibus room create audit --no-history --rotate 24h --max-age 2160h",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: flagLive, Usage: "do not store messages: only who listens gets them"},
			&cli.BoolFlag{Name: flagPlain, Usage: "do not encrypt; for rooms whose content the servers may read and change"},
			&cli.BoolFlag{Name: flagNoHistory, Usage: "newcomers cannot read what was sent before they came"},
			&cli.BoolFlag{Name: flagPad, Usage: "hide the exact length of what is sent"},
			&cli.StringFlag{Name: flagSuite, Value: suiteNames[bus.SuiteXAESGCM], Usage: "encrypt with `xaes-256-gcm|xchacha20-poly1305`; it is fixed for good"},
			&cli.DurationFlag{Name: flagRotate, Value: bus.DefaultRotate, Usage: "give the room a new key after this `TIME`; 0 is never"},
			&cli.DurationFlag{Name: flagMaxAge, Usage: "servers may delete messages after this `TIME`; 0 is never"},
			&cli.DurationFlag{Name: flagGrace, Value: bus.MaxGrace, Usage: "in live rooms accept messages under the last key for this `TIME`"},
			&cli.DurationFlag{Name: flagLife, Value: bus.DefaultRecordLife, Usage: "the room expires if no admin renews it for this `TIME`"},
		},
		Action: cli.Action(create),
	}
}
