package usermgr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// socketBase is the URL of requests through the socket. Its host is for the
// looks: the connection goes where the socket is.
const socketBase = "http://local"

// openSocket returns the door through the Unix socket of a running node, which
// knows its callers by what the kernel says of them. It tries the socket before
// anything is asked for through it, so that somebody who may not use it hears so,
// and not that an outcome is unknown.
func openSocket(c *cli.Call, path string) (*httpDoor, error) {
	var d net.Dialer
	s := &httpDoor{base: socketBase, name: "the node at " + path, http: &http.Client{
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
	failed, transport := errors.AsType[*url.Error](err)
	op, dialing := errors.AsType[*net.OpError](err)
	dialing = dialing && op.Op == "dial"
	switch {
	case dialing && errors.Is(err, fs.ErrPermission):
		return nil, refused(path, op.Err)
	case dialing:
		return nil, cli.WithHint(bus.Errorf(bus.CodeUnavailable, "open socket %s: %w", path, op.Err),
			"start the node, or give its socket: --%s DIR/control.sock", flagSocket)
	case !transport || failed.Timeout() || c.Err() != nil:
		return nil, fmt.Errorf("open socket %s: %w", path, err)
	}
	// Nodes close the connections of whom they do not let in. Which error that
	// is depends on how far the request had come.
	return nil, refused(path, errors.New("the node closed the connection"))
}

// refused is what those hear who may not use the socket.
func refused(path string, reason error) error {
	return cli.WithHint(bus.Errorf(bus.CodeForbidden, "open socket %s: %w", path, reason), "run it as root or as the user of the node")
}
