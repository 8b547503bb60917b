package client

import (
	"context"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// switchBranch changes over to the branch that the server shows, if an owner
// has chosen it.
func (a *advance) switchBranch(ctx context.Context) error {
	r := a.room
	branch, err := a.fetchBranch(ctx)
	if err != nil {
		return err
	}
	if len(branch) == 0 {
		return bus.Errorf(bus.CodeFork, "read room %s: the server shows no branch", r.id)
	}
	if at := branch[0].Epoch; at > 0 && a.chain.At(at) != nil {
		r.keepFork(&room.Fork{Before: a.chain.At(at - 1), Known: a.chain.At(at), Other: branch[0]})
	}
	last := branch[len(branch)-1]
	left := a.chain.Clone()
	if _, member := last.Member(r.client.ID()); member && last.Policy.Encrypted() {
		key, err := r.openOwn(ctx, last)
		if err != nil {
			return err
		}
		if err := a.chain.SwitchWithKey(branch, key); err != nil {
			return err
		}
	} else if err := a.chain.Switch(branch); err != nil {
		return err
	}
	a.left, a.leftAt = left, branch[0].Epoch
	r.client.log.Warn("client", "room", r.id.String(), "resolved_fork_up_to", last.Epoch)
	return nil
}

// fetchBranch returns what the server shows from the first record on that the
// chain does not have. Each of them may follow the one before it, so there are
// only as many as authorities have signed.
func (a *advance) fetchBranch(ctx context.Context) ([]*room.Record, error) {
	r := a.room
	var branch []*room.Record
	var before *room.Record
	for from := bus.Epoch(0); ; {
		page, err := r.fetchPage(ctx, from)
		if err != nil {
			return nil, err
		}
		for _, rec := range page.recs {
			if known := a.chain.At(rec.Epoch); len(branch) > 0 || known == nil || known.Hash() != rec.Hash() {
				if !mayFollow(rec, r.id, before) {
					return nil, bus.Errorf(bus.CodeFork, "read room %s: record %d of the branch that the server shows may not follow the one before", r.id, rec.Epoch)
				}
				branch = append(branch, rec)
			}
			before = rec
		}
		switch {
		case !page.more:
			return branch, nil
		case len(branch) > maxRecordsAtOnce:
			return nil, bus.Errorf(bus.CodeTooLarge, "read room %s: the branch that the server shows has more than %d records", r.id, maxRecordsAtOnce)
		}
		from = before.Epoch + 1
	}
}
