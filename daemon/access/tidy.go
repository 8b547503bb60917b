package access

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// tidy looks at regular times for what no change of the view announces:
// connections that ended, cards that expired, consumers that nobody uses and
// those that could not be deleted when they should have been.
func (a *Access) tidy(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.tidyConns()
			a.tidyReaders(ctx)
		}
	}
}

func (a *Access) tidyConns() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, mine := range a.conns {
		for cid, c := range mine {
			if !a.broker.Alive(cid) {
				delete(mine, cid)
			} else if err := a.stillGood(c); err != nil {
				a.forget(c, err)
				a.broker.Kick(cid)
			}
		}
		if len(mine) == 0 {
			delete(a.conns, id)
		}
	}
}

func (a *Access) tidyReaders(ctx context.Context) {
	a.readersMu.Lock()
	ids := slices.Collect(maps.Keys(a.readers))
	a.readersMu.Unlock()
	for _, id := range ids {
		if ctx.Err() != nil {
			return
		}
		a.tidyReader(ctx, id)
	}
}

func (a *Access) tidyReader(ctx context.Context, id bus.ID) {
	bounded, cancel := context.WithTimeout(ctx, admitTimeout)
	defer cancel()
	err := errors.Join(a.dropLeft(bounded, id), a.dropIdle(bounded, id, a.now()))
	if err != nil && ctx.Err() == nil {
		a.log.Warn("consumers not tidied", "id", id, "error", err)
	}
}

// dropLeft deletes consumers over lost rooms that a change of the view should
// have taken along. A change that is on its way is let through first: it cuts
// the connections that fetch from them, which it finds by their consumers.
func (a *Access) dropLeft(ctx context.Context, id bus.ID) error {
	if !a.hasLost(id) {
		return nil
	}
	if err := errors.Join(a.view.CatchUp(ctx), a.Settle(ctx)); err != nil {
		return err
	}
	return a.dropLost(ctx, id)
}
