package usermgr

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

// listed is an account with what the signatures in it say, if they hold.
type listed struct {
	api.User
	EntryUntil *time.Time `json:"entry_until,omitempty"` // how long the bus root vouches for the handle
	RevokedBy  string     `json:"revoked_by,omitempty"`  // "self" or "root"; empty is an admin's word
}

func list(c *cli.Call) error {
	return with(c, func(ctx context.Context, d door) error {
		users, err := d.Users(ctx)
		if err != nil {
			return fmt.Errorf("list accounts: %w", err)
		}
		slices.SortFunc(users, func(a, b api.User) int {
			return cmp.Or(cmp.Compare(a.Handle, b.Handle), bytes.Compare(a.SignPub[:], b.SignPub[:]))
		})
		cfg, err := knownBus(c)
		if err != nil {
			return err
		}
		all := make([]listed, len(users))
		for i, u := range users {
			all[i] = examine(c, u, cfg.BusID)
		}
		warnOfEnds(c, all)
		if c.WantsJSON() {
			return c.JSON(struct {
				Users []listed `json:"users"`
			}{all})
		}
		rows := make([][]string, len(all))
		for i, u := range all {
			rows[i] = []string{
				string(u.Handle), string(u.Role), string(u.Status), u.SignPub.String(), u.ID.Fingerprint(), c.Time(u.CreatedAt),
				day(u.EntryUntil), cmp.Or(u.RevokedBy, "-"),
			}
		}
		c.Table([]string{"handle", "role", "status", "sign_pub", "fingerprint", "created", "entry", "proof"}, rows)
		return nil
	})
}

// knownBus is the configuration as far as it may say which bus it is: where no
// context is used to get in, a broken one must not keep anybody out.
func knownBus(c *cli.Call) (cli.Config, error) {
	if c.Path(flagSocket) != "" || c.String(flagStore) != "" {
		return c.Given()
	}
	return c.Config()
}

// examine verifies what is signed about an account, under the bus if it is known
// and otherwise under the one that the signature names.
func examine(c *cli.Call, u api.User, b bus.BusID) listed {
	l := listed{User: u}
	id := identity.IDOf(u.SignPub)
	if len(u.Entry) > 0 {
		e, err := identity.ParseSignedEntry(u.Entry)
		switch {
		case err == nil && !b.IsZero() && e.BusID != b:
			err = bus.Errorf(bus.CodeWrongBus, "it is of bus %s", e.BusID)
		case err == nil && (e.Handle != u.Handle || e.ID != id):
			err = bus.Errorf(bus.CodeMisrouted, "it says that %s is %s", e.Handle, e.ID)
		}
		if err != nil {
			c.Warn("the entry of %s does not hold: %s", u.Handle, err)
		} else {
			until := e.NotAfter.UTC()
			l.EntryUntil = &until
		}
	}
	if len(u.Revocation) > 0 {
		r, err := identity.ParseRevocation(u.Revocation)
		if err == nil && !b.IsZero() {
			err = r.Check(b, id)
		}
		switch {
		case err != nil:
			c.Warn("the revocation of %s does not hold: %s", u.Handle, err)
		case r.BySelf():
			l.RevokedBy = "self"
		default:
			l.RevokedBy = "root"
		}
	}
	return l
}

// warnOfEnds names the active accounts whose entry has ended or soon will: who
// resolves such a handle then is refused.
func warnOfEnds(c *cli.Call, all []listed) {
	var ending []string
	soon := c.Env.Now().Add(bus.EntryWarning)
	for _, u := range all {
		if u.Status == bus.UserActive && u.EntryUntil != nil && u.EntryUntil.Before(soon) {
			ending = append(ending, fmt.Sprintf("%s (%s)", u.Handle, day(u.EntryUntil)))
		}
	}
	if len(ending) == 0 {
		return
	}
	const shown = 10
	more := ""
	if len(ending) > shown {
		more = fmt.Sprintf(" and %d more", len(ending)-shown)
		ending = ending[:shown]
	}
	c.Warn("entries end within 30 days: %s%s; sign new ones where the root is: unibus keygen entry --root FILE --from LIST -o entries", strings.Join(ending, ", "), more)
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}
