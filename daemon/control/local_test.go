package control

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// local serves the local handler on a socket and returns its client's world.
func local(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := ListenLocal(path, w.cfg.Logger)
	w.must(err)
	srv := NewHTTPServer(w.server.LocalHandler(), w.cfg.Logger)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		w.must(srv.Shutdown(context.Background()))
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	w.url, w.client = "http://local", &http.Client{Transport: transport}
	return w
}

func TestLocalSocketServesUserRoutesUnsigned(t *testing.T) {
	w := local(t)
	p := w.person()
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		code         bus.Code
	}{
		{http.MethodGet, api.HealthPath(), nil, 200, ""},
		{http.MethodGet, api.ReadyPath(), nil, 200, ""},
		{http.MethodPost, api.UsersPath(), api.AddUser{SignPub: p.SignPub(), Handle: "carol", Role: bus.UserAdmin}, 201, ""},
		{http.MethodPost, api.UsersPath(), api.AddUser{SignPub: p.SignPub(), Handle: "carol", Role: bus.UserAdmin}, 409, bus.CodeExists},
		{http.MethodGet, api.UsersPath(), nil, 200, ""},
		{http.MethodGet, api.HandlePath("carol"), nil, 200, ""},
		{http.MethodPut, api.HandlePath("carol"), api.Entry{Entry: w.entry("carol", p)}, 204, ""},
		{http.MethodPost, api.RevokePath(p.SignPub()), nil, 200, ""},
		{http.MethodPut, api.RevocationPath(p.ID()), api.Revocation{Revocation: p.Revocation().Bytes()}, 204, ""},
		{http.MethodPost, api.UsersPath(), []byte(`{"handle":"x","extra":1}`), 400, bus.CodeMalformed},
		{http.MethodPost, api.UsersPath(), make([]byte, smallBody+1), 413, bus.CodeTooLarge},
		{http.MethodGet, api.RoomsPath(), nil, 404, bus.CodeNotFound},
		{http.MethodGet, api.RecordsPath(w.room.Record.Room), nil, 404, bus.CodeNotFound},
		{http.MethodGet, api.CardPath(w.owner.ID()), nil, 404, bus.CodeNotFound},
		{http.MethodDelete, api.UsersPath(), nil, 405, bus.CodeUsage},
	} {
		r, _ := w.request(c.method, c.path, c.body)
		status, err := w.do(r, nil)
		w.want(c.method+" "+c.path, status, err, c.status, c.code)
	}
	w.setReady(bus.Errorf(bus.CodeUnavailable, "not now"))
	r, _ := w.request(http.MethodPost, api.RevokePath(w.owner.SignPub()), nil)
	status, err := w.do(r, nil)
	w.want("not ready", status, err, 503, bus.CodeUnavailable)
}

func TestLocalSocketIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := ListenLocal(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fsSocket0600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v", entries, err)
	}
	for uid, want := range map[int]bool{0: true, os.Geteuid(): true, os.Geteuid() + 1: false, -1: false, 65534: os.Geteuid() == 65534} {
		if got := mayEnter(uid); got != want {
			t.Errorf("uid %d may enter: %t", uid, got)
		}
	}
	accepted := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.Close()
		}
		accepted <- err
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}

const fsSocket0600 = os.ModeSocket | 0o600

func TestOnlyDeadSocketsAreReplaced(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenLocal(file, log); bus.CodeOf(err) != bus.CodeFileExists {
		t.Errorf("on a file: %v", err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "precious" {
		t.Errorf("the file is %q, %v", content, err)
	}

	path := filepath.Join(dir, "control.sock")
	first, err := ListenLocal(path, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenLocal(path, log); bus.CodeOf(err) != bus.CodeUnavailable {
		t.Errorf("on a served socket: %v", err)
	}
	// What a killed process leaves: a socket that nobody listens on.
	if err := first.(*localListener).UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	second, err := ListenLocal(path, log)
	if err != nil {
		t.Fatal(err)
	}
	// The first one closing late must not take the second one's socket.
	if err := first.Close(); err == nil {
		t.Error("closed twice without an error")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := ListenLocal(filepath.Join(dir, "no", "such", "dir"), log); err == nil {
		t.Error("listens in a directory that is not there")
	}
}

// Somebody who sends a request slowly, or not at all, is cut off.
func TestConnectionsHaveDeadlines(t *testing.T) {
	srv := NewHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	for name, d := range map[string]bool{
		"headers": srv.ReadHeaderTimeout > 0, "requests": srv.ReadTimeout > 0, "replies": srv.WriteTimeout > srv.ReadTimeout,
		"idling": srv.IdleTimeout > 0, "header size": srv.MaxHeaderBytes > 0,
	} {
		if !d {
			t.Errorf("no bound for %s", name)
		}
	}
	srv.ReadHeaderTimeout = 1 // nanosecond: over before anything arrives
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadAll(conn); err != nil { // returns when the server hangs up
		t.Error(err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	<-done
}
