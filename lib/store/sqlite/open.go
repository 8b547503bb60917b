package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
	"github.com/enmanuel/unibus/lib/store"
)

// Key encrypts the file, its log included, with AES-256-XTS: 64 bytes of which
// the halves must differ. It hides content from whoever takes the disk or a
// copy; it does not reveal that a copy was changed or is old.
type Key [64]byte

// Options say how to open a store. The zero value is right for a daemon.
type Options struct {
	// MustExist refuses, with bus.CodeNotFound, to make a store that is not there.
	MustExist bool

	// Key opens an encrypted file; nil is one in the clear. A file keeps the
	// way it was made.
	Key *Key

	// Now is the clock of entries that end; nil is time.Now.
	Now func() time.Time

	// SweepEvery is how often the store looks for entries whose time is over
	// and for tombstones; 0 is every 5 seconds.
	SweepEvery time.Duration

	// BusyTimeout is how long a call waits for a process that holds SQLite's
	// own lock, such as the sqlite3 shell; 0 is 5 seconds.
	BusyTimeout time.Duration

	fs *fileSystem // nil is osFiles; tests have others
}

const (
	// lockWait is how long Open waits for the process that has the store open:
	// time for one that is about to end, not for one that serves.
	lockWait = 500 * time.Millisecond

	defaultSweep = 5 * time.Second
	defaultBusy  = 5 * time.Second
)

// Open opens the store in the file path and makes the file (mode 0600), and
// missing directories above it (mode 0700), if they are not there. One process
// has it open at a time, and within a process it is opened once.
//
// Errors: [bus.CodeUnavailable] when it is open already or the files cannot be
// read and written, [bus.CodeMalformed] when the file is something else, or
// newer, or does not open with this key, [bus.CodeFileMode] when it is open to
// others, [bus.CodeNotFound] as [Options].MustExist says, [bus.CodeTimeout]
// when ctx ended first.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	s, err := open(ctx, path, opts)
	if err != nil {
		return nil, wrap(ctx, "open store "+path, err)
	}
	return s, nil
}

var _ store.Store = (*Store)(nil)

func open(ctx context.Context, path string, opts Options) (_ *Store, err error) {
	opts = opts.withDefaults()
	if k := opts.Key; k != nil && bytes.Equal(k[:len(k)/2], k[len(k)/2:]) {
		return nil, bus.Errorf(bus.CodeMalformed, "the halves of the key are the same")
	}
	path, err = resolve(path, opts.MustExist)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := prepareFiles(path, opts.MustExist); err != nil {
		unlock()
		return nil, files(err)
	}
	opts.fs.faults.Delete(path)
	s := newStore(path, opts, unlock)
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(s.judge(err), s.Close())
	}
	s.start()
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SweepEvery <= 0 {
		o.SweepEvery = defaultSweep
	}
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = defaultBusy
	}
	if o.fs == nil {
		o.fs = osFiles()
	}
	return o
}

// resolve returns the path without symbolic links, so that one file has one
// lock, and makes the directories above it.
func resolve(path string, mustExist bool) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", files(err)
	}
	if mustExist {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return "", bus.Errorf(bus.CodeNotFound, "there is no such file")
		}
	} else if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
		return "", files(err)
	}
	if _, err := os.Lstat(path); err == nil {
		path, err = filepath.EvalSymlinks(path)
		return path, files(err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), files(err)
}

func lock(ctx context.Context, path string) (unlock func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	unlock, err = durable.Lock(waiting, lockFile(path))
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		return nil, bus.Errorf(bus.CodeUnavailable, "another process has it open: stop the node that uses it, or ask the running node instead")
	}
	return unlock, files(err)
}

func lockFile(path string) string { return path + ".lock" }

// prepareFiles makes the file if it is missing, since SQLite would make it with
// a wider mode, and refuses one that is open to others.
func prepareFiles(path string, mustExist bool) error {
	_, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh && mustExist {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if fresh {
		if err := durable.Adopt(path, filepath.Dir(path)); err != nil {
			return err
		}
	}
	if err := durable.Adopt(lockFile(path), path); err != nil {
		return err
	}
	return durable.CheckPrivate(path)
}

// files gives an error of the file system its code.
func files(err error) error {
	if err == nil {
		return nil
	}
	if _, coded := errors.AsType[*bus.Error](err); coded {
		return err
	}
	if errors.Is(err, fs.ErrPermission) {
		return bus.Errorf(bus.CodeUnavailable, "this user may not write there: %w", err)
	}
	return bus.Errorf(bus.CodeUnavailable, "%w", err)
}

// connect opens the connections and reads where each bucket is.
func (s *Store) connect(ctx context.Context) error {
	writer, err := openConn(ctx, s.path, s.opts)
	if err != nil {
		return err
	}
	s.writer.add(writer)
	if err := writer.prepareFile(s.opts.Key != nil); err != nil {
		return err
	}
	for _, b := range store.Buckets() {
		head, err := writer.number(queriesOf[b].head)
		if err != nil {
			return fmt.Errorf("read the head of %s: %w", b, err)
		}
		s.feeds[b].head = store.Revision(head)
	}
	for range cap(s.readers.idle) {
		reader, err := openConn(ctx, s.path, s.opts)
		if err != nil {
			return err
		}
		s.readers.add(reader)
		if err := reader.db.Exec("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF"); err != nil {
			return err
		}
	}
	// The one file that SQLite does not make like the others; it holds no content.
	shm := s.path + "-shm"
	if err := errors.Join(os.Chmod(shm, 0o600), durable.Adopt(shm, s.path)); err != nil {
		return files(err)
	}
	// The log exists by now: without its name it would not be found after a crash.
	return files(durable.SyncDir(filepath.Dir(s.path)))
}

// readerCount is how many reads go on at once. Each connection has a cache of
// its own, so more of them mostly cost memory.
func readerCount() int { return max(2, min(4, runtime.GOMAXPROCS(0))) }
