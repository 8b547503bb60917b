package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// reported returns the lines about reports among the metrics of the node.
func reported(t *testing.T, w *world) string {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.node.SocketPath())
	}}
	resp, err := (&http.Client{Transport: tr}).Get("http://local" + node.MetricsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "unibus_client_") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

func TestWhatAClientRefusesIsReportedWhereItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.watched(w.addUser("bob"), func(c *client.Config) { c.ReportFailures = true })
	eve := w.watched(w.addUser("eve"), nil) // who did not agree
	alice := w.user("alice")
	r, rooms := w.room(alice, "team", bob.Client, eve.Client)
	var reports atomic.Int32
	for _, c := range []*watched{bob, eve} {
		c.control.set(func(req *http.Request, body []byte) []byte {
			if req.URL.Path == api.ReportsPath() {
				reports.Add(1)
			}
			return body
		})
	}
	read := []*inbox{w.read(rooms[0], client.Now), w.read(rooms[1], client.Now)}
	for _, c := range []*watched{bob, eve} {
		c.data.set(func(d delivery) []delivery {
			if strings.HasPrefix(d.subject, "ub.d.") {
				d.payload[len(d.payload)-1] ^= 1
			}
			return []delivery{d}
		})
	}
	publish(t, w, r, "broken on the way")
	for _, in := range read {
		in.failure(bus.ErrBadSignature)
	}
	for _, c := range []*watched{bob, eve} {
		for range 2 { // the second has nothing to tell
			if err := c.Report(w.ctx()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := reports.Load(); n != 1 {
		t.Errorf("%d reports, want 1", n)
	}
	want := "unibus_client_rejections_total{code=\"bad_signature\"} 1\nunibus_client_reports_total 1"
	if have := reported(t, w); have != want {
		t.Errorf("the node counts\n%s\nwant\n%s", have, want)
	}
}
