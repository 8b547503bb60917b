package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"

	"github.com/enmanuel/unibus/daemon/certs"
	"github.com/enmanuel/unibus/daemon/control"
	"github.com/enmanuel/unibus/daemon/metrics"
)

// MetricsPath is where metrics are, on the local socket and on a listener of
// their own. The control plane's public listener never has them: behind a proxy
// on the same machine every client comes from loopback.
const MetricsPath = "/metrics"

// withMetrics serves metrics beside what next serves.
func (n *Node) withMetrics(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+MetricsPath, n.metrics.Handler(n.log.With("part", "metrics")))
	if next != nil {
		mux.Handle("/", next)
	}
	return mux
}

// serveWatchers opens what is for those who watch the node from outside.
func (n *Node) serveWatchers(context.Context) (err error) {
	n.metrics.Watch(n.state)
	if n.cfg.MetricsListen != "" {
		if n.scraped, err = net.Listen("tcp", n.cfg.MetricsListen); err != nil {
			return fmt.Errorf("open metrics: %w", err)
		}
		n.serve("metrics", control.NewHTTPServer(n.withMetrics(nil), n.log.With("part", "metrics")), n.scraped)
	}
	if n.cfg.DebugListen != "" {
		if n.debug, err = net.Listen("tcp", n.cfg.DebugListen); err != nil {
			return fmt.Errorf("open profiles: %w", err)
		}
		srv := control.NewHTTPServer(profiles(), n.log.With("part", "debug"))
		srv.WriteTimeout = 0 // a profile takes as long as it was asked to
		n.serve("profiles", srv, n.debug)
	}
	return nil
}

// watchPosture measures for the first time, and goes on in the background.
func (n *Node) watchPosture(ctx context.Context) error {
	if err := n.measure(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		n.log.Warn("posture not measured", "error", err)
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { n.keepPosture(background) })
	n.onStop(func(context.Context) error { cancel(); running.Wait(); return nil })
	return nil
}

// profiles serves what net/http/pprof has. Importing it also adds that to the
// default mux, which nothing here serves.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// MetricsURL returns where metrics are, "" without a listener of their own.
func (n *Node) MetricsURL() string {
	if n.scraped == nil {
		return ""
	}
	return "http://" + n.scraped.Addr().String() + MetricsPath
}

// DebugURL returns where profiles are, "" without a listener for them.
func (n *Node) DebugURL() string {
	if n.debug == nil {
		return ""
	}
	return "http://" + n.debug.Addr().String() + "/debug/pprof/"
}

// state looks at the node for a scrape.
func (n *Node) state() metrics.State {
	now := n.cfg.Now()
	users, rooms := n.view.Counts()
	s := metrics.State{
		Ready:      n.Ready() == nil,
		ViewBehind: n.view.Behind(),
		Users:      users, Rooms: rooms, Memberships: n.view.Memberships(),
		Sessions: n.broker.Posture().Members,
	}
	s.AuditLast, _ = n.audit.Head()
	u := n.blobs.Usage()
	s.Blobs = metrics.Blobs{
		Blobs: u.Blobs, Bytes: u.Bytes, Uploads: u.Uploads, UploadBytes: u.UploadBytes,
		Received: u.BytesReceived, Served: u.BytesServed, Damaged: u.Damaged,
	}
	if seen := n.view.LeaseSeen(n.cfg.Name); !seen.IsZero() {
		s.LeaseAge = now.Sub(seen)
	}
	if leaf := certs.Leaf(n.cfg.TLS); leaf != nil {
		s.CertEnds = leaf.NotAfter
	}
	streams, err := n.broker.Streams()
	if err != nil {
		n.log.Warn("streams not counted", "error", err)
	}
	for _, u := range streams {
		s.Streams = append(s.Streams, metrics.Stream{Shard: u.Shard, Messages: u.Messages, Bytes: u.Bytes, Consumers: u.Consumers})
		s.StreamLimit = u.MaxBytes
	}
	return s
}
