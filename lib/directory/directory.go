package directory

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// OrphanAge is how long something may lie in the store without belonging to
// anything before [Directory.SweepOrphans] takes it for what a crash left. It
// is far longer than any operation lives.
const OrphanAge = time.Hour

// attempts bounds how often one operation begins again after a lost race or an
// unknown outcome. Each time means that somebody else got on, or that a
// driver's own retries ended.
const attempts = 16

// Directory reads and writes the users, cards and rooms of a bus. It is safe
// for concurrent use, also by several processes over one store. Errors have
// the codes of [store.Store] besides those a method names.
type Directory struct {
	store store.Store
	bus   bus.BusID
	now   func() time.Time

	chains chains
	leases leases

	mu    sync.Mutex
	wrote store.Revision // latest revision in the control bucket that an operation here rests on
}

// New returns the directory of bus b in s. now is the node's clock.
func New(s store.Store, b bus.BusID, now func() time.Time) *Directory {
	return &Directory{store: s, bus: b, now: now}
}

// BusID returns which bus it is the directory of.
func (d *Directory) BusID() bus.BusID { return d.bus }

// seconds returns the time as it is stored.
func (d *Directory) seconds() time.Time { return d.now().UTC().Truncate(time.Second) }

// rest notes that an operation rests on a revision of the control bucket.
func (d *Directory) rest(b store.Bucket, r store.Revision) {
	if b != store.Control {
		return
	}
	d.mu.Lock()
	d.wrote = max(d.wrote, r)
	d.mu.Unlock()
}

// Wrote returns a revision of the control bucket by which every operation that
// this directory has finished shows.
func (d *Directory) Wrote() store.Revision { return d.lastWrote() }

// lastWrote returns the revision of the control bucket after which every
// finished operation of this directory shows.
func (d *Directory) lastWrote() store.Revision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wrote
}

// mark names one write among all others, so that it is recognised when its
// outcome was unknown.
type mark [16]byte

func newMark() mark {
	var m mark
	rand.Read(m[:]) // never fails: crypto/rand ends the process instead
	return m
}

// lost is that an entry is not what a write made it. current is what was found
// instead; it has no key if there is none.
type lost struct {
	current store.Entry
	err     error
}

func (l *lost) Error() string { return l.err.Error() }
func (l *lost) Unwrap() error { return l.err }

// create makes an entry whose value nobody else writes. Finding that very
// value under the key is success: an earlier attempt made it. Otherwise an
// entry that exists is a [*lost].
func (d *Directory) create(ctx context.Context, b store.Bucket, key string, value []byte, ttl time.Duration) (store.Revision, error) {
	for attempt := 1; ; attempt++ {
		rev, err := d.store.Create(ctx, b, key, value, ttl)
		switch {
		case err == nil:
			d.rest(b, rev)
			return rev, nil
		case !errors.Is(err, bus.ErrExists) && !errors.Is(err, bus.ErrUnknownOutcome):
			return 0, err
		}
		found, getErr := d.store.Get(ctx, b, key)
		switch {
		case getErr == nil && bytes.Equal(found.Value, value):
			d.rest(b, found.Revision)
			return found.Revision, nil
		case getErr == nil:
			return 0, &lost{found, bus.Errorf(bus.CodeExists, "create %s in %s: it exists already", key, b)}
		case !errors.Is(getErr, bus.ErrNotFound):
			return 0, unsettled(err, getErr)
		case attempt == attempts:
			return 0, err
		}
	}
}

// update replaces the value of an entry by one that nobody else writes. If it
// is not the one found afterwards, the error is a [*lost].
func (d *Directory) update(ctx context.Context, b store.Bucket, key string, value []byte, last store.Revision) (store.Revision, error) {
	for attempt := 1; ; attempt++ {
		rev, err := d.store.Update(ctx, b, key, value, last)
		switch {
		case err == nil:
			d.rest(b, rev)
			return rev, nil
		case !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrUnknownOutcome):
			return 0, err
		}
		found, getErr := d.store.Get(ctx, b, key)
		switch {
		case getErr == nil && bytes.Equal(found.Value, value):
			d.rest(b, found.Revision)
			return found.Revision, nil
		case getErr != nil && !errors.Is(getErr, bus.ErrNotFound):
			return 0, unsettled(err, getErr)
		case found.Revision != last:
			return 0, &lost{found, bus.Errorf(bus.CodeConflict, "update %s in %s: somebody else was first", key, b)}
		case attempt == attempts:
			return 0, err
		}
	}
}

// unsettled is the error of a write when the read that would have told its
// outcome failed too.
func unsettled(write, read error) error {
	if errors.Is(write, bus.ErrUnknownOutcome) {
		return bus.Errorf(bus.CodeUnknownOutcome, "%v; read it again: %w", write, read)
	}
	return read
}

// busy is the error of an operation that lost every race.
func busy(what string) error {
	return bus.Errorf(bus.CodeUnavailable, "%s: lost %d races in a row", what, attempts)
}
