package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/daemon/certs"
	"github.com/enmanuel/unibus/daemon/control"
	"github.com/enmanuel/unibus/lib/api"
)

// serveControl opens the control plane for clients and for the local socket.
func (n *Node) serveControl(context.Context) error {
	plain, err := onLoopbackOnly(n.cfg.ControlListen, n.cfg.NATSListen)
	if err != nil {
		return err
	}
	limits := n.cfg.Limits
	if local, err := onLoopbackOnly(n.cfg.ControlListen); err != nil {
		return err
	} else if local {
		limits.TrustLoopback = true
	}
	log := n.log.With("part", "control")
	server := control.New(control.Config{
		Directory: n.dir, View: n.view, Cursors: n.access, Audit: n.audit, Blobs: n.blobs,
		Ready: n.Ready, Notes: n.Notes, Health: n.health, Settle: n.access.Settle,
		PlainRooms: plain, Limits: limits,
		Logger: log, Metrics: n.metrics, Now: n.cfg.Now,
	})
	n.control = server
	local, err := control.ListenLocal(n.cfg.Socket, log)
	if err != nil {
		return err
	}
	n.serve("local socket", control.NewHTTPServer(n.withMetrics(server.LocalHandler()), log), local)

	public, err := net.Listen("tcp", n.cfg.ControlListen)
	if err != nil {
		return fmt.Errorf("open control plane: %w", err)
	}
	n.public = public
	public = server.LimitConns(public)
	if n.cfg.TLS != nil {
		config := n.cfg.TLS.Clone()
		config.NextProtos = []string{"h2", "http/1.1"}
		public = tls.NewListener(public, config)
	}
	n.serve("control plane", control.NewHTTPServer(server.Handler(), log), public)
	return nil
}

// serve runs srv on l until Stop, which lets requests end that have begun.
func (n *Node) serve(name string, srv *http.Server, l net.Listener) {
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("serve %s: %w", name, err))
		}
	}()
	n.onStop(func(ctx context.Context) error {
		if err := srv.Shutdown(ctx); err != nil {
			return errors.Join(fmt.Errorf("stop serving %s: %w", name, err), srv.Close())
		}
		return nil
	})
}

// health measures the node. What a single node cannot have stays zero.
func (n *Node) health(context.Context) api.Health {
	seen := n.seen.Load()
	users, rooms := n.view.Counts()
	h := api.Health{
		Status: "ok", Version: n.cfg.Version, Node: n.cfg.Name,
		UptimeS: int64(n.cfg.Now().Sub(n.started) / time.Second),
		TLS:     seen.tls,
		ACL:     seen.denies,
		AtRest:  seen.opaque,
		Sync:    "lazy",
		Store:   "sqlite", Replicas: 1,
		Quorum: n.Ready() == nil,
		Leader: n.cfg.Name,
		Rooms:  rooms, Users: users,
	}
	if seen.enforces {
		h.Auth = "enforce"
	}
	if seen.synced {
		h.Sync = "always"
	}
	if leaf := certs.Leaf(n.cfg.TLS); leaf != nil {
		days := certs.DaysLeft(leaf, n.cfg.Now())
		h.CertDaysLeft = &days
	}
	return h
}
