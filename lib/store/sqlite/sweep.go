package sqlite

import (
	"context"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/store"
)

const (
	// tombstoneLife is how long a delete is kept for watches that have not
	// passed it. After that they end with a gap rather than grow the file.
	tombstoneLife = time.Hour

	// sweepRows is how many entries one transaction buries while writers wait.
	sweepRows = 256
)

// start begins sweeping.
func (s *Store) start() {
	s.work.Go(func() {
		tick := time.NewTicker(s.opts.SweepEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-s.alive.Done():
				return
			}
			for _, b := range store.Buckets() {
				// An error is not lost: one that lasts has ended the store, and any
				// other meets the next tick. Until then nothing is seen that should not be.
				_ = s.sweep(s.alive, b)
			}
		}
	})
}

// sweep buries the entries of a bucket whose time is over and trims the
// tombstones that nobody needs.
func (s *Store) sweep(ctx context.Context, b store.Bucket) error {
	for {
		now := s.opts.Now()
		floor := s.floor(b)
		var due int64
		err := s.read(ctx, func(c *conn) (err error) {
			due, err = c.number(queriesOf[b].due, now.UnixNano(), int64(floor))
			return err
		})
		if err != nil || due == 0 {
			return err
		}
		more := false
		_, err = s.write(ctx, b, func(c *conn) (rev store.Revision, err error) {
			rev, more, err = buryEnded(c, b, now)
			if err != nil {
				return 0, err
			}
			return rev, s.trim(c, b, floor, now)
		})
		if err != nil || !more {
			return err
		}
	}
}

// floor returns the last revision of a bucket whose tombstone no watch needs.
func (s *Store) floor(b store.Bucket) store.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[b]
	floor := f.head
	for w := range f.watchers {
		floor = min(floor, w.floor())
	}
	return floor
}

func buryEnded(c *conn, b store.Bucket, now time.Time) (rev store.Revision, more bool, err error) {
	var keys []string
	err = c.run(queriesOf[b].ended, func(row *sqlite3.Stmt) bool {
		keys = append(keys, row.ColumnText(0))
		return true
	}, now.UnixNano(), int64(sweepRows))
	for _, key := range keys {
		if err == nil {
			rev, err = bury(c, b, key, now)
		}
	}
	return rev, len(keys) == sweepRows, err
}

// trim removes tombstones up to floor and those whose time is over.
func (s *Store) trim(c *conn, b store.Bucket, floor store.Revision, now time.Time) error {
	stale, err := c.number(queriesOf[b].stale, now.UnixNano())
	if err != nil {
		return err
	}
	if rev := store.Revision(stale); rev > floor {
		floor = rev
		// Before the rows are gone, so that a watch that reads without them knows.
		s.mu.Lock()
		s.feeds[b].trimmed = max(s.feeds[b].trimmed, rev)
		s.mu.Unlock()
	}
	return c.run(queriesOf[b].trim, nil, int64(floor))
}
