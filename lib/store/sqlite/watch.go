package sqlite

import (
	"cmp"
	"context"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// What a watch reads at once, and so holds in memory while its consumer is slow.
const (
	batchRows  = 256
	batchBytes = 1 << 20 // or one row more than that
)

// watcher reads the rows of a bucket in the order of revisions, from where it
// is to the head, then waits to be woken. Nothing is queued for it: what its
// consumer did not take yet is still in the table.
type watcher struct {
	s      *Store
	bucket store.Bucket
	prefix string
	start  store.Revision // the head when the watch began

	// pos is the last revision read. The store's mu guards it, since the sweeper
	// must not trim tombstones that lie ahead of it.
	pos store.Revision

	parent  context.Context // the caller's
	ctx     context.Context // ends with the caller's, with Stop and with the store
	cancel  context.CancelFunc
	stopped atomic.Bool

	woken  chan struct{}
	events chan store.Event
	err    error         // why it ended, under mu
	done   chan struct{} // closed after events
}

// Watch implements [store.Store]. A watch whose consumer takes nothing for an
// hour while entries are deleted may end with [bus.CodeGap].
func (s *Store) Watch(ctx context.Context, b store.Bucket, prefix string) (store.Watcher, error) {
	if err := cmp.Or(store.CheckBucket(b), store.CheckPrefix(prefix)); err != nil {
		return nil, err
	}
	w := &watcher{
		s: s, bucket: b, prefix: prefix, parent: ctx,
		woken: make(chan struct{}, 1), events: make(chan store.Event), done: make(chan struct{}),
	}
	s.mu.Lock() // Close ends the store under mu too: it waits for this watch, or this sees the end
	defer s.mu.Unlock()
	if err := cmp.Or(ctx.Err(), s.alive.Err()); err != nil {
		return nil, w.why(err)
	}
	f := s.feeds[b]
	w.start = f.head
	f.watchers[w] = struct{}{}
	w.ctx, w.cancel = context.WithCancel(ctx)
	unhook := context.AfterFunc(s.alive, w.cancel)
	s.work.Go(func() {
		err := w.why(w.follow())
		unhook()
		w.cancel()
		s.mu.Lock()
		w.err = err
		delete(f.watchers, w)
		s.mu.Unlock()
		close(w.events)
		close(w.done)
	})
	return w, nil
}

// Events implements [store.Watcher].
func (w *watcher) Events() <-chan store.Event { return w.events }

// Err implements [store.Watcher].
func (w *watcher) Err() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.err
}

// Stop implements [store.Watcher].
func (w *watcher) Stop() {
	w.stopped.Store(true)
	w.cancel()
	<-w.done
}

// wake makes the watch read again. It never blocks: one wake that waits covers
// every write before it is taken.
func (w *watcher) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// floor is the last revision whose tombstone this watch can do without: it has
// passed it, or the entry was gone before the watch began. The caller has mu.
func (w *watcher) floor() store.Revision { return max(w.pos, w.start) }

// follow delivers events until something ends it.
func (w *watcher) follow() error {
	synced := false
	for {
		rows, more, err := w.read()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if !synced && r.Revision > w.start {
				synced = true
				if err := w.send(store.Event{Synced: true}); err != nil {
					return err
				}
			}
			if err := w.send(store.Event{Entry: r.Entry, Deleted: r.dead}); err != nil {
				return err
			}
		}
		if more {
			continue
		}
		if !synced {
			synced = true
			if err := w.send(store.Event{Synced: true}); err != nil {
				return err
			}
		}
		select {
		case <-w.woken:
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	}
}

func (w *watcher) send(e store.Event) error {
	select {
	case w.events <- e:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// read returns the next rows to deliver and moves pos past them. more says
// that there may be others behind them.
func (w *watcher) read() (rows []row, more bool, err error) {
	f := w.s.feeds[w.bucket]
	w.s.mu.Lock()
	pos, head := w.pos, f.head
	w.s.mu.Unlock()

	next, size, count := pos, 0, 0
	err = w.s.read(w.ctx, func(c *conn) error {
		now := w.s.opts.Now()
		return c.run(queriesOf[w.bucket].since, func(stmt *sqlite3.Stmt) bool {
			r := readRow(stmt)
			next = r.Revision
			// An entry whose time is over is skipped: the sweeper will bury it
			// under a later revision. So is what was gone before the watch began.
			if r.lives(now) || r.dead && r.Revision > w.start {
				rows = append(rows, r)
			}
			count++
			size += len(r.Value)
			more = count >= batchRows || size >= batchBytes
			return !more
		}, int64(pos), w.prefix, above(w.prefix))
	})
	if err != nil {
		return nil, false, err
	}

	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if f.trimmed > w.floor() {
		return nil, false, bus.Errorf(bus.CodeGap, "deletes up to revision %d were forgotten before the watch, at %d, took them", f.trimmed, pos)
	}
	if !more {
		next = max(next, head) // nothing of ours is between the last row and the head
	}
	w.pos = next
	return rows, more, nil
}

// why turns what ended the watch into what Err tells.
func (w *watcher) why(err error) error {
	switch {
	case w.stopped.Load():
		return nil
	case w.parent.Err() != nil:
		err = w.parent.Err()
	case w.s.alive.Err() != nil:
		err = w.s.ended()
	}
	return wrap(w.parent, "watch "+string(w.bucket)+"/"+w.prefix, err)
}
