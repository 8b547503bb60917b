package durable

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/flock"

	"github.com/enmanuel/unibus/lib/bus"
)

// lockPoll is how often a waiting Lock tries again. Locks are held for the
// milliseconds that one small file takes.
const lockPoll = 5 * time.Millisecond

// Lock waits until the caller alone holds the lock file path, among the
// goroutines of this process and among all processes of this machine that use
// Lock, and returns what lets go of it. unlock may be called more than once;
// the end of the process lets go too, however it ends.
//
// The lock file is made if it is missing, mode 0600, stays empty and must
// never be deleted or replaced: two files of one name are two locks. So lock
// "x.lock", not the "x" that [WriteFile] replaces. The lock is advisory, not
// re-entrant and not fair.
//
// When ctx ends first the error has [bus.CodeTimeout] and wraps ctx.Err().
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	// A lock object of its own for every call, since the objects, not the
	// goroutines, are what exclude each other.
	l := flock.New(path)
	_, err = l.TryLockContext(ctx, lockPoll)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, bus.Errorf(bus.CodeTimeout, "lock file %s: gave up waiting for its holder: %w", path, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("lock file %s: %w", path, err)
	}
	return func() {
		// flock(2) on an open descriptor fails only if the descriptor is bad,
		// and then there is no lock left to hold.
		_ = l.Unlock()
	}, nil
}
