package usermgr

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

// httpDoor asks one node over HTTP: through its local socket or, signed, through
// its control plane.
type httpDoor struct {
	base string // URL without a path
	name string // for people
	http *http.Client
	sign func(req *http.Request, body []byte) error // nil where nothing is signed
}

func (h *httpDoor) Close() error {
	h.http.CloseIdleConnections()
	return nil
}

func (h *httpDoor) Add(ctx context.Context, u api.AddUser) (added api.User, err error) {
	return added, h.call(ctx, http.MethodPost, api.UsersPath(), u, &added)
}

func (h *httpDoor) Revoke(ctx context.Context, key bus.SignPub) (revoked api.User, err error) {
	return revoked, h.call(ctx, http.MethodPost, api.RevokePath(key), nil, &revoked)
}

func (h *httpDoor) PutEntry(ctx context.Context, handle bus.Handle, raw []byte) error {
	return h.call(ctx, http.MethodPut, api.HandlePath(handle), api.Entry{Entry: raw}, nil)
}

func (h *httpDoor) PutRevocation(ctx context.Context, r identity.Revocation) error {
	return h.call(ctx, http.MethodPut, api.RevocationPath(r.ID()), api.Revocation{Revocation: r.Bytes()}, nil)
}

func (h *httpDoor) Users(ctx context.Context) ([]api.User, error) {
	var users []api.User
	for path := api.UsersPath(); ; {
		var page api.UserList
		if err := h.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, err
		}
		users = append(users, page.Users...)
		switch {
		case !page.More:
			return users, nil
		case len(page.Users) == 0:
			return nil, bus.Errorf(bus.CodeMalformed, "read accounts: an empty page promises more")
		}
		path = api.UsersAfterPath(page.Users[len(page.Users)-1].SignPub)
	}
}

func (h *httpDoor) Reach(ctx context.Context) (reach, error) {
	return measure(ctx, h.http, h.base)
}

// call sends one request. A request that changes something is not repeated: if
// its answer gets lost, the error has [bus.CodeUnknownOutcome].
func (h *httpDoor) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = api.Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, h.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.GetBody = nil // the transport is not to send it again by itself
	req.Header.Set("Content-Type", api.MediaJSON)
	if h.sign != nil {
		if err := h.sign(req, body); err != nil {
			return err
		}
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return h.lost(method, err)
	}
	defer resp.Body.Close()
	return api.ReadReply(resp, out)
}

// lost says what it means that there is no answer.
func (h *httpDoor) lost(method string, err error) error {
	code := bus.CodeUnavailable
	switch {
	case method != http.MethodGet:
		code = bus.CodeUnknownOutcome
	case errors.Is(err, context.DeadlineExceeded):
		code = bus.CodeTimeout
	}
	return cli.WithHint(bus.Errorf(code, "ask %s: %w", h.name, err), "unibus usermgr list")
}
