package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// leaseMemory is how many renewals of a node are remembered until a view sees
// them: far more than can be under way.
const leaseMemory = 64

// leases remembers the renewals this process began.
type leases struct {
	mu    sync.Mutex
	nodes map[string]*renewals
}

type renewals struct {
	last  store.Revision // revision of the lease after the latest renewal here, 0 before the first
	begun map[mark]time.Time
	order []mark // of begun, oldest first
}

// RenewLease writes the lease of a node. That the write took effect, and that
// a view is current, shows when [View.LeaseSeen] tells of it. The name of a
// node is 1 to 64 of the characters that store keys may have, without '/'.
func (d *Directory) RenewLease(ctx context.Context, node string) error {
	m := newMark()
	last := d.leases.begin(node, m, d.now())
	value, err := encodeLease(m)
	if err != nil {
		return fmt.Errorf("renew lease of %s: %w", node, err)
	}
	key := nodeKey(node)
	for range attempts {
		var rev store.Revision
		if last == 0 {
			rev, err = d.create(ctx, store.Control, key, value, 0)
		} else {
			rev, err = d.update(ctx, store.Control, key, value, last)
		}
		l, raced := errors.AsType[*lost](err)
		if raced {
			last = l.current.Revision
			continue
		}
		if err != nil {
			return fmt.Errorf("renew lease of %s: %w", node, err)
		}
		d.leases.done(node, rev)
		return nil
	}
	return busy("renew lease")
}

func (l *leases) begin(node string, m mark, now time.Time) store.Revision {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes == nil {
		l.nodes = make(map[string]*renewals)
	}
	r := l.nodes[node]
	if r == nil {
		r = &renewals{begun: make(map[mark]time.Time)}
		l.nodes[node] = r
	}
	if len(r.order) == leaseMemory {
		delete(r.begun, r.order[0])
		r.order = append(r.order[:0], r.order[1:]...)
	}
	r.begun[m] = now
	r.order = append(r.order, m)
	return r.last
}

func (l *leases) done(node string, rev store.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[node].last = max(l.nodes[node].last, rev)
}

// begunAt returns when this process began the renewal with that mark.
func (l *leases) begunAt(node string, m mark) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.nodes[node]
	if r == nil {
		return time.Time{}, false
	}
	at, ok := r.begun[m]
	return at, ok
}

func encodeLease(m mark) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddBytes(m[:])
	return built("lease", &b)
}

func decodeLease(value []byte) (mark, error) {
	var m mark
	var version uint8
	s := cryptobyte.String(value)
	if !s.ReadUint8(&version) || version != bus.Version || !s.CopyBytes(m[:]) || !s.Empty() {
		return mark{}, corrupt("lease")
	}
	return m, nil
}
