package room

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// forkKind says whether somebody is to blame for a fork, as --json prints it.
type forkKind string

const (
	forkRace         forkKind = "race"         // two signers, or a server between them
	forkEquivocation forkKind = "equivocation" // one signer
)

// branch is a record after which a room has two ways to go on.
type branch struct {
	Record       bus.RecordHash `json:"record"`
	Created      time.Time      `json:"created"`
	Members      int            `json:"members"`
	Signer       bus.SignPub    `json:"signer"`
	SignerID     bus.ID         `json:"signer_id"`
	SignerHandle bus.Handle     `json:"signer_handle,omitempty"`
}

// fork is the proof of a fork, as --json prints it.
type fork struct {
	Room     bus.RoomID     `json:"room"`
	Epoch    bus.Epoch      `json:"epoch"`  // of the two records
	Before   bus.RecordHash `json:"before"` // the record that both follow
	Kind     forkKind       `json:"kind"`
	Accepted branch         `json:"accepted"` // by whoever kept the proof
	Other    branch         `json:"other"`
	Seen     time.Time      `json:"seen,omitzero"`
	File     string         `json:"file"`
	// GivenUp is the record of the two that an owner gave up, and ResolvedBy the
	// epoch of the record that says so; missing while nobody has.
	GivenUp    *bus.RecordHash `json:"given_up,omitempty"`
	ResolvedBy *bus.Epoch      `json:"resolved_by,omitempty"`
}

// equivocation is the proof that a member signed two frames of one seq, as --json
// prints it.
type equivocation struct {
	Room    bus.RoomID       `json:"room"`
	Sender  bus.ID           `json:"sender"`
	Handle  bus.Handle       `json:"sender_handle,omitempty"`
	Signer  bus.SignPub      `json:"signer"`
	Session bus.SessionID    `json:"session"`
	Seq     bus.Seq          `json:"seq"`
	Epoch   bus.Epoch        `json:"epoch"`
	Frames  [2]bus.FrameHash `json:"frames"`
	Seen    time.Time        `json:"seen,omitzero"`
	File    string           `json:"file"`
}

// proofs is what is kept of a room, as --json prints it.
type proofs struct {
	Forks         []fork         `json:"forks"`
	Equivocations []equivocation `json:"equivocations"`
}

// handles says how an id is called here, "" where it is not known.
type handles func(bus.ID) bus.Handle

func nobody(bus.ID) bus.Handle { return "" }

func branchOf(rec *room.Record, names handles) branch {
	id := identity.IDOf(rec.Signer)
	return branch{
		Record: rec.Hash(), Created: rec.Created.UTC(), Members: rec.MemberCount(),
		Signer: rec.Signer, SignerID: id, SignerHandle: names(id),
	}
}

// forkOf tells a proof. records are the room's, as far as they are known: they say
// whether the fork is over.
func forkOf(p client.Proof, records []*room.Record, names handles) fork {
	f := fork{
		Room: p.Room(), Epoch: p.Fork.Known.Epoch, Before: p.Fork.Before.Hash(), Kind: forkRace,
		Accepted: branchOf(p.Fork.Known, names), Other: branchOf(p.Fork.Other, names), Seen: p.Seen.UTC().Truncate(time.Second), File: p.File,
	}
	if p.Fork.Equivocation() {
		f.Kind = forkEquivocation
	}
	for _, rec := range records {
		for _, lost := range []bus.RecordHash{f.Accepted.Record, f.Other.Record} {
			if f.GivenUp == nil && slices.Contains(rec.Resolves, lost) {
				f.GivenUp, f.ResolvedBy = &lost, &rec.Epoch
			}
		}
	}
	return f
}

func equivocationOf(p client.Proof, names handles) equivocation {
	e, h := p.Equivocation, p.Equivocation.Frame()
	return equivocation{
		Room: h.Room, Sender: h.Sender, Handle: names(h.Sender), Signer: e.SignPub, Session: h.Session, Seq: h.Seq, Epoch: h.Epoch,
		Frames: [2]bus.FrameHash{e.First.Hash(), e.Second.Hash()}, Seen: p.Seen.UTC().Truncate(time.Second), File: p.File,
	}
}

func proofsOf(list []client.Proof, records []*room.Record, names handles) proofs {
	out := proofs{Forks: []fork{}, Equivocations: []equivocation{}}
	for _, p := range list {
		if p.Fork != nil {
			out.Forks = append(out.Forks, forkOf(p, records, names))
		} else {
			out.Equivocations = append(out.Equivocations, equivocationOf(p, names))
		}
	}
	return out
}

func (f fork) print(c *cli.Call) {
	accepted, other := nameOf(f.Accepted.SignerID, f.Accepted.SignerHandle), nameOf(f.Other.SignerID, f.Other.SignerHandle)
	what := fmt.Sprintf("a race of %s and %s, or a server that showed each another head", accepted, other)
	if f.Kind == forkEquivocation {
		what = "equivocation: " + accepted + " has signed both"
	}
	c.Printf("\nfork at epoch %d: %s\n", f.Epoch, what)
	for _, side := range []struct {
		name string
		branch
		by string
	}{{"accepted", f.Accepted, accepted}, {"other", f.Other, other}} {
		given := ""
		if f.GivenUp != nil && *f.GivenUp == side.Record {
			given = fmt.Sprintf(", given up by record %d", *f.ResolvedBy)
		}
		c.Printf("  %-9s %s signed by %s at %s, %d members%s\n", side.name, side.Record, side.by, c.Time(side.Created), side.Members, given)
	}
	printKept(c, f.Seen, f.File)
}

func (e equivocation) print(c *cli.Call) {
	c.Printf("\nequivocation: %s has signed two frames as number %d of session %s\n", nameOf(e.Sender, e.Handle), e.Seq, e.Session)
	c.Printf("  %-9s %s and %s, epoch %d\n", "frames", e.Frames[0], e.Frames[1], e.Epoch)
	printKept(c, e.Seen, e.File)
}

func printKept(c *cli.Call, seen time.Time, file string) {
	c.Printf("  %-9s %s\n  %-9s %s\n", "seen", c.Time(seen), "proof", file)
}

func (p proofs) print(c *cli.Call) {
	for _, f := range p.Forks {
		f.print(c)
	}
	for _, e := range p.Equivocations {
		e.print(c)
	}
}

func proofCommand() *cli.Command {
	return &cli.Command{
		Name:      "proof",
		Usage:     "check a proof of a fork, or that a member signed two messages as one",
		ArgsUsage: "FILE",
		Description: `Checks a proof that ` + "`unibus room log`" + ` names, with nothing but its signatures: no bus,
context or identity is needed, so anybody can be shown it. It tells nothing of what
was said. The file of a fork has three records: compare the first one's hash with
` + "`unibus room log`" + ` of somebody in the room.

Exit status: 0 the proof holds; 1 it does not, or cannot be read; 2 wrong usage.`,
		Action: cli.Action(proof),
	}
}

func proof(c *cli.Call) error {
	p, err := client.ReadProof(c.Arg(0))
	if err != nil {
		return err
	}
	if p.Fork != nil {
		f := forkOf(p, nil, nobody)
		if c.WantsJSON() {
			return c.JSON(struct {
				Fork fork `json:"fork"`
			}{f})
		}
		c.Printf("room %s\n", f.Room)
		f.print(c)
		c.Printf("  %-9s %s\n", "after", f.Before)
		if p.Fork.Before.IsGenesis() {
			c.Note("it holds: the record that both follow is the room's first, which the room is named after")
		} else {
			c.Note("it holds if record %s is in the room's log, as record %d", f.Before, f.Epoch-1)
		}
		return nil
	}
	e := equivocationOf(p, nobody)
	if c.WantsJSON() {
		return c.JSON(struct {
			Equivocation equivocation `json:"equivocation"`
		}{e})
	}
	c.Printf("room %s\n", e.Room)
	e.print(c)
	c.Note("it holds: the key %s has signed both", e.Signer)
	return nil
}

const (
	flagKeep    = "keep"
	flagProof   = "proof"
	flagMembers = "members"
	flagPast    = "past"
	flagRewind  = "rewind"
	flagDryRun  = "dry-run"

	membersKept = "kept"
	membersLost = "lost"
)

func resolveCommand() *cli.Command {
	return &cli.Command{
		Name:      "resolve",
		Usage:     "end a fork of a room, as its owner",
		ArgsUsage: "ROOM",
		Description: `A room whose records go on in two ways is closed to everybody who has seen both, until
an owner gives one up. This shows both ways, asks, and signs a record that keeps the
one that the servers show; whoever is on the other goes over to it by themselves.
Messages that were sent on the other are then not readable any more.

What you have accepted and the proofs you keep say what is given up; of a fork that
only somebody else has seen, --proof takes the file that their room log names, and
--past the epoch they are at. If the members were right on the way that is given up
(an admin added somebody on the other), --members lost takes them over.

After a restore from a backup the servers show fewer records than you have accepted.
With --rewind the room goes on from there.

` + roomArg + exitStatus,
		UsageText: "unibus room resolve hello --dry-run\nunibus room resolve hello --proof fork-abc --past 17\nunibus room resolve hello --members lost --yes",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagKeep, Usage: "end without doing anything unless this `RECORD` is on the way that is kept"},
			&cli.StringSliceFlag{Name: flagProof, Usage: "`FILE` of a proof that somebody else has handed over"},
			&cli.StringFlag{Name: flagMembers, Value: membersKept, Usage: "go on with the members of the way that is `kept|lost`"},
			&cli.Uint64Flag{Name: flagPast, Usage: "make the way that is kept go beyond `EPOCH`, which others have reached on the other"},
			&cli.BoolFlag{Name: flagRewind, Usage: "give up records in whose place the servers show none"},
			&cli.BoolFlag{Name: flagDryRun, Usage: "show both ways and change nothing"},
		},
		Action: cli.Action(resolve),
	}
}

// side is a way that is given up, as --json prints it.
type side struct {
	First      bus.RecordHash `json:"first"`
	At         bus.Epoch      `json:"at"`   // of first
	Last       bus.Epoch      `json:"last"` // epoch, as far as is known
	Behind     bool           `json:"behind"`
	ResolvedBy *bus.Epoch     `json:"resolved_by,omitempty"`
	Changes    []change       `json:"changes"` // from the members kept to those of this way; empty if they are not known
}

// review is a fork before or after its resolution, as --json prints it.
type review struct {
	head
	Hash     bus.RecordHash `json:"hash"`
	Lost     []side         `json:"lost"`
	Resolved bool           `json:"resolved"`
}

func reviewOf(f *client.Fork, names map[bus.ID]bus.Handle) review {
	last := f.Head()
	out := review{head: head{Room: f.Room, Name: f.Name, Epoch: last.Epoch}, Hash: last.Hash(), Lost: []side{}, Resolved: f.Resolved()}
	for _, b := range f.Lost {
		s := side{First: b.First, At: b.At, Last: b.Last, Behind: b.Behind, Changes: []change{}}
		if b.ResolvedBy != 0 {
			s.ResolvedBy = &b.ResolvedBy
		}
		if b.Head != nil {
			s.Changes = slices.DeleteFunc(changesOf(last, b.Head, names), func(c change) bool {
				return c.Kind == changeRenewed || c.Kind == changeResolve || c.Kind == changeCard
			})
		}
		out.Lost = append(out.Lost, s)
	}
	return out
}

func (r review) print(c *cli.Call) {
	c.Printf("kept: epoch %d, record %s\n", r.Epoch, r.Hash)
	for _, s := range r.Lost {
		state := ""
		switch {
		case s.ResolvedBy != nil:
			state = fmt.Sprintf(", given up by record %d", *s.ResolvedBy)
		case s.Behind:
			state = "; the servers show nothing in its place"
		}
		c.Printf("lost: from epoch %d, record %s, to epoch %d at least%s\n", s.At, s.First, s.Last, state)
		for _, d := range s.Changes {
			c.Printf("      there, instead: %s\n", d)
		}
	}
}

func resolve(c *cli.Call) error {
	how := client.Resolution{Past: bus.Epoch(c.Uint64(flagPast)), Rewind: c.Bool(flagRewind)}
	switch of := c.String(flagMembers); of {
	case membersKept:
	case membersLost:
		how.TakeMembers = true
	default:
		return cli.Usagef("--%s %.80q: want %s or %s", flagMembers, of, membersKept, membersLost)
	}
	var keep bus.RecordHash
	if c.IsSet(flagKeep) {
		var err error
		if keep, err = bus.ParseRecordHash(c.String(flagKeep)); err != nil {
			return cli.BadArg("--"+flagKeep, err)
		}
	}
	var given []*room.Fork
	for _, name := range c.StringSlice(flagProof) {
		p, err := client.ReadProof(name)
		switch {
		case err != nil:
			return err
		case p.Fork == nil:
			return cli.Usagef("--%s %s: it is of two frames, and not of a fork", flagProof, name)
		}
		given = append(given, p.Fork)
	}
	return with(c, func(ctx context.Context, cl *client.Client) error {
		id, err := connect.RoomID(cl, c.Arg(0))
		if err != nil {
			return err
		}
		f, err := busy(c, "reviewing the room", func() (*client.Fork, error) { return cl.ReviewFork(ctx, id, given...) })
		if err != nil {
			return err
		}
		return settle(ctx, c, cl, f, how, keep)
	})
}

// settle shows a fork, asks, and resolves it.
func settle(ctx context.Context, c *cli.Call, cl *client.Client, f *client.Fork, how client.Resolution, keep bus.RecordHash) error {
	names := handlesIn(cl, c.WantsJSON(), f.Head())
	for _, b := range f.Lost {
		if b.Head != nil {
			for id, handle := range handlesIn(cl, c.WantsJSON(), b.Head) {
				names[id] = handle
			}
		}
	}
	before := reviewOf(f, names)
	if c.Bool(flagDryRun) || before.Resolved && how.Past < before.Epoch {
		if before.Resolved {
			c.Note("%s has no fork that is left to be resolved, as far as is known here", before.Name)
		}
		if c.WantsJSON() {
			return c.JSON(before)
		}
		before.print(c)
		return nil
	}
	if !keep.IsZero() && !slices.ContainsFunc(f.Shown, func(rec *room.Record) bool { return rec.Hash() == keep }) {
		return cli.WithHint(bus.Errorf(bus.CodeUsage, "keep record %s: the servers do not show it, and take records after what they show only", keep),
			"to keep its members: unibus room resolve %s --members lost; else make a new room", connect.RoomArg(f.Room))
	}
	if !c.WantsJSON() {
		before.print(c)
	}
	if err := c.Confirm("give up what is lost, for all members of %s?", before.Name); err != nil {
		return err
	}
	if err := apply(c, "resolving", func() error { return f.Resolve(ctx, how) }); err != nil {
		if how.Rewind || !slices.ContainsFunc(f.Lost, func(b client.LostBranch) bool { return b.Behind }) {
			return err
		}
		return cli.WithHint(err, "after a restore from a backup: unibus room resolve %s --rewind", connect.RoomArg(f.Room))
	}
	after := reviewOf(f, names)
	after.Resolved = true
	c.Note("%s goes on at epoch %d; members on the other way go over to it by themselves", after.Name, after.Epoch)
	if c.WantsJSON() {
		return c.JSON(after)
	}
	c.Printf("epoch %d\n", after.Epoch)
	return nil
}

// handlesIn returns how the members of a record are called here, for people with
// their own name too.
func handlesIn(cl *client.Client, asJSON bool, rec *room.Record) map[bus.ID]bus.Handle {
	names := map[bus.ID]bus.Handle{}
	for _, m := range rec.Members() {
		names[m.ID] = cl.HandleOf(m.ID)
	}
	if names[cl.ID()] == "" && !asJSON {
		names[cl.ID()] = you
	}
	return names
}
