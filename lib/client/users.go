package client

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// User is an account of the bus.
type User = api.User

// AddUser adds an account, for admins of the bus. A key or handle that exists
// is [bus.CodeExists] and changes nothing; a signer who is no admin gets
// [bus.CodeForbidden].
func (c *Client) AddUser(ctx context.Context, key bus.SignPub, handle bus.Handle, role bus.UserRole) (User, error) {
	var u User
	req := api.AddUser{SignPub: key, Handle: handle, Role: role}
	if err := req.Validate(); err != nil {
		return u, err
	}
	err := c.control.call(ctx, http.MethodPost, api.UsersPath(), req, &u)
	if errors.Is(err, bus.ErrExists) && maybeDone(err) {
		// Perhaps it is this very call that was there first.
		users, listErr := c.Users(ctx)
		if listErr != nil {
			return u, errors.Join(err, listErr)
		}
		for _, have := range users {
			if have.SignPub == key && have.Handle == handle && have.Role == role && have.Status == bus.UserActive {
				return have, nil
			}
		}
	}
	return u, err
}

// RevokeUser ends an account, for admins of the bus: its connections are cut
// and it can make no new ones. Rooms keep it as a member until an authority of
// the room removes it. Revoking twice changes nothing more.
func (c *Client) RevokeUser(ctx context.Context, key bus.SignPub) (User, error) {
	var u User
	err := c.control.call(ctx, http.MethodPost, api.RevokePath(key), nil, &u)
	return u, err
}

// PutEntry stores the directory entry of a handle, signed by the root of the bus
// ([identity.Root.SignEntry]), for admins of the bus. The same again changes
// nothing; [bus.CodeRollback] is for one that is older than what is stored,
// [bus.CodeConflict] for one that names somebody else than who has the handle.
func (c *Client) PutEntry(ctx context.Context, handle bus.Handle, entry []byte) error {
	return c.control.call(ctx, http.MethodPut, api.HandlePath(handle), api.Entry{Entry: entry}, nil)
}

// maxUsers is how many accounts a server may list.
const maxUsers = 1 << 18

// Users returns all accounts, revoked ones too, in ascending order of their
// keys, for admins of the bus. A list out of order, or endless, is
// [bus.CodeMalformed].
func (c *Client) Users(ctx context.Context) ([]User, error) {
	var users []User
	path := api.UsersPath()
	for {
		var page api.UserList
		if err := c.control.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, err
		}
		for _, u := range page.Users {
			if n := len(users); n > 0 && bytes.Compare(users[n-1].SignPub[:], u.SignPub[:]) >= 0 {
				return nil, bus.Errorf(bus.CodeMalformed, "list users: %s comes after %s", u.SignPub, users[n-1].SignPub)
			}
			users = append(users, u)
		}
		switch {
		case !page.More:
			return users, nil
		case len(page.Users) == 0:
			return nil, bus.Errorf(bus.CodeMalformed, "list users: an empty page promises more")
		case len(users) > maxUsers:
			return nil, bus.Errorf(bus.CodeMalformed, "list users: more than %d, and no end", maxUsers)
		}
		path = api.UsersAfterPath(users[len(users)-1].SignPub)
	}
}
