package client

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// reportEvery is the mean pause between two reports. Each pause is drawn anew
// between half of it and one and a half, so that a report does not tell when
// what it counts happened.
const reportEvery = 10 * time.Minute

// refusals counts what the client refused, for a client that may tell.
type refusals struct {
	mu     sync.Mutex
	counts map[bus.Code]uint32 // nil where nobody is to be told
}

// note counts a failure by its code.
func (r *refusals) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	code := bus.CodeOf(err)
	if r.counts == nil || !code.Known() {
		return
	}
	r.counts[code] = min(r.counts[code]+1, api.MaxReportCount)
}

// take returns what was counted since it was last called, nil if nothing was.
func (r *refusals) take() map[bus.Code]uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.counts) == 0 {
		return nil
	}
	counts := r.counts
	r.counts = map[bus.Code]uint32{}
	return counts
}

// giveBack counts what could not be told.
func (r *refusals) giveBack(counts map[bus.Code]uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for code, n := range counts {
		r.counts[code] = min(r.counts[code]+n, api.MaxReportCount)
	}
}

// keepReporting tells a node now and then what was refused.
func (c *Client) keepReporting() {
	for sleep(c.ctx, reportEvery/2+rand.N(reportEvery)) {
		if err := c.report(c.ctx); err != nil && c.ctx.Err() == nil {
			c.log.Debug("client", "report", err)
		}
	}
}

// report tells a node what was refused since the last report, if anything was.
func (c *Client) report(ctx context.Context) error {
	counts := c.refusals.take()
	if counts == nil {
		return nil
	}
	err := c.control.call(ctx, "POST", api.ReportsPath(), api.Report{V: 1, Counts: counts}, nil)
	if err != nil && !maybeDone(err) {
		c.refusals.giveBack(counts)
	}
	return err
}
