package room

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/room"
)

// listed is a room in the list, as --json prints it.
type listed struct {
	Room            bus.RoomID   `json:"room"`
	Name            bus.RoomName `json:"name"` // "" if it could not be verified
	Role            string       `json:"role"`
	Epoch           bus.Epoch    `json:"epoch"`
	Persisted       bool         `json:"persisted"`
	Accepted        bool         `json:"accepted"`
	As              bus.RoomName `json:"as,omitempty"` // what it is called here, where that is not its name
	InvitedBy       *bus.ID      `json:"invited_by,omitempty"`
	InvitedByHandle bus.Handle   `json:"invited_by_handle,omitempty"`
	Error           string       `json:"error,omitempty"`
	Code            bus.Code     `json:"code,omitempty"`
}

func list(c *cli.Call) error {
	return with(c, func(ctx context.Context, cl *client.Client) error {
		infos, err := busy(c, "verifying rooms", func() ([]client.RoomInfo, error) { return cl.Rooms(ctx) })
		if err != nil {
			return fmt.Errorf("list rooms: %w", err)
		}
		slices.SortFunc(infos, func(a, b client.RoomInfo) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
		})
		rooms := make([]listed, len(infos))
		var failed []error
		for i, r := range infos {
			rooms[i] = listed{Room: r.ID, Name: r.Name, Role: roleName(r.Role), Epoch: r.Epoch, Persisted: r.Persisted, Accepted: r.Accepted, As: r.As}
			if !r.InvitedBy.IsZero() {
				rooms[i].InvitedBy, rooms[i].InvitedByHandle = &r.InvitedBy, cl.HandleOf(r.InvitedBy)
			}
			if r.Err != nil {
				rooms[i].Error, rooms[i].Code = r.Err.Error(), bus.CodeOf(r.Err)
				failed = append(failed, fmt.Errorf("room %s: %w", r.ID, r.Err))
			}
		}
		if err := printList(c, rooms); err != nil {
			return err
		}
		return cli.WithExit(errors.Join(failed...), cli.ExitPartial)
	})
}

func printList(c *cli.Call, rooms []listed) error {
	if c.WantsJSON() {
		return c.JSON(struct {
			Rooms []listed `json:"rooms"`
		}{rooms})
	}
	rows := make([][]string, len(rooms))
	for i, r := range rooms {
		kind, state := "live", "invited"
		if r.Persisted {
			kind = "stored"
		}
		switch {
		case r.Accepted:
			state = "accepted"
		case r.InvitedBy != nil:
			state = "invited by " + nameOf(*r.InvitedBy, r.InvitedByHandle)
		}
		if r.Code != "" {
			state = string(r.Code)
		}
		rows[i] = []string{string(cmp.Or(r.As, r.Name)), r.Room.String(), r.Role, strconv.FormatUint(uint64(r.Epoch), 10), kind, state}
	}
	c.Table([]string{"name", "room", "role", "epoch", "kind", "state"}, rows)
	return nil
}

// member is a member of a room, as --json prints it.
type member struct {
	ID          bus.ID     `json:"id"`
	Handle      bus.Handle `json:"handle,omitempty"` // as pinned here
	Fingerprint string     `json:"fingerprint"`
	Role        string     `json:"role"`
}

func memberOf(m client.Member) member {
	return member{ID: m.ID, Handle: m.Handle, Fingerprint: m.ID.Fingerprint(), Role: m.Role.String()}
}

// shown is a room in full, as --json prints it.
type shown struct {
	head
	Hash            bus.RecordHash `json:"hash"`
	Role            string         `json:"role"` // of this identity
	InvitedBy       *bus.ID        `json:"invited_by,omitempty"`
	InvitedByHandle bus.Handle     `json:"invited_by_handle,omitempty"`
	Policy          policyJSON     `json:"policy"`
	Created         time.Time      `json:"created"` // of the newest record
	NotAfter        time.Time      `json:"not_after"`
	Members         []member       `json:"members"`
}

func show(c *cli.Call) error {
	return withRoom(c, func(ctx context.Context, cl *client.Client, r *client.Room) error {
		records, err := busy(c, "reading the room", func() ([]*room.Record, error) { return r.Log(ctx) })
		if err != nil {
			return err
		}
		if !r.Role().Valid() {
			return cli.WithHint(bus.Errorf(bus.CodeNotMember, "show room %s: no longer a member since epoch %d", c.Arg(0), r.Epoch()),
				"what it was until then: unibus room log %s", connect.RoomArg(r.ID()))
		}
		last := records[len(records)-1]
		s := shown{
			head: headOf(r), Hash: last.Hash(), Role: roleName(r.Role()), Policy: policyOf(last.Policy),
			Created: last.Created.UTC(), NotAfter: last.NotAfter.UTC(), Members: []member{},
		}
		for _, m := range r.Members() {
			s.Members = append(s.Members, memberOf(m))
		}
		invitedBy := "nobody: you made it"
		if by := r.InvitedBy(); !by.IsZero() {
			s.InvitedBy, s.InvitedByHandle = &by, cl.HandleOf(by)
			invitedBy = person{id: by, handle: s.InvitedByHandle}.String()
		}
		if err := last.CheckTime(c.Env.Now()); err != nil {
			c.Warn("%s; an admin renews it: unibus room rotate %s", err, connect.RoomArg(r.ID()))
		}
		if c.WantsJSON() {
			return c.JSON(s)
		}
		for _, line := range [][2]string{
			{"name", string(s.Name)},
			{"room", s.Room.String()},
			{"epoch", strconv.FormatUint(uint64(s.Epoch), 10)},
			{"record", s.Hash.String()},
			{"created", c.Time(s.Created)},
			{"expires", c.Time(s.NotAfter)},
			{"policy", describePolicy(last.Policy)},
			{"your role", s.Role},
			{"invited by", invitedBy},
		} {
			c.Printf("%-10s %s\n", line[0], line[1])
		}
		c.Printf("\n")
		rows := make([][]string, len(s.Members))
		for i, m := range s.Members {
			name := cmp.Or(string(m.Handle), "-")
			if m.ID == cl.ID() {
				name = you
			}
			rows[i] = []string{name, m.Role, m.Fingerprint, m.ID.String()}
		}
		c.Table([]string{"member", "role", "fingerprint", "id"}, rows)
		return nil
	})
}

// roleName is the name of a role, "none" for who is no member any more.
func roleName(role bus.Role) string {
	if !role.Valid() {
		return "none"
	}
	return role.String()
}
