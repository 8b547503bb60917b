package usermgr

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// changed is what a command that changed an account prints with --json.
type changed struct {
	User    api.User `json:"user"`
	Reached *reach   `json:"reached,omitempty"` // left out where it could not be found out
}

func add(c *cli.Call) error {
	handle, err := bus.ParseHandle(c.Arg(0))
	if err != nil {
		return cli.BadArg("HANDLE", err)
	}
	role, err := bus.ParseUserRole(c.String(flagRole))
	if err != nil {
		return cli.BadArg("--"+flagRole, err)
	}
	text := c.Arg(1)
	if text == "-" {
		if text, err = firstLine(c.Env.Stdin); err != nil {
			return err
		}
	}
	key, err := bus.ParseSignPub(text)
	if err != nil {
		return cli.BadArg("SIGN_PUB", err)
	}
	return with(c, func(ctx context.Context, d door) error {
		u, err := d.Add(ctx, api.AddUser{SignPub: key, Handle: handle, Role: role})
		if errors.Is(err, bus.ErrExists) {
			return cli.WithHint(fmt.Errorf("add %s: %w", handle, err), "unibus usermgr list")
		}
		if err != nil {
			return fmt.Errorf("add %s: %w", handle, err)
		}
		return report(ctx, c, d, "added", u)
	})
}

// firstLine reads a key that somebody pipes in.
func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func revoke(c *cli.Call) error {
	who := c.Arg(0)
	switch signed := c.Path(flagSigned); {
	case who == "" && signed == "":
		return cli.Usagef("missing WHO, or --%s FILE", flagSigned)
	case who != "" && signed != "":
		return cli.Usagef("WHO and --%s exclude each other: the file says who", flagSigned)
	case signed != "":
		return revokeSigned(c, signed)
	}
	return with(c, func(ctx context.Context, d door) error {
		users, err := d.Users(ctx)
		if err != nil {
			return fmt.Errorf("look up %s: %w", who, err)
		}
		u, err := find(users, who)
		if err != nil {
			return err
		}
		if u.Status == bus.UserRevoked {
			at := "at a time that is not known"
			if u.RevokedAt != nil {
				at = c.Time(*u.RevokedAt)
			}
			c.Note("%s was revoked already, %s", u.Handle, at)
		} else if err := checkLastAdmin(c, users, u); err != nil {
			return err
		} else if err := c.Confirm("revoke %s (%s) for good?", u.Handle, u.ID.Fingerprint()); err != nil {
			return err
		}
		// Once more where it was done already: an earlier answer may have been
		// that of a node that had not heard of it.
		if u, err = d.Revoke(ctx, u.SignPub); err != nil {
			return fmt.Errorf("revoke %s: %w", who, err)
		}
		if err := report(ctx, c, d, "revoked", u); err != nil {
			return err
		}
		tellRooms(c, string(u.Handle))
		return nil
	})
}

func tellRooms(c *cli.Call, who string) {
	c.Note("rooms keep %s as a member until an admin of the room removes it: unibus room remove ROOM %s", who, who)
}

// checkLastAdmin refuses to end the only account that may change others, unless
// --yes says that it is meant: asking is not enough for what locks everybody out
// who cannot reach a node's own machine.
func checkLastAdmin(c *cli.Call, users []api.User, u api.User) error {
	admin := func(u api.User) bool { return u.Role == bus.UserAdmin && u.Status == bus.UserActive }
	if !admin(u) || slices.ContainsFunc(users, func(o api.User) bool { return admin(o) && o.SignPub != u.SignPub }) {
		return nil
	}
	const loss = "the bus will have no admin; only the local socket can add one"
	if !c.Bool("yes") {
		return cli.WithHint(cli.Usagef("revoke %s: %s", u.Handle, loss), "add another admin first, or add --yes if you are sure")
	}
	c.Warn("%s", loss)
	return nil
}

// find returns the account of a handle or key. A handle is never given again,
// so there is at most one.
func find(users []api.User, who string) (api.User, error) {
	i := slices.IndexFunc(users, func(u api.User) bool {
		return string(u.Handle) == who || strings.EqualFold(u.SignPub.String(), who)
	})
	if i < 0 {
		return api.User{}, cli.WithHint(bus.Errorf(bus.CodeNotFound, "find account %q: there is none", who), "unibus usermgr list")
	}
	return users[i], nil
}

// report tells what was done and how far it reached.
func report(ctx context.Context, c *cli.Call, d door, did string, u api.User) error {
	out := changed{User: u, Reached: reached(ctx, c, d, did)}
	if c.WantsJSON() {
		return c.JSON(out)
	}
	c.Printf("%s %s (%s) %s\n", did, u.Handle, u.Role, u.SignPub)
	out.Reached.note(c)
	return nil
}

// reached asks how far what was done got, nil where nobody can tell.
func reached(ctx context.Context, c *cli.Call, d door, did string) *reach {
	r, err := d.Reach(ctx)
	if err != nil {
		c.Warn("it was %s; how far that reached is not known: %s", did, err)
		return nil
	}
	return &r
}
