package main

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

// systemd is the end of a notification socket that a supervisor has.
type systemd struct {
	t    *testing.T
	conn *net.UnixConn
}

// newSystemd listens where the variables of this process say.
func newSystemd(t *testing.T, watchdog time.Duration) *systemd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "")
	if watchdog > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	}
	return &systemd{t, conn}
}

// next returns the lines of the next datagram.
func (s *systemd) next() []string {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := s.conn.Read(buf)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Split(string(buf[:n]), "\n")
}

// until returns the lines up to and with the datagram that has one with a prefix.
func (s *systemd) until(prefix string) []string {
	s.t.Helper()
	var all []string
	for {
		lines := s.next()
		all = append(all, lines...)
		if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) }) {
			return all
		}
	}
}

func testBus(t *testing.T) *identity.Root {
	t.Helper()
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestSupervisorHearsFromStartToEnd(t *testing.T) {
	boss := newSystemd(t, 2*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	env := &cli.Env{
		Args: []string{"unibusd", "--bus-id", testBus(t).BusID().String(), "--data", filepath.Join(t.TempDir(), "d"),
			"--node", "n1", "--control-listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0"},
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Now: time.Now, Rand: rand.Reader,
	}
	ended := make(chan int, 1)
	go func() { ended <- cli.Program{Root: command(), Local: true}.Run(ctx, env) }()
	if lines := boss.next(); !strings.HasPrefix(lines[0], "STATUS=starting") {
		t.Errorf("first said %q", lines)
	}
	lines := boss.until("READY=1")
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "STATUS=ready: control plane http://127.0.0.1:") }) {
		t.Errorf("ready with %q", lines)
	}
	for range 2 {
		boss.until("WATCHDOG=1")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if lines := boss.until("RELOADING=1"); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "MONOTONIC_USEC=") }) {
		t.Errorf("reloads with %q", lines)
	}
	boss.until("READY=1")
	cancel()
	if lines := boss.until("STOPPING=1"); !slices.Contains(lines, "EXTEND_TIMEOUT_USEC=20000000") {
		t.Errorf("stops with %q", lines)
	}
	if status := <-ended; status != int(cli.ExitOK) {
		t.Errorf("status %d", status)
	}
}

func TestWatchdogStarvesWhereTheNodeDoesNotWork(t *testing.T) {
	boss := newSystemd(t, time.Minute)
	s, err := newSupervisor(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if s.every != 15*time.Second {
		t.Errorf("looks every %s, four times in the patience of a minute wanted", s.every)
	}
	n, err := node.Start(t.Context(), node.Config{
		BusID: testBus(t).BusID(), DataDir: t.TempDir(), Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.look(t.Context(), n)
	if lines := boss.next(); !slices.Contains(lines, "WATCHDOG=1") {
		t.Errorf("a node that works: %q", lines)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.look(t.Context(), n)
	}
	s.stopping(time.Second)
	lines := boss.until("STOPPING=1")
	if slices.Contains(lines, "WATCHDOG=1") || !strings.HasPrefix(lines[0], "STATUS=not ready: ") {
		t.Errorf("a node that does not work: %q", lines)
	}
}

func TestSupervisorThatIsGoneDisturbsNobody(t *testing.T) {
	newSystemd(t, 0).conn.Close()
	var log strings.Builder
	s, err := newSupervisor(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if s.every != statusEvery {
		t.Errorf("looks every %s without a watchdog", s.every)
	}
	s.starting()
	s.reload(func() {})
	s.stopping(time.Second)
	if n := strings.Count(log.String(), "supervisor not told"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := newSupervisor(slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error for a patience that is no number")
	}
}
