package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

// DefaultFileSize is when a log goes on in another file, in bytes.
const DefaultFileSize = 16 << 20

// lockWait is how long [Open] waits for another process that has the log.
const lockWait = 5 * time.Second

// Options are what may be chosen about a log.
type Options struct {
	FileSize int64            // when to begin another file; 0 is [DefaultFileSize]
	Now      func() time.Time // default [time.Now]
}

// Log is an open log. It is safe for concurrent use; entries that are written
// at the same time share the wait for the disk.
type Log struct {
	dir       string
	fileSize  int64
	now       func() time.Time
	unlock    func()
	recovered int

	mu     sync.Mutex
	chain  Chain  // with all that was handed out
	batch  *batch // collects entries; nil while there is none
	err    error  // why nothing more can be written
	synced Chain  // with all that reached the disk

	writing sync.Mutex // held by whoever writes a batch
	file    *os.File
	size    int64
}

// batch is lines that go to the disk together.
type batch struct {
	before Chain
	lines  []byte
	after  Chain
	done   bool // err is settled; under [Log].writing
	err    error
}

// Open opens the log in dir, which it makes, closed to others, if it is
// missing, and locks it against other processes: one that has it open is
// [bus.CodeUnavailable]. What a crash left of an entry at the end is cut off;
// see [Log.Recovered]. A log whose last file does not verify otherwise is
// [bus.CodeAuditBroken].
func Open(ctx context.Context, dir string, o Options) (*Log, error) {
	l := &Log{dir: dir, fileSize: o.FileSize, now: o.Now}
	if l.fileSize <= 0 {
		l.fileSize = DefaultFileSize
	}
	if l.now == nil {
		l.now = time.Now
	}
	if err := l.open(ctx); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) (err error) {
	if err := durable.MkdirAll(l.dir); err != nil {
		return err
	}
	if err := durable.Adopt(l.dir, filepath.Dir(l.dir)); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock := filepath.Join(l.dir, "lock")
	if l.unlock, err = durable.Lock(wait, lock); err != nil {
		if errors.Is(err, bus.ErrTimeout) {
			return bus.Errorf(bus.CodeUnavailable, "another process has it: %w", err)
		}
		return err
	}
	defer func() {
		if err != nil {
			l.unlock()
		}
	}()
	if err := durable.Adopt(lock, l.dir); err != nil {
		return err
	}
	firsts, err := list(l.dir)
	if err != nil {
		return err
	}
	if len(firsts) == 0 {
		h := header{first: 1}
		rand.Read(h.prev[:]) // never fails: crypto/rand ends the process instead
		l.chain = *NewChain(h.first, h.prev)
		l.synced = l.chain
		return l.begin(h)
	}
	return l.resume(firsts[len(firsts)-1])
}

// resume goes on in a file.
func (l *Log) resume(first uint64) error {
	chain, err := startOf(l.dir, first)
	if err != nil {
		return err
	}
	t, err := readFile(l.dir, first, chain, func(Entry, []byte) error { return nil })
	if err != nil {
		return err
	}
	l.chain, l.synced = *chain, *chain
	if l.file, err = os.OpenFile(filepath.Join(l.dir, nameOf(first)), os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	l.size, l.recovered = t.good, t.size
	if t.size > 0 {
		err = l.restore()
	}
	if err != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}

// restore cuts off what is behind the last entry that reached the disk.
func (l *Log) restore() error {
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	return l.file.Sync()
}

// begin goes on in a new file, which gets its name when its header is on the disk.
func (l *Log) begin(h header) error {
	path := filepath.Join(l.dir, nameOf(h.first))
	if err := durable.CreateFile(path, h.line(), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := durable.Adopt(path, l.dir); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // all of it is on the disk already
	}
	l.file, l.size = f, int64(len(h.line()))
	return nil
}

// Recovered returns how many bytes of an unfinished entry Open cut off.
func (l *Log) Recovered() int { return l.recovered }

// Head returns the number of the last entry on the disk, 0 before the first, and
// its hash.
func (l *Log) Head() (uint64, bus.AuditHash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced.next - 1, l.synced.prev
}

// Err returns why the log can take no more entries, nil while it can.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Pending is a change that has begun.
type Pending struct {
	log     *Log
	seq     uint64
	request string
}

// Begin writes that a change is about to be made and returns when that is on
// the disk. After an error, which has [bus.CodeUnavailable] or [bus.CodeClosed],
// it must not be made. request names what asks for it, "" where nothing does.
func (l *Log) Begin(request string, c Change) (*Pending, error) {
	seq, err := l.append(Entry{Kind: KindBegin, Request: request, Change: &c})
	if err != nil {
		return nil, fmt.Errorf("write audit log: %w", err)
	}
	return &Pending{l, seq, request}, nil
}

// End writes what came of the change and returns when that is on the disk.
// o.Begin is filled in.
func (p *Pending) End(o Outcome) error {
	o.Begin = p.seq
	if _, err := p.log.append(Entry{Kind: KindEnd, Request: p.request, Outcome: &o}); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

// Do makes a change between its two entries. It is not made where the first
// cannot be written. wrote tells the revision afterwards.
func (l *Log) Do(c Change, wrote func() uint64, change func() error) error {
	p, err := l.Begin("", c)
	if err != nil {
		return err
	}
	o := Outcome{Code: string(bus.CodeInternal)}
	ended := false
	defer func() {
		if !ended { // it panicked
			_ = p.End(o)
		}
	}()
	if err = change(); err != nil {
		o.Code = string(bus.CodeOf(err))
	} else {
		o.Code, o.Revision = OK, wrote()
	}
	ended = true
	return errors.Join(err, p.End(o))
}

// append gives an entry its place and waits until it is on the disk. Whoever
// finds nobody writing writes what all others have added meanwhile.
func (l *Log) append(e Entry) (uint64, error) {
	b, seq, err := l.add(e)
	if err != nil {
		return 0, err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if b.done {
		return seq, b.err
	}
	l.mu.Lock()
	l.batch = nil // nobody joins any more
	l.mu.Unlock()
	b.done = true
	if err := l.write(b); err != nil {
		if b.err = err; bus.CodeOf(err) == bus.CodeInternal {
			b.err = bus.Errorf(bus.CodeUnavailable, "%w", err)
		}
		l.undo(b)
		return 0, b.err
	}
	l.mu.Lock()
	l.synced = b.after
	l.mu.Unlock()
	return seq, nil
}

// add puts an entry into the batch that is next.
func (l *Log) add(e Entry) (*batch, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, 0, l.err
	}
	e.V, e.Seq, e.Time = version, l.chain.next, l.now().UTC().Truncate(time.Millisecond)
	text, err := encode(e)
	if err != nil {
		return nil, 0, err
	}
	if l.batch == nil {
		l.batch = &batch{before: l.chain}
	}
	hash := hashOf(l.chain.prev, text)
	l.batch.lines = fmt.Appendf(l.batch.lines, "%s %s\n", hash, text)
	l.chain = Chain{e.Seq + 1, hash}
	l.batch.after = l.chain
	return l.batch, e.Seq, nil
}

// write brings a batch to the disk.
func (l *Log) write(b *batch) error {
	if err := l.Err(); err != nil { // it was closed meanwhile
		return err
	}
	if l.size > l.fileSize {
		if err := l.begin(header{b.before.next, b.before.prev}); err != nil {
			return err
		}
	}
	n, err := l.file.Write(b.lines)
	if err != nil {
		if n == 0 {
			return err
		}
		if undone := l.restore(); undone != nil {
			return l.stop(errors.Join(err, undone))
		}
		return err
	}
	if err := l.file.Sync(); err != nil {
		// What the disk has now nobody can tell: another try may succeed
		// without having written anything.
		return l.stop(err)
	}
	l.size += int64(n)
	return nil
}

// stop takes no more entries.
func (l *Log) stop(err error) error {
	err = bus.Errorf(bus.CodeUnavailable, "it can take no more entries: %w", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	return err
}

// undo takes the entries of a failed batch back, and those that stand on them.
func (l *Log) undo(failed *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next := l.batch; next != nil {
		next.done, next.err = true, failed.err
		l.batch = nil
	}
	l.chain = failed.before
}

// Close lets go of the log. Entries after it are refused with [bus.CodeClosed].
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	closed := errors.Is(l.err, bus.ErrClosed)
	l.err = bus.Errorf(bus.CodeClosed, "it is closed")
	l.mu.Unlock()
	if closed {
		return nil
	}
	defer l.unlock()
	return l.file.Close()
}
