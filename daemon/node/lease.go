package node

import (
	"context"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// A node may serve only what it knows to be current. It writes its lease every
// leaseRenew; a renewal counts when it comes back through the node's own watch
// of the store, which proves at once that writes reach the store and that the
// view follows it. A lease older than leaseLife means not ready.
const (
	leaseRenew = 2 * time.Second
	leaseLife  = 6 * time.Second
)

// Ready returns nil while the node may serve, and why it may not otherwise,
// with [bus.CodeUnavailable]. It is cheap: every new session asks.
func (n *Node) Ready() error {
	if err := n.view.Err(); err != nil {
		return bus.Errorf(bus.CodeUnavailable, "check readiness: directory: %w", err)
	}
	if err := n.audit.Err(); err != nil {
		return bus.Errorf(bus.CodeUnavailable, "check readiness: audit log: %w", err)
	}
	seen := n.view.LeaseSeen(n.cfg.Name)
	if seen.IsZero() {
		return bus.Errorf(bus.CodeUnavailable, "check readiness: no lease yet")
	}
	if age := n.cfg.Now().Sub(seen); age > leaseLife {
		return bus.Errorf(bus.CodeUnavailable, "check readiness: own writes last came back %s ago", age.Round(time.Millisecond))
	}
	return nil
}

// keepLease renews until ctx ends. It logs when failing begins and ends, not
// every turn of it.
func (n *Node) keepLease(ctx context.Context) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		renew, cancel := context.WithTimeout(ctx, leaseRenew)
		err := n.dir.RenewLease(renew, n.cfg.Name)
		if err == nil {
			n.timeView(renew)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		n.metrics.LeaseRenewed(err)
		if failed := err != nil; failed != failing {
			failing = failed
			if failed {
				n.log.Warn("lease not renewed", "error", err)
			} else {
				n.log.Info("lease renewed again")
			}
		}
	}
}

// timeView measures how far the view trails the store, by the lease that was
// written just now. That it never shows is for [Node.Ready] to find.
func (n *Node) timeView(ctx context.Context) {
	written := time.Now()
	if n.view.CatchUp(ctx) == nil {
		n.metrics.ViewCaughtUp(time.Since(written))
	}
}
