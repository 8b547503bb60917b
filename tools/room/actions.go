package room

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// with runs f with a connected client and closes it.
func with(c *cli.Call, f func(ctx context.Context, cl *client.Client) error) (err error) {
	ctx := c.Context
	cl, err := connect.Dial(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connect.Close(cl)) }()
	return f(ctx, cl)
}

// withRoom is with and the room of the first argument.
func withRoom(c *cli.Call, f func(ctx context.Context, cl *client.Client, r *client.Room) error) error {
	return with(c, func(ctx context.Context, cl *client.Client) error {
		r, err := busy(c, "verifying the room", func() (*client.Room, error) {
			return connect.Room(ctx, cl, c.Arg(0))
		})
		if err != nil {
			return err
		}
		return f(ctx, cl, r)
	})
}

// busy runs a part of a command that waits for the bus, showing that it is at
// work if that takes long.
func busy[T any](c *cli.Call, label string, f func() (T, error)) (T, error) {
	work := c.Progress(label, 0)
	defer work.Close()
	return f()
}

// apply is busy for what makes the next record of a room.
func apply(c *cli.Call, label string, f func() error) error {
	_, err := busy(c, label, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// warnOfNamesakes tells that more than one room is called the same here, so that
// none of them is found by its name any more.
func warnOfNamesakes(c *cli.Call, cl *client.Client, name bus.RoomName) {
	switch ids, err := cl.RoomsNamed(name); {
	case err != nil:
		c.Warn("whether another room of yours is called %s too is not known: %s", name, err)
	case len(ids) > 1:
		c.Warn("another room of yours is called %s too; use their ids: unibus room ls", name)
	}
}

// checkUnused refuses a name that a room of this identity has here already,
// unless --yes says that a second one is meant: no command would find either of
// them by its name any more.
func checkUnused(c *cli.Call, cl *client.Client, name bus.RoomName) error {
	ids, err := cl.RoomsNamed(name)
	if err != nil || len(ids) == 0 || c.Bool("yes") {
		return err
	}
	return cli.WithHint(bus.Errorf(bus.CodeExists, "create room %s: room %s of yours is called so already", name, ids[0]),
		"choose another name, or make a second room of that name: --yes")
}

// idPrefix marks an id, of a room or of somebody.
const idPrefix = "id:"

// head is what commands that make or change a room print with --json.
type head struct {
	Room  bus.RoomID   `json:"room"`
	Name  bus.RoomName `json:"name"`
	Epoch bus.Epoch    `json:"epoch"`
	As    bus.RoomName `json:"as,omitempty"` // what it was accepted as here
}

func headOf(r *client.Room) head { return head{Room: r.ID(), Name: r.Name(), Epoch: r.Epoch()} }

// minLife is the shortest life of a room that is given without being sure.
const minLife = time.Hour

func create(c *cli.Call) error {
	name, err := bus.ParseRoomName(c.Arg(0))
	if err != nil {
		return cli.BadArg("NAME", err)
	}
	policy, err := readPolicy(c)
	if err != nil {
		return err
	}
	life := c.Duration(flagLife)
	if life < time.Second || life > bus.MaxRecordLife || life%time.Second != 0 {
		return cli.Usagef("--%s %s: want whole seconds, at most %s", flagLife, life, bus.MaxRecordLife)
	}
	if life < minLife && !c.Bool("yes") {
		return cli.WithHint(cli.Usagef("--%s %s: nobody may send any more after that, unless an admin is there to renew the room", flagLife, life),
			"give it %s or more, or add --yes for a room that is to end so soon", minLife)
	}
	return with(c, func(ctx context.Context, cl *client.Client) error {
		if err := checkUnused(c, cl, name); err != nil {
			return err
		}
		r, err := busy(c, "making the room", func() (*client.Room, error) {
			return cl.CreateRoom(ctx, name, client.RoomOptions{Policy: &policy, Life: life})
		})
		if err != nil {
			return fmt.Errorf("create room %s: %w", name, err)
		}
		warnOfNamesakes(c, cl, name)
		c.Note("created room %s: %s", name, describePolicy(policy))
		if c.WantsJSON() {
			return c.JSON(headOf(r))
		}
		c.Printf("%s\n", r.ID())
		return nil
	})
}

func accept(c *cli.Call) error {
	id, err := bus.ParseRoomID(strings.TrimPrefix(c.Arg(0), idPrefix))
	if err != nil {
		return cli.WithHint(cli.BadArg("ID", err), "unibus room ls shows the ids of the rooms you are invited to")
	}
	as := bus.RoomName(c.String(flagAs))
	if as != "" {
		if _, err := bus.ParseRoomName(string(as)); err != nil {
			return cli.BadArg("--"+flagAs, err)
		}
	}
	return with(c, func(ctx context.Context, cl *client.Client) error {
		r, err := busy(c, "verifying the room", func() (*client.Room, error) { return cl.AcceptRoomAs(ctx, id, as) })
		if errors.Is(err, bus.ErrExists) {
			return cli.WithHint(fmt.Errorf("accept room %s: %w", id, err),
				"accept it under another name: unibus room accept %s --as NAME", connect.RoomArg(id))
		}
		if err != nil {
			return fmt.Errorf("accept room %s: %w", id, err)
		}
		h := headOf(r)
		if as != "" {
			h.As = as
		}
		by := ""
		if inviter := r.InvitedBy(); !inviter.IsZero() {
			by = ", invited by " + person{id: inviter, handle: cl.HandleOf(inviter)}.String()
		}
		c.Note("accepted room %s, as its %s%s", cmp.Or(as, r.Name()), r.Role(), by)
		if c.WantsJSON() {
			return c.JSON(h)
		}
		c.Printf("%s\n", cmp.Or(as, r.Name()))
		return nil
	})
}

// leaving is what leave and forget print with --json.
type leaving struct {
	head
	Left bool     `json:"left"` // no member any more
	Ask  []member `json:"ask"`  // who can take this identity out; empty if it is no member
}

func leave(c *cli.Call) error {
	return withRoom(c, func(ctx context.Context, cl *client.Client, r *client.Room) error {
		out := leaving{head: headOf(r), Ask: []member{}}
		others := map[bus.ID]client.Member{}
		for _, m := range r.Members() {
			if m.ID != cl.ID() {
				others[m.ID] = m
			}
		}
		switch role := r.Role(); {
		case !role.Valid():
			out.Left = true
		case role == bus.RoleOwner && !hasOwner(others):
			return cli.WithHint(bus.Errorf(bus.CodeTransition, "leave room %s: it would be without an owner", out.Name),
				"make somebody else its owner first: unibus room invite %s WHO --role owner", connect.RoomArg(r.ID()))
		case role == bus.RoleOwner:
			if err := apply(c, "leaving", func() error { return r.Remove(ctx, cl.ID().String()) }); err != nil {
				return fmt.Errorf("leave room %s: %w", out.Name, err)
			}
			out.Left, out.Epoch = true, r.Epoch()
		default:
			// Only who has authority signs records: an admin may not even take out
			// themselves, since they may not change who is an admin.
			for _, m := range r.Members() {
				if m.ID != cl.ID() && (m.Role == bus.RoleOwner || m.Role == bus.RoleAdmin && !role.IsAuthority()) {
					out.Ask = append(out.Ask, memberOf(m))
				}
			}
		}
		if _, err := cl.ForgetRoom(ctx, r.ID(), false); err != nil {
			return err
		}
		if c.WantsJSON() {
			if err := c.JSON(out); err != nil {
				return err
			}
		}
		if out.Left {
			c.Note("left %s", out.Name)
			return nil
		}
		return cli.WithExit(cli.WithHint(bus.Errorf(bus.CodeNotAuthority, "leave room %s: its name is forgotten here, and you are still a member", out.Name),
			"ask %s to run: unibus room remove %s %s", askedOf(out.Ask), connect.RoomArg(r.ID()), whoArg(cl.ID())), cli.ExitPartial)
	})
}

// askedOf names a few people.
func askedOf(people []member) string {
	var names []string
	for _, m := range people[:min(len(people), 3)] {
		names = append(names, nameOf(m.ID, m.Handle))
	}
	return strings.Join(names, " or ")
}

func forget(c *cli.Call) error {
	return with(c, func(ctx context.Context, cl *client.Client) error {
		id, err := connect.RoomID(cl, c.Arg(0))
		if err != nil {
			return err
		}
		pins := c.Bool(flagPins)
		if pins {
			if err := c.Confirm("believe whatever the servers show of room %s from now on?", id); err != nil {
				return err
			}
		}
		named, err := cl.ForgetRoom(ctx, id, pins)
		switch {
		case err != nil:
			return err
		case !named && !pins:
			return bus.Errorf(bus.CodeNotFound, "forget room %s: it has no name here", id)
		}
		c.Note("forgot room %s; as far as you are a member, this brings it back: unibus room accept %s", id, connect.RoomArg(id))
		if c.WantsJSON() {
			return c.JSON(struct {
				Room bus.RoomID `json:"room"`
				Pins bool       `json:"pins"`
			}{id, pins})
		}
		return nil
	})
}

// person is somebody as the command line names them.
type person struct {
	id      bus.ID
	handle  bus.Handle // "" if they were named by id or key
	trusted bool       // this call pinned the handle, and only the server vouches for it
	signed  bool       // the root of the bus vouches for the handle
	revoked bool       // as far as the server says; not known for an id or key
}

func (p person) String() string {
	if p.handle != "" {
		return fmt.Sprintf("%s (%s)", p.handle, p.id.Fingerprint())
	}
	return p.id.String()
}

// whoArg writes an id so that no command takes it for a flag.
func whoArg(id bus.ID) string {
	text := id.String()
	if strings.HasPrefix(text, "-") {
		return idPrefix + text
	}
	return text
}

// find reads an id, a key or a handle.
func find(ctx context.Context, cl *client.Client, text string) (person, error) {
	if rest, ok := strings.CutPrefix(text, idPrefix); ok {
		id, err := bus.ParseID(rest)
		if err != nil {
			return person{}, cli.BadArg("WHO", err)
		}
		return person{id: id}, nil
	}
	if id, err := bus.ParseID(text); err == nil {
		return person{id: id}, nil
	}
	if key, err := bus.ParseSignPub(text); err == nil {
		return person{id: identity.IDOf(key)}, nil
	}
	handle, err := bus.ParseHandle(text)
	if err != nil {
		return person{}, cli.Usagef("WHO: %.80q is no handle, id or key", text)
	}
	peer, err := cl.Resolve(ctx, handle)
	if errors.Is(err, bus.ErrNotFound) {
		return person{}, cli.WithHint(bus.Errorf(bus.CodeNotFound, "find %s: nobody on this bus has that handle", handle),
			"check the spelling; an administrator adds people: unibus usermgr add %s SIGN_PUB", handle)
	}
	if err != nil {
		return person{}, fmt.Errorf("find %s: %w", handle, err)
	}
	return person{id: peer.ID, handle: handle, trusted: peer.Pinned && !peer.Signed, signed: peer.Signed, revoked: peer.Status == bus.UserRevoked}, nil
}

func invite(c *cli.Call) error {
	role, err := bus.ParseRole(c.String(flagRole))
	if err != nil {
		return cli.BadArg("--"+flagRole, err)
	}
	return withRoom(c, func(ctx context.Context, cl *client.Client, r *client.Room) error {
		p, err := find(ctx, cl, c.Arg(1))
		if err != nil {
			return err
		}
		if p.revoked {
			return bus.Errorf(bus.CodeRevoked, "invite %s: the account was revoked", p)
		}
		switch {
		case p.trusted:
			c.Note("the handle %s is the server's word, pinned now; compare their fingerprint, %s", p.handle, p.id.Fingerprint())
		case p.signed:
			c.Note("the bus root vouches for the handle %s", p.handle)
		case p.handle != "":
			c.Note("the handle %s is who it was when it was first used here", p.handle)
		}
		had, err := busy(c, "inviting", func() (bus.Role, error) {
			if c.Source(flagRole) == "default" {
				return r.Add(ctx, p.id.String(), role)
			}
			before := r.Epoch()
			err := r.Invite(ctx, p.id.String(), role)
			if err == nil && r.Epoch() == before {
				return role, nil
			}
			return 0, err
		})
		if errors.Is(err, bus.ErrNotFound) {
			// Whoever has published no card has no key to seal the room's to.
			return cli.WithHint(bus.Errorf(bus.CodeNotFound, "invite %s: they have not signed in yet: %w", p, err),
				"have them run: unibus context validate")
		}
		if err != nil {
			return fmt.Errorf("invite %s: %w", p, err)
		}
		if had.Valid() {
			c.Note("%s is %s of %s already; nothing was changed", p, had, r.Name())
		} else {
			c.Note("%s is now %s of %s; they run: unibus room accept %s", p, role, r.Name(), connect.RoomArg(r.ID()))
		}
		return printHead(c, r)
	})
}

func remove(c *cli.Call) error {
	return withRoom(c, func(ctx context.Context, cl *client.Client, r *client.Room) error {
		if err := r.Refresh(ctx); err != nil {
			return err
		}
		members := map[bus.ID]client.Member{}
		for _, m := range r.Members() {
			members[m.ID] = m
		}
		left := maps.Clone(members)
		var ids, names []string
		for _, who := range c.Args().Slice()[1:] {
			p, err := findMember(ctx, cl, members, who)
			if err != nil {
				return err
			}
			if _, ok := members[p.id]; !ok {
				return cli.WithHint(bus.Errorf(bus.CodeNotFound, "remove %s: no member of %s", p, r.Name()), "unibus room show %s", connect.RoomArg(r.ID()))
			}
			ids, names = append(ids, p.id.String()), append(names, p.String())
			delete(left, p.id)
		}
		if r.Role() == bus.RoleOwner && !hasOwner(left) {
			return cli.WithHint(bus.Errorf(bus.CodeTransition, "remove %s: the room would be without an owner", strings.Join(names, ", ")),
				"make somebody else its owner first: unibus room invite %s WHO --role owner", connect.RoomArg(r.ID()))
		}
		// Whoever removes themselves cannot read it afterwards.
		was := headOf(r)
		if err := apply(c, "removing", func() error { return r.Remove(ctx, ids...) }); err != nil {
			return fmt.Errorf("remove %s: %w", strings.Join(names, ", "), err)
		}
		c.Note("removed %s from %s", strings.Join(names, ", "), was.Name)
		was.Epoch = r.Epoch()
		return printEpoch(c, was)
	})
}

func hasOwner(members map[bus.ID]client.Member) bool {
	for _, m := range members {
		if m.Role == bus.RoleOwner {
			return true
		}
	}
	return false
}

// findMember is find, but takes the handle of a member from the room: somebody
// whose account was revoked must still be removed.
func findMember(ctx context.Context, cl *client.Client, members map[bus.ID]client.Member, who string) (person, error) {
	for _, m := range members {
		if m.Handle != "" && string(m.Handle) == who {
			return person{id: m.ID, handle: m.Handle}, nil
		}
	}
	return find(ctx, cl, who)
}

func rotate(c *cli.Call) error {
	return withRoom(c, func(ctx context.Context, _ *client.Client, r *client.Room) error {
		if err := apply(c, "rotating", func() error { return r.Rotate(ctx) }); err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
		c.Note("%s has a new key", r.Name())
		return printHead(c, r)
	})
}

// printHead tells which epoch a change led to.
func printHead(c *cli.Call, r *client.Room) error { return printEpoch(c, headOf(r)) }

func printEpoch(c *cli.Call, h head) error {
	if c.WantsJSON() {
		return c.JSON(h)
	}
	c.Printf("epoch %d\n", h.Epoch)
	return nil
}
