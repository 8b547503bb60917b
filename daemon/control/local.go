package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// ListenLocal opens the local socket at path, with mode 0600. Connections of
// anybody but root and the process's own user are closed at once, whatever the
// mode has become since. A socket that a dead process left is replaced; one
// that somebody serves is [bus.CodeUnavailable], and what is no socket is left
// alone ([bus.CodeFileExists]). Closing the listener removes the socket.
func ListenLocal(path string, log *slog.Logger) (net.Listener, error) {
	l, err := listenLocal(path, log)
	if err != nil {
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	return l, nil
}

func listenLocal(path string, log *slog.Logger) (_ net.Listener, err error) {
	if err := checkStale(path); err != nil {
		return nil, err
	}
	// The socket gets its name when it has its mode. A umask would do too, but
	// it is that of the whole process, and others are making files.
	var b [4]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process first
	aside := filepath.Join(filepath.Dir(path), ".c"+hex.EncodeToString(b[:]))
	unixListener, err := net.ListenUnix("unix", &net.UnixAddr{Name: aside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	unixListener.SetUnlinkOnClose(false)
	defer func() {
		if err != nil {
			err = errors.Join(err, unixListener.Close())
			if removeErr := os.Remove(aside); !errors.Is(removeErr, fs.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
	}()
	if err := os.Chmod(aside, 0o600); err != nil {
		return nil, err
	}
	own, err := os.Lstat(aside)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(aside, path); err != nil {
		return nil, err
	}
	return &localListener{unixListener, path, own, log}, nil
}

// checkStale refuses a path whose present holder must not be replaced.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return bus.Errorf(bus.CodeFileExists, "%s is there and is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist):
		return nil // nobody serves it
	case err != nil:
		return bus.Errorf(bus.CodeUnavailable, "whether %s is served cannot be told: %w", path, err)
	}
	return errors.Join(bus.Errorf(bus.CodeUnavailable, "%s is served by another process", path), conn.Close())
}

// localListener lets root and the own user in.
type localListener struct {
	*net.UnixListener
	path string
	own  fs.FileInfo // of the socket, to tell it from one that took its name
	log  *slog.Logger
}

// Accept implements [net.Listener].
func (l *localListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && mayEnter(uid) {
			return &localConn{conn, uid}, nil
		}
		l.log.Warn("local connection denied", "uid", uid, "error", err)
		if err := conn.Close(); err != nil {
			l.log.Debug("close local connection", "error", err)
		}
	}
}

// localConn knows who is at its other end.
type localConn struct {
	*net.UnixConn
	uid int
}

// peerKey is where the context of a connection has the user of its [localConn].
type peerKey struct{}

// withPeer puts the user of a local connection into its context.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if local, ok := conn.(*localConn); ok {
		return context.WithValue(ctx, peerKey{}, local.uid)
	}
	return ctx
}

// peerOf returns the user of the machine that a request comes from, if it came
// through the local socket.
func peerOf(ctx context.Context) *int {
	uid, ok := ctx.Value(peerKey{}).(int)
	if !ok {
		return nil
	}
	return &uid
}

// mayEnter reports whether a user of this machine may use the local socket.
func mayEnter(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// Close implements [net.Listener].
func (l *localListener) Close() error {
	err := l.UnixListener.Close()
	if now, statErr := os.Lstat(l.path); statErr != nil || !os.SameFile(now, l.own) {
		return err // gone, or somebody else's
	}
	return errors.Join(err, os.Remove(l.path))
}
