package main

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// hintOf returns the hint that is printed below err.
func hintOf(t *testing.T, err error) string {
	t.Helper()
	var stdout, stderr strings.Builder
	env := &cli.Env{Args: []string{"unibusd"}, Environ: []string{"HOME=" + t.TempDir()}, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr}
	cli.Program{Local: true, Root: &cli.Command{Name: "unibusd", Usage: "test", Action: cli.Action(func(*cli.Call) error { return err })}}.Run(t.Context(), env)
	_, hint, _ := strings.Cut(stderr.String(), "hint: ")
	return strings.TrimSuffix(hint, "\n")
}

func TestHintsAreForOperators(t *testing.T) {
	cfg := node.Config{DataDir: "/srv/d", NATSListen: "127.0.0.1:4222", ControlListen: "localhost:4280"}
	path := func(errno syscall.Errno) error {
		return bus.Errorf(bus.CodeUnavailable, "open store: %w", &fs.PathError{Op: "mkdir", Path: "/srv/d", Err: errno})
	}
	listen := func(network string, addr net.Addr, errno syscall.Errno) error {
		return &net.OpError{Op: "listen", Net: network, Addr: addr, Err: errno}
	}
	tcp := func(port int, errno syscall.Errno) error {
		return listen("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, errno)
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"a directory of somebody else", path(syscall.EACCES), "chown or chmod /srv/d, "},
		{"a file in the way", path(syscall.ENOTDIR), "a file is in the way; choose another --data"},
		{"a place where nothing can be made", path(syscall.EROFS), "choose another --data, where "},
		{"a disk that fails", bus.Errorf(bus.CodeUnavailable, "disk I/O error"), "df -h /srv/d"},
		{"a disk that is full", errors.New("store messages: write 1.blk: no space left on device"), "make room on the disk and start it again; df -h /srv/d"},
		{"a start that took too long", bus.Errorf(bus.CodeTimeout, "start"), "start it again"},
		{"the port of the data plane", tcp(4222, syscall.EADDRINUSE), "choose another --nats-listen; ss -ltnp "},
		{"the port of the control plane", tcp(4280, syscall.EADDRINUSE), "choose another --control-listen; ss -ltnp "},
		{"a port that is not theirs to open", tcp(4222, syscall.EACCES), "choose another --nats-listen; "},
		{"some other port", tcp(1, syscall.EADDRINUSE), "choose another --nats-listen or --control-listen; "},
		{"the local socket", listen("unix", &net.UnixAddr{Name: "/x", Net: "unix"}, syscall.EINVAL), "choose another --socket; "},
		{"wrong settings", bus.Errorf(bus.CodeUsage, "configure node"), "unibusd --help"},
		{"anything else", errors.New("odd"), "unibus explain internal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have := hintOf(t, advise(cfg, tt.err))
			if !strings.HasPrefix(have, tt.want) {
				t.Errorf("hint %q, want %q", have, tt.want)
			}
		})
	}
	if advise(cfg, nil) != nil {
		t.Error("advice about nothing")
	}
}
