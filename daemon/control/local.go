package control

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/enmanuel/unibus/lib/bus"
)

// ListenLocal opens the local socket at path, with mode 0600. Connections of
// anybody but root and the process's own user are closed at once, whatever the
// mode has become since. A socket that a dead process left is replaced; one
// that somebody serves is [bus.CodeUnavailable], and what is no socket is left
// alone.
func ListenLocal(path string, log *slog.Logger) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The socket must not be open to others even for the moment before chmod.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	return &localListener{l.(*net.UnixListener), log}, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open local socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return bus.Errorf(bus.CodeFileExists, "open local socket: %s is there and is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return bus.Errorf(bus.CodeUnavailable, "open local socket: %s is served by another process", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("open local socket: %w", err)
	}
	return nil
}

// localListener lets root and the own user in.
type localListener struct {
	*net.UnixListener
	log *slog.Logger
}

// Accept implements [net.Listener].
func (l *localListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && (uid == 0 || uid == uint32(os.Geteuid())) {
			return conn, nil
		}
		l.log.Warn("local connection denied", "uid", uid, "error", err)
		conn.Close()
	}
}

// peerUID asks the kernel who is at the other end.
func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
