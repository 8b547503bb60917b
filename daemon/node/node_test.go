package node_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/daemon/control"
	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func busID(t *testing.T) bus.BusID {
	t.Helper()
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return root.BusID()
}

func config(t *testing.T) node.Config {
	return node.Config{
		BusID: busID(t), DataDir: filepath.Join(t.TempDir(), "data"), Name: "n1",
		ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler),
	}
}

func start(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	n, err := node.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func stop(t *testing.T, n *node.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, c *http.Client, url string, v any) int {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal(body, v); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
	}
	return resp.StatusCode
}

// client returns an HTTP client that leaves no connection behind.
func client(t *testing.T) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// viaSocket returns an HTTP client of a local socket.
func viaSocket(t *testing.T, path string) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestNodeServesAndSaysHowItStands(t *testing.T) {
	admin, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.BootstrapAdmin = &node.Admin{Handle: "root", SignPub: admin.SignPub()}
	n := start(t, cfg)
	if err := n.Ready(); err != nil {
		t.Errorf("started and not ready: %v", err)
	}
	var ready api.Ready
	if status := get(t, client(t), n.URL()+api.ReadyPath(), &ready); status != http.StatusOK || !ready.Ready {
		t.Errorf("readiness %d %+v", status, ready)
	}
	var h api.Health
	get(t, client(t), n.URL()+api.HealthPath(), &h)
	if h.Status != "ok" || h.Node != "n1" || h.Sync != "always" || h.Store != "sqlite" || !h.Quorum || !h.ACL || h.TLS || h.Users != 1 {
		t.Errorf("health %+v", h)
	}
	var users api.UserList
	if status := get(t, viaSocket(t, n.SocketPath()), "http://local"+api.UsersPath(), &users); status != http.StatusOK {
		t.Fatalf("local socket answers %d", status)
	}
	if len(users.Users) != 1 || users.Users[0].SignPub != admin.SignPub() || users.Users[0].Role != bus.UserAdmin {
		t.Errorf("users %+v", users.Users)
	}
	if status := get(t, client(t), n.URL()+api.UsersPath(), nil); status != http.StatusUnauthorized {
		t.Errorf("an unsigned list of users over the network answers %d", status)
	}
	info, err := os.Stat(n.SocketPath())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", info.Mode(), err)
	}
}

func TestSecondAdminIsNotBootstrapped(t *testing.T) {
	cfg := config(t)
	var keys [2]bus.SignPub
	for i := range keys {
		id, err := identity.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = id.SignPub()
		cfg.BootstrapAdmin = &node.Admin{Handle: bus.Handle("admin" + string(rune('0'+i))), SignPub: keys[i]}
		n, err := node.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var users api.UserList
		get(t, viaSocket(t, n.SocketPath()), "http://local"+api.UsersPath(), &users)
		if len(users.Users) != 1 || users.Users[0].SignPub != keys[0] {
			t.Errorf("start %d: users %+v", i, users.Users)
		}
		stop(t, n)
	}
}

func TestStartRefuses(t *testing.T) {
	good := config(t)
	start(t, good)
	for name, c := range map[string]struct {
		change func(*node.Config)
		want   error
	}{
		"no bus":                       {func(c *node.Config) { c.BusID = bus.BusID{} }, bus.ErrUsage},
		"no directory":                 {func(c *node.Config) { c.DataDir = "" }, bus.ErrUsage},
		"a name with a dot":            {func(c *node.Config) { c.Name = "a.b" }, bus.ErrUsage},
		"all interfaces in the clear":  {func(c *node.Config) { c.ControlListen = "0.0.0.0:0" }, bus.ErrUsage},
		"messages in the clear":        {func(c *node.Config) { c.NATSListen = ":4222" }, bus.ErrUsage},
		"no port":                      {func(c *node.Config) { c.NATSListen = "127.0.0.1" }, bus.ErrUsage},
		"a directory that is in use":   {func(c *node.Config) { *c = good }, bus.ErrUnavailable},
		"a socket path that is a file": {func(c *node.Config) { c.Socket = occupied(t) }, bus.ErrFileExists},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			c.change(&cfg)
			if n, err := node.Start(t.Context(), cfg); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
				if err == nil {
					stop(t, n)
				}
			}
		})
	}
}

func occupied(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDirectoryOfAnotherBusIsRefused(t *testing.T) {
	cfg := config(t)
	n := start(t, cfg)
	stop(t, n)
	cfg.BusID = busID(t)
	if _, err := node.Start(t.Context(), cfg); !errors.Is(err, bus.ErrWrongBus) {
		t.Errorf("got %v", err)
	}
}

func TestNodeThatCannotProveItIsCurrentServesNothingNew(t *testing.T) {
	var ahead atomic.Int64
	cfg := config(t)
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	n := start(t, cfg)
	ahead.Store(int64(7 * time.Second)) // as if no write had come back for so long
	if err := n.Ready(); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatalf("ready with a lease of 7 s: %v", err)
	}
	var p api.Problem
	resp, err := viaSocket(t, n.SocketPath()).Post("http://local"+api.RevokePath(bus.SignPub{1}), api.MediaJSON, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Code != bus.CodeUnavailable {
		t.Errorf("a change answers %+v, %v", p, err)
	}
	// The next renewal makes it current again.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); n.Ready() != nil; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still %v", n.Ready())
		}
	}
}

func TestStopLeavesNothingAndStartsAgain(t *testing.T) {
	cfg := config(t)
	for range 2 {
		n := start(t, cfg)
		stop(t, n)
		stop(t, n)
		if _, err := os.Stat(n.SocketPath()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	}
}

// Clients of a node that only this machine reaches all have one address.
func TestLoopbackIsNotOneClient(t *testing.T) {
	cfg := config(t)
	once := control.Rate{PerSecond: 0.001, Burst: 1}
	cfg.Limits = control.Limits{Address: once, AddressRequests: 1, AddressConnections: 1}
	n := start(t, cfg)
	for range 5 {
		c := &http.Client{Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		if status := get(t, c, n.URL()+api.RoomsPath(), nil); status != http.StatusUnauthorized {
			t.Errorf("unsigned request: %d, want %d", status, http.StatusUnauthorized)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	cfg := config(t)
	cfg.Limits = control.Limits{Connections: 1}
	n := start(t, cfg)
	first, second := &http.Client{Transport: &http.Transport{}}, &http.Client{Transport: &http.Transport{}}
	defer first.CloseIdleConnections()
	if status := get(t, first, n.URL()+api.HealthPath(), nil); status != http.StatusOK {
		t.Fatalf("first connection: %d", status)
	}
	if resp, err := second.Get(n.URL() + api.HealthPath()); err == nil {
		resp.Body.Close()
		t.Fatal("a second connection was let in")
	}
	if status := get(t, first, n.URL()+api.HealthPath(), nil); status != http.StatusOK {
		t.Errorf("first connection, again: %d", status)
	}
}
