package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// Store is a [store.Store] in one SQLite file. [Open] makes it.
type Store struct {
	path   string
	opts   Options
	unlock func()

	writer  *pool // of one
	readers *pool

	// alive ends when the file fails, with that as its cause, or when the store closes.
	alive  context.Context
	end    context.CancelCauseFunc
	closed atomic.Bool
	close  func() error   // closes once, says the same every time
	work   sync.WaitGroup // the sweeper and the watches

	mu    sync.Mutex
	feeds map[store.Bucket]*feed // the map is fixed, mu guards what it points to
}

// feed is what watches and the sweeper share about one bucket.
type feed struct {
	head     store.Revision // of the last write that returned or is about to
	trimmed  store.Revision // the last tombstone that was trimmed before its time
	watchers map[*watcher]struct{}
}

func newStore(path string, opts Options, unlock func()) *Store {
	s := &Store{
		path: path, opts: opts, unlock: unlock,
		writer: newPool(1), readers: newPool(readerCount()),
		feeds: map[store.Bucket]*feed{},
	}
	s.alive, s.end = context.WithCancelCause(context.Background())
	s.close = sync.OnceValue(s.closeFiles)
	for _, b := range store.Buckets() {
		s.feeds[b] = &feed{watchers: map[*watcher]struct{}{}}
	}
	return s
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, b store.Bucket, key string) (store.Entry, error) {
	if err := check(b, key); err != nil {
		return store.Entry{}, err
	}
	var r row
	err := s.read(ctx, func(c *conn) (err error) {
		r, err = find(c, b, key)
		return err
	})
	if err == nil && !r.lives(s.opts.Now()) {
		err = bus.Errorf(bus.CodeNotFound, "no such key")
	}
	if err != nil {
		return store.Entry{}, wrap(ctx, "get "+string(b)+"/"+key, err)
	}
	return r.Entry, nil
}

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, b store.Bucket, key string, value []byte, ttl time.Duration) (store.Revision, error) {
	if err := cmp.Or(check(b, key), store.CheckValue(value), store.CheckTTL(ttl)); err != nil {
		return 0, err
	}
	rev, err := s.write(ctx, b, func(c *conn) (store.Revision, error) {
		r, err := find(c, b, key)
		if err != nil {
			return 0, err
		}
		now := s.opts.Now()
		if r.lives(now) {
			return 0, bus.Errorf(bus.CodeExists, "the key exists at revision %d", r.Revision)
		}
		var ends any
		if ttl > 0 {
			ends = now.Add(ttl).UnixNano()
		}
		return put(c, b, key, value, ends)
	})
	return rev, wrap(ctx, "create "+string(b)+"/"+key, err)
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, b store.Bucket, key string, value []byte, last store.Revision) (store.Revision, error) {
	if err := cmp.Or(check(b, key), store.CheckValue(value)); err != nil {
		return 0, err
	}
	rev, err := s.write(ctx, b, func(c *conn) (store.Revision, error) {
		r, err := find(c, b, key)
		switch {
		case err != nil:
			return 0, err
		case !r.lives(s.opts.Now()):
			return 0, bus.Errorf(bus.CodeConflict, "the key does not exist, want revision %d", last)
		case r.Revision != last:
			return 0, bus.Errorf(bus.CodeConflict, "the key is at revision %d, want %d", r.Revision, last)
		}
		return put(c, b, key, value, nil)
	})
	return rev, wrap(ctx, "update "+string(b)+"/"+key, err)
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, b store.Bucket, key string, last store.Revision) error {
	if err := check(b, key); err != nil {
		return err
	}
	_, err := s.write(ctx, b, func(c *conn) (store.Revision, error) {
		r, err := find(c, b, key)
		now := s.opts.Now()
		switch {
		case err != nil:
			return 0, err
		case !r.lives(now):
			return 0, bus.Errorf(bus.CodeNotFound, "no such key")
		case r.Revision != last:
			return 0, bus.Errorf(bus.CodeConflict, "the key is at revision %d, want %d", r.Revision, last)
		}
		return bury(c, b, key, now)
	})
	return wrap(ctx, "delete "+string(b)+"/"+key, err)
}

// List implements [store.Store]. It is one snapshot.
func (s *Store) List(ctx context.Context, b store.Bucket, prefix string) ([]store.Entry, error) {
	if err := cmp.Or(store.CheckBucket(b), store.CheckPrefix(prefix)); err != nil {
		return nil, err
	}
	var entries []store.Entry
	err := s.read(ctx, func(c *conn) error {
		now := s.opts.Now()
		return c.run(queriesOf[b].list, func(stmt *sqlite3.Stmt) bool {
			if r := readRow(stmt); r.lives(now) {
				entries = append(entries, r.Entry)
			}
			return true
		}, prefix, above(prefix))
	})
	if err != nil {
		return nil, wrap(ctx, "list "+string(b)+"/"+prefix, err)
	}
	return entries, nil
}

// Close implements [store.Store].
func (s *Store) Close() error { return s.close() }

func (s *Store) closeFiles() error {
	s.mu.Lock() // a watch that is about to begin does so before this, or never
	s.closed.Store(true)
	s.end(nil)
	s.mu.Unlock()
	s.work.Wait()
	// The writer goes last: the last connection to close empties the log into the file.
	err := errors.Join(s.readers.close(), s.writer.close())
	s.unlock()
	if err != nil {
		return bus.Errorf(bus.CodeUnavailable, "close store %s: %w", s.path, err)
	}
	return nil
}

func check(b store.Bucket, key string) error {
	return cmp.Or(store.CheckBucket(b), store.CheckKey(key))
}

// above returns what follows, in the order of keys, every key that begins with
// prefix: 0x7f is greater than any character of a key.
func above(prefix string) string { return prefix + "\x7f" }

// find returns the row of a key, a dead one if there is none.
func find(c *conn, b store.Bucket, key string) (row, error) {
	r := row{dead: true}
	err := c.run(queriesOf[b].get, func(stmt *sqlite3.Stmt) bool {
		r = readRow(stmt)
		return false
	}, key)
	return r, err
}

// put replaces the row of a key, under the next revision. ends is nil or a time.
func put(c *conn, b store.Bucket, key string, value any, ends any) (store.Revision, error) {
	err := c.run(queriesOf[b].put, nil, key, value, ends)
	return store.Revision(c.db.LastInsertRowID()), err
}

// bury makes the row of a key a tombstone.
func bury(c *conn, b store.Bucket, key string, now time.Time) (store.Revision, error) {
	return put(c, b, key, nil, now.Add(tombstoneLife).UnixNano())
}

// take waits for a connection of a pool, which the caller puts back.
func (s *Store) take(ctx context.Context, p *pool) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case c := <-p.idle:
		if s.alive.Err() != nil {
			p.idle <- c
			return nil, s.ended()
		}
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.alive.Done():
		return nil, s.ended()
	}
}

// ended says why the store no longer serves.
func (s *Store) ended() error {
	if s.closed.Load() {
		return bus.Errorf(bus.CodeClosed, "the store is closed")
	}
	return context.Cause(s.alive)
}

// judge adds to an error what the operating system said, and ends the store
// if it says that the file cannot be trusted any more.
func (s *Store) judge(err error) error {
	if !broken(err) && !errors.Is(err, sqlite3.FULL) {
		return err
	}
	err = s.opts.fs.explain(s.path, err)
	if broken(err) {
		s.fail(err)
	}
	return err
}

// fail ends the store for a reason that its file or disk gave.
func (s *Store) fail(err error) {
	s.end(bus.Errorf(bus.CodeUnavailable, "the store failed earlier and must be opened again: %w", err))
}

// read calls f with a connection that reads. An end of ctx interrupts it.
func (s *Store) read(ctx context.Context, f func(*conn) error) error {
	c, err := s.take(ctx, s.readers)
	if err != nil {
		return err
	}
	defer func() { s.readers.idle <- c }()
	c.db.SetInterrupt(ctx)
	defer c.db.SetInterrupt(context.Background())
	return s.judge(f(c))
}

// write calls f, which returns the revision of the last thing it wrote to b, in
// a transaction, and tells the watches. An end of ctx interrupts f and takes
// everything back, but not the commit: of that the outcome is known.
func (s *Store) write(ctx context.Context, b store.Bucket, f func(*conn) (store.Revision, error)) (store.Revision, error) {
	c, err := s.take(ctx, s.writer)
	if err != nil {
		return 0, err
	}
	defer func() { s.writer.idle <- c }()
	rev, err := s.transact(ctx, c, f)
	if err != nil {
		return 0, err
	}
	if rev > 0 {
		s.publish(b, rev)
	}
	return rev, nil
}

func (s *Store) transact(ctx context.Context, c *conn, f func(*conn) (store.Revision, error)) (store.Revision, error) {
	c.db.SetInterrupt(ctx)
	err := c.run("BEGIN IMMEDIATE", nil)
	var rev store.Revision
	if err == nil {
		rev, err = f(c)
	}
	c.db.SetInterrupt(context.Background())
	if err != nil {
		return 0, errors.Join(s.judge(err), s.rollback(c))
	}
	if err := c.run("COMMIT", nil); err != nil {
		return 0, errors.Join(s.commitFailed(err), s.rollback(c))
	}
	return rev, nil
}

// commitFailed tells apart a commit that did not happen from one that nobody
// knows of: the log may have reached the disk although flushing it failed, and
// then the write is there when the store is opened again.
func (s *Store) commitFailed(err error) error {
	if errors.Is(err, sqlite3.FULL) || errors.Is(err, sqlite3.BUSY) {
		return s.judge(err)
	}
	err = s.opts.fs.explain(s.path, err)
	s.fail(err)
	return bus.Errorf(bus.CodeUnknownOutcome, "commit: %w", err)
}

// rollback ends a transaction that is still open after an error.
func (s *Store) rollback(c *conn) error {
	if c.db.GetAutocommit() {
		return nil
	}
	if err := c.run("ROLLBACK", nil); err != nil {
		s.fail(err)
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// publish moves the head of a bucket and wakes its watches. The writer calls
// it before its write returns, while it still is the writer.
func (s *Store) publish(b store.Bucket, rev store.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[b]
	f.head = rev
	for w := range f.watchers {
		w.wake()
	}
}
