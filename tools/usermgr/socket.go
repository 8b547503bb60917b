package usermgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

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

// openSocket tries the socket before anything is asked for through it, so that
// somebody who may not use it hears so, and not that an outcome is unknown.
func openSocket(c *cli.Call, path string) (door, error) {
	var d net.Dialer
	s := &socketDoor{path: path, http: &http.Client{
		Timeout: c.Duration("timeout"),
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
		},
	}}
	_, err := s.Reach(c.Context)
	if err == nil {
		return s, nil
	}
	s.http.CloseIdleConnections()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		// Nodes close the connections of whom they do not let in.
		return nil, refused(path, errors.New("the node closed the connection"))
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		if errors.Is(err, fs.ErrPermission) {
			return nil, refused(path, op.Err)
		}
		return nil, cli.WithHint(bus.Errorf(bus.CodeUnavailable, "open socket %s: %w", path, op.Err),
			"start the node, or give its socket: --%s DIR/control.sock", flagSocket)
	}
	return nil, fmt.Errorf("open socket %s: %w", path, err)
}

// refused is what those hear who may not use the socket.
func refused(path string, reason error) error {
	return cli.WithHint(bus.Errorf(bus.CodeForbidden, "open socket %s: %w", path, reason), "run it as root or as the user of the node")
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
	code := bus.CodeUnavailable
	switch {
	case method != http.MethodGet:
		code = bus.CodeUnknownOutcome
	case errors.Is(err, context.DeadlineExceeded):
		code = bus.CodeTimeout
	}
	return cli.WithHint(bus.Errorf(code, "ask the node through %s: %w", s.path, err), "unibus usermgr list")
}
