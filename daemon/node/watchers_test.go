package node_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

func scrape(t *testing.T, c *http.Client, url string) string {
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
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d: %s", url, resp.StatusCode, body)
	}
	return string(body)
}

func TestMetricsTellOfTheNode(t *testing.T) {
	cfg := config(t)
	cfg.MetricsListen = "127.0.0.1:0"
	cfg.MaxShardBytes = 1 << 20
	n := start(t, cfg)
	c := client(t)
	if status := get(t, c, n.URL()+api.RoomsPath(), nil); status != http.StatusUnauthorized {
		t.Fatalf("unsigned request: %d", status)
	}
	if status := get(t, c, n.URL()+"/no/such/path", nil); status != http.StatusNotFound {
		t.Fatalf("unknown path: %d", status)
	}
	for where, text := range map[string]string{
		"a listener of their own": scrape(t, c, n.MetricsURL()),
		"the local socket":        scrape(t, viaSocket(t, n.SocketPath()), "http://local"+node.MetricsPath),
	} {
		for _, line := range []string{
			"unibus_ready 1",
			`unibus_requests_total{method="GET",route="/rooms",status="401"} 1`,
			`unibus_requests_total{method="GET",route="none",status="404"} 1`,
			`unibus_denials_total{code="unauthenticated",plane="control"} 1`,
			`unibus_connections_accepted_total{plane="control"} 3`, // one is the node's own probe
			"unibus_rooms 0",
			"unibus_audit_entries_total 0",
			"unibus_blobs 0",
			"unibus_sessions 0",
			"unibus_stream_limit_bytes 1.048576e+06",
			`unibus_stream_messages{shard="7"} 0`,
			`unibus_store_operation_duration_seconds_count{operation="create"} `,
		} {
			if !strings.Contains(text, "\n"+line) {
				t.Errorf("%s: no line %s", where, line)
			}
		}
	}
}

// A proxy on the same machine has the address of the machine itself, so an
// address says nothing about who asks.
func TestThePublicListenerHasNoMetrics(t *testing.T) {
	n := start(t, config(t))
	for _, path := range []string{node.MetricsPath, "/debug/pprof/", "/debug/pprof/heap"} {
		if status := get(t, client(t), n.URL()+path, nil); status != http.StatusNotFound {
			t.Errorf("%s answers %d", path, status)
		}
	}
	if n.MetricsURL() != "" || n.DebugURL() != "" {
		t.Errorf("metrics at %q, profiles at %q", n.MetricsURL(), n.DebugURL())
	}
}

func TestProfilesAreThereWhenAskedFor(t *testing.T) {
	cfg := config(t)
	cfg.DebugListen = "127.0.0.1:0"
	n := start(t, cfg)
	if text := scrape(t, client(t), n.DebugURL()+"goroutine?debug=1"); !strings.Contains(text, "goroutine profile: total") {
		t.Errorf("profile %.200s", text)
	}
}

func TestWatchersAreNotShownByAccident(t *testing.T) {
	for name, change := range map[string]func(*node.Config){
		"metrics for whoever comes":   func(c *node.Config) { c.MetricsListen = ":9464" },
		"metrics without a port":      func(c *node.Config) { c.MetricsListen = "127.0.0.1" },
		"profiles on every interface": func(c *node.Config) { c.DebugListen = "0.0.0.0:6060" },
		"profiles without a host":     func(c *node.Config) { c.DebugListen = ":6060" },
		"profiles for another":        func(c *node.Config) { c.DebugListen = "192.0.2.1:6060" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			change(&cfg)
			n, err := node.Start(t.Context(), cfg)
			if !errors.Is(err, bus.ErrUsage) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				stop(t, n)
			}
		})
	}
}
