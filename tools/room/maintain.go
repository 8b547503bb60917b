package room

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
)

// defaultEvery is how often rooms are looked after: often enough for a room
// that rotates every few minutes, and cheap, since clients hear of new records
// by themselves.
const defaultEvery = time.Minute

func maintainCommand() *cli.Command {
	return &cli.Command{
		Name:      "maintain",
		Usage:     "keep rooms from expiring, and rotate their keys",
		ArgsUsage: "[ROOM...]",
		Description: `Renews rooms past half of their life, gives them a new key when their policy
wants it, and takes out members whose accounts were revoked, with a new key too, so
that they get none any more. It does so for the rooms named, or else all that were made or accepted here and of
which you are an admin or owner. It runs until it is interrupted, as a service
of an identity that is admin of the rooms; what goes wrong is reported and tried
again. Any other running client of an admin does the same for the rooms it uses, but
for one thing: that somebody was revoked it believes only if it is signed, by the bus
root or their own key. Here the word of a server is enough, unless --proven is given.

` + roomArg + `
Exit status: 0 ended by Ctrl-C or SIGTERM, or all done with --once; 1 failed;
2 wrong usage; 3 with --once: failed for a part of the rooms; 4 denied; 5 the bus
cannot be reached.`,
		UsageText: "unibus room maintain\nunibus room maintain hello --once",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: flagOnce, Usage: "look after the rooms once and end"},
			&cli.BoolFlag{Name: flagProven, Usage: "take out only members whose revocation is signed"},
			&cli.DurationFlag{Name: flagEvery, Value: defaultEvery, Usage: "look after the rooms every `TIME`"},
		},
		Action: cli.Action(maintain),
	}
}

func maintain(c *cli.Call) error {
	every := c.Duration(flagEvery)
	if every < time.Second {
		return cli.Usagef("--%s %s: want at least 1s", flagEvery, every)
	}
	names := slices.Clone(c.Args().Slice())
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, idPrefix)
	}
	return with(c, func(ctx context.Context, cl *client.Client) error {
		k := &keeper{call: c, client: cl, names: names, seen: map[bus.RoomID]bus.Epoch{}}
		if c.Bool(flagOnce) {
			return k.once(ctx)
		}
		return k.run(ctx, every)
	})
}

// keeper looks after rooms.
type keeper struct {
	call   *cli.Call
	client *client.Client
	names  []string // "" for all
	seen   map[bus.RoomID]bus.Epoch
}

// once looks after every room, and fails if any of them fails.
func (k *keeper) once(ctx context.Context) error {
	rooms, errs := k.rooms(ctx)
	for _, r := range rooms {
		if err := k.tend(ctx, r); err != nil {
			errs = append(errs, err)
		}
	}
	if len(rooms) == 0 {
		return errors.Join(errs...)
	}
	return cli.WithExit(errors.Join(errs...), cli.ExitPartial)
}

// run looks after every room again and again. It ends when it is interrupted,
// which is no error, or when the bus does not let this identity in any more.
func (k *keeper) run(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	told := -1
	for {
		rooms, errs := k.rooms(ctx)
		if len(rooms) != told {
			k.call.Note("maintaining %d rooms", len(rooms))
			told = len(rooms)
		}
		for _, r := range rooms {
			errs = append(errs, k.tend(ctx, r))
		}
		for _, err := range errs {
			if err != nil && ctx.Err() == nil {
				k.call.Warn("%s; it is tried again in %s", err, every)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		case <-k.client.Done():
			return k.client.Err()
		}
	}
}

// rooms returns the rooms to look after, and why others cannot be.
func (k *keeper) rooms(ctx context.Context) (rooms []*client.Room, errs []error) {
	names := k.names
	if len(names) == 0 {
		infos, err := k.client.Rooms(ctx)
		if err != nil {
			return nil, []error{fmt.Errorf("list rooms: %w", err)}
		}
		for _, info := range infos {
			switch {
			case !info.Accepted:
			case info.Err != nil:
				errs = append(errs, fmt.Errorf("room %s: %w", info.ID, info.Err))
			case info.Role.IsAuthority():
				names = append(names, info.ID.String())
			}
		}
	}
	for _, name := range names {
		r, err := k.client.Room(ctx, name)
		if err == nil && !r.Role().IsAuthority() {
			err = bus.Errorf(bus.CodeNotAuthority, "maintain room %s: you are no admin of it", r.Name())
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rooms = append(rooms, r)
	}
	return rooms, errs
}

// deed is what happened to a room, as --json prints it.
type deed string

const (
	deedRenewed deed = "renewed" // here: a new key, for the time of the policy
	deedRemoved deed = "removed" // here: members who were revoked, with a new key
	deedChanged deed = "changed" // by somebody else, or by this client in the background
)

// tended is a new epoch of a room, as --json prints it.
type tended struct {
	head
	Did     deed          `json:"did"`
	Removed []goneForGood `json:"removed,omitempty"`
}

// goneForGood is a member who was taken out because their account ended.
type goneForGood struct {
	ID     bus.ID     `json:"id"`
	Handle bus.Handle `json:"handle,omitempty"`
	Proven bool       `json:"proven"` // by signature, and not by the word of a server alone
}

// tend takes revoked members out of a room and renews it if it is due. It tells of
// every new epoch, also of those that others made or the client made by itself.
func (k *keeper) tend(ctx context.Context, r *client.Room) error {
	if err := r.Refresh(ctx); err != nil {
		if connect.Forked(err) {
			return cli.WithHint(err, "what happened: unibus room log %s", connect.RoomArg(r.ID()))
		}
		return err
	}
	if before, known := k.seen[r.ID()]; known && r.Epoch() > before {
		k.tell(r, deedChanged, nil)
	}
	k.seen[r.ID()] = r.Epoch()
	gone, err := r.RemoveRevoked(ctx, !k.call.Bool(flagProven))
	if err != nil {
		return fmt.Errorf("maintain room %s: %w", r.Name(), err)
	}
	if len(gone) > 0 {
		k.tell(r, deedRemoved, gone)
	}
	before := r.Epoch()
	if err := r.RenewIfDue(ctx); err != nil {
		return fmt.Errorf("maintain room %s: %w", r.Name(), err)
	}
	if r.Epoch() > before {
		k.tell(r, deedRenewed, nil)
	}
	return nil
}

// tell reports the epoch of a room.
func (k *keeper) tell(r *client.Room, did deed, gone []client.Standing) {
	k.seen[r.ID()] = r.Epoch()
	t := tended{head: headOf(r), Did: did}
	words := []string{string(did)}
	for _, s := range gone {
		g := goneForGood{ID: s.ID, Handle: k.client.HandleOf(s.ID), Proven: s.Proven}
		t.Removed = append(t.Removed, g)
		word := "by the word of a server"
		if g.Proven {
			word = "proven"
		}
		words = append(words, fmt.Sprintf("%s (revoked, %s)", nameOf(g.ID, g.Handle), word))
	}
	if k.call.WantsJSON() {
		// What cannot be written ends the command by itself.
		_ = k.call.JSON(t)
		return
	}
	k.call.Printf("%s epoch %d %s\n", t.Name, t.Epoch, strings.Join(words, " "))
}
