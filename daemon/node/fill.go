package node

import (
	"context"
	"fmt"
	"time"

	"github.com/enmanuel/unibus/daemon/broker"
)

const (
	fillEvery = 30 * time.Second
	// nearlyFull is the part of a shard's bytes from which on the operator hears
	// of it: enough to act before anything is refused.
	nearlyFull = 0.9
)

// level is how full a shard is.
type level uint8

const (
	roomy level = iota
	nearly
	full
)

func levelOf(u broker.StreamUse) level {
	switch {
	case u.MaxBytes <= 0:
		return roomy
	case u.Bytes+broker.MaxPayload > uint64(u.MaxBytes):
		return full // the largest message does not fit any more
	case float64(u.Bytes) >= nearlyFull*float64(u.MaxBytes):
		return nearly
	}
	return roomy
}

// watchFill looks at the shards until ctx ends, and tells the operator when one
// fills up, and when it has room again.
func (n *Node) watchFill(ctx context.Context) {
	tick := time.NewTicker(fillEvery)
	defer tick.Stop()
	before := map[int]level{}
	for {
		n.lookAtFill(before)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookAtFill looks once; before is what was found the last time.
func (n *Node) lookAtFill(before map[int]level) {
	uses, err := n.broker.Streams()
	if err != nil {
		n.log.Debug("shards not looked at", "error", err)
		return
	}
	var notes []string
	for _, u := range uses {
		now := levelOf(u)
		switch {
		case now == full && before[u.Shard] != full:
			n.log.Warn("shard is full; messages to its rooms are refused", "shard", u.Shard, "bytes", u.Bytes, "limit", u.MaxBytes)
		case now == nearly && before[u.Shard] == roomy:
			n.log.Warn("shard is nearly full", "shard", u.Shard, "bytes", u.Bytes, "limit", u.MaxBytes)
		case now == roomy && before[u.Shard] != roomy:
			n.log.Info("shard has room again", "shard", u.Shard, "bytes", u.Bytes, "limit", u.MaxBytes)
		}
		before[u.Shard] = now
		if now == full {
			notes = append(notes, fmt.Sprintf("shard %d is full", u.Shard))
		} else if now == nearly {
			notes = append(notes, fmt.Sprintf("shard %d is nearly full", u.Shard))
		}
	}
	n.notes.Store(&notes)
}

// Notes returns what needs the operator's attention although the node serves.
func (n *Node) Notes() []string {
	if notes := n.notes.Load(); notes != nil {
		return *notes
	}
	return nil
}
