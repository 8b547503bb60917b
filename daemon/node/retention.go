package node

import (
	"context"
	"errors"
	"time"

	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/room"
)

// Housekeeping that nobody waits for.
const (
	sweepEvery = time.Hour       // records and keys that no head ever reached, abandoned and old blobs
	purgeEvery = 5 * time.Minute // stored messages past the max_age of their room
)

// keepHouse does it until ctx ends. What fails is tried again at the next turn.
func (n *Node) keepHouse(ctx context.Context) {
	sweep, purge := time.NewTicker(sweepEvery), time.NewTicker(purgeEvery)
	defer sweep.Stop()
	defer purge.Stop()
	for {
		var what metrics.Task
		var err error
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			what = metrics.TaskSweep
			_, err = n.dir.SweepOrphans(ctx)
			_, blobErr := n.blobs.Sweep(ctx)
			err = errors.Join(err, blobErr)
		case <-purge.C:
			what = metrics.TaskPurge
			err = n.purgeExpired(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		n.metrics.Housekept(what, err)
		if err != nil {
			n.log.Warn("housekeeping failed", "what", what, "error", err)
		}
	}
}

// purgeExpired deletes what the policies of the rooms say may go.
func (n *Node) purgeExpired(ctx context.Context) error {
	now := n.cfg.Now()
	var expiries []broker.Expiry
	for rec := range n.view.Rooms() {
		if e, ok := expiryOf(rec, now); ok {
			expiries = append(expiries, e)
		}
	}
	return n.broker.Purge(ctx, expiries)
}

func expiryOf(rec *room.Record, now time.Time) (broker.Expiry, bool) {
	if !rec.Policy.Persisted() || rec.Policy.MaxAge <= 0 {
		return broker.Expiry{}, false
	}
	return broker.Expiry{Room: rec.Room, Before: now.Add(-rec.Policy.MaxAge)}, true
}
