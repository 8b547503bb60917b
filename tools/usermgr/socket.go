package usermgr

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// socketBase is the URL of requests through the socket. Its host is for the
// looks: the connection goes where the socket is.
const socketBase = "http://local"

// socketDoor goes through the Unix socket of a running node, which knows its
// callers by what the kernel says of them.
type socketDoor struct {
	path string
	http *http.Client
}

func openSocket(path string) *socketDoor {
	var d net.Dialer
	return &socketDoor{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
	}}}
}

func (s *socketDoor) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

func (s *socketDoor) Add(ctx context.Context, u api.AddUser) (added api.User, err error) {
	return added, s.call(ctx, http.MethodPost, api.UsersPath(), u, &added)
}

func (s *socketDoor) Revoke(ctx context.Context, key bus.SignPub) (revoked api.User, err error) {
	return revoked, s.call(ctx, http.MethodPost, api.RevokePath(key), nil, &revoked)
}

func (s *socketDoor) Users(ctx context.Context) ([]api.User, error) {
	var users []api.User
	for path := api.UsersPath(); ; {
		var page api.UserList
		if err := s.call(ctx, http.MethodGet, path, nil, &page); err != nil {
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

func (s *socketDoor) Reach(ctx context.Context) (reach, error) {
	return measure(ctx, s.http, socketBase)
}

// call sends one request. A request that changes something is not repeated: if
// its answer gets lost, the error has [bus.CodeUnknownOutcome].
func (s *socketDoor) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = api.Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, socketBase+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.GetBody = nil // the transport is not to send it again by itself
	req.Header.Set("Content-Type", api.MediaJSON)
	resp, err := s.http.Do(req)
	if err != nil {
		return s.lost(method, err)
	}
	defer resp.Body.Close()
	return api.ReadReply(resp, out)
}

// lost says what it means that there is no answer.
func (s *socketDoor) lost(method string, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		code, hint := bus.CodeUnavailable, "start the node, or give its socket: --socket DIR/control.sock"
		if errors.Is(err, fs.ErrPermission) {
			code, hint = bus.CodeForbidden, "run it as root or as the user of the node"
		}
		return cli.WithHint(bus.Errorf(code, "open socket %s: %w", s.path, op.Err), "%s", hint)
	}
	code := bus.CodeUnavailable
	switch {
	case method != http.MethodGet:
		code = bus.CodeUnknownOutcome
	case errors.Is(err, context.DeadlineExceeded):
		code = bus.CodeTimeout
	}
	return cli.WithHint(bus.Errorf(code, "ask the node through %s: %w", s.path, err), "unibus usermgr list")
}
