package directory

import (
	"context"
	"slices"
	"sync"

	"github.com/enmanuel/unibus/lib/bus"
)

// chainMemory is how many record hashes are remembered over all rooms, 32
// bytes each. Beyond it everything is forgotten and walked again when needed.
const chainMemory = 1 << 20

// chain says which records a room's history consists of. It is never changed.
type chain struct {
	hashes []bus.RecordHash     // by epoch
	left   map[bus.ID]bus.Epoch // the last record, by epoch, that somebody was removed by
}

// chains remembers a chain for each room that was asked for.
type chains struct {
	mu    sync.Mutex
	rooms map[bus.RoomID]*chain
	total int // hashes in all of them
}

// chain returns the chain of a room that has this head, or that had it: then
// the chain goes on after it. Records name the one before, so the first look
// into a room walks back from its head; later ones walk only what is new.
func (d *Directory) chain(ctx context.Context, r bus.RoomID, head Head) (*chain, error) {
	base := d.chains.get(r)
	if base.has(head) {
		return base, nil
	}
	var walked []bus.RecordHash // newest first
	left := make(map[bus.ID]bus.Epoch)
	for at := head; !base.has(at); at.Epoch-- {
		if uint64(at.Epoch) < uint64(len(base.hashes)) {
			base = &chain{} // of another history: the store was replaced under us
		}
		s, err := d.readStored(ctx, r, at.Hash)
		if err != nil {
			return nil, err
		}
		if s.Epoch != at.Epoch {
			return nil, bus.Errorf(bus.CodeInternal, "walk chain of room %s: record %s is of epoch %d, want %d", r, at.Hash, s.Epoch, at.Epoch)
		}
		walked = append(walked, at.Hash)
		for _, id := range s.Left {
			left[id] = max(left[id], at.Epoch)
		}
		if at.Epoch == 0 {
			break
		}
		at.Hash = s.Prev
	}
	slices.Reverse(walked)
	c := &chain{hashes: slices.Concat(base.hashes[:head.Epoch+1-bus.Epoch(len(walked))], walked), left: left}
	for id, e := range base.left {
		c.left[id] = max(c.left[id], e)
	}
	d.chains.put(r, c)
	return c, nil
}

// has reports whether the chain goes through a record.
func (c *chain) has(at Head) bool {
	return uint64(at.Epoch) < uint64(len(c.hashes)) && c.hashes[at.Epoch] == at.Hash
}

func (c *chains) get(r bus.RoomID) *chain {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.rooms[r]; known != nil {
		return known
	}
	return &chain{}
}

func (c *chains) put(r bus.RoomID, next *chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms == nil || c.total > chainMemory {
		c.rooms, c.total = make(map[bus.RoomID]*chain), 0
	}
	if known := c.rooms[r]; known != nil {
		c.total -= len(known.hashes)
	}
	c.rooms[r] = next
	c.total += len(next.hashes)
}
