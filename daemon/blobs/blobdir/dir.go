package blobdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/lib/bus"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
	// damagedLife is how long damaged files are left for somebody to look at.
	damagedLife = 30 * 24 * time.Hour
)

// Options of a directory of blobs.
type Options struct {
	Limits blobs.Limits
	// KeepFor is how long a blob is kept; 0 is until somebody removes it.
	KeepFor time.Duration

	Now    func() time.Time // default [time.Now]
	Logger *slog.Logger     // default [slog.Default]
}

// Dir is a directory of blobs.
type Dir struct {
	root string
	opts Options
	now  func() time.Time
	log  *slog.Logger

	mu      sync.Mutex
	stored  map[bus.BlobHash]stored
	paid    map[bus.ID]int64 // bytes of complete blobs by who put them
	total   int64            // bytes of complete blobs
	uploads map[key]*upload

	received, served, damaged atomic.Int64
}

var _ blobs.Store = (*Dir)(nil)

// stored is a complete blob.
type stored struct {
	owner bus.ID
	size  int64
	at    time.Time
}

// Open opens the directory of blobs at path, and makes it if it is missing.
func Open(path string, opts Options) (*Dir, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	opts.Limits = opts.Limits.WithDefaults()
	d := &Dir{
		root: path, opts: opts, now: opts.Now, log: opts.Logger,
		stored: map[bus.BlobHash]stored{}, paid: map[bus.ID]int64{}, uploads: map[key]*upload{},
	}
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("open blobs in %s: %w", path, err)
	}
	return d, nil
}

// load makes the directories and takes in what is there.
func (d *Dir) load() error {
	for _, dir := range []string{d.root, filepath.Join(d.root, uploadsDir), filepath.Join(d.root, damagedDir)} {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return filepath.WalkDir(d.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil && entry.Name() == damagedDir {
				return filepath.SkipDir
			}
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return d.take(path, info)
	})
}

// take takes in a file that Open has found. What it does not know it leaves.
func (d *Dir) take(path string, info fs.FileInfo) error {
	parent := filepath.Base(filepath.Dir(path))
	if hash, owner, ok := parseBlobName(info.Name()); ok && parent == hexOf(hash)[:2] {
		if _, twice := d.stored[hash]; twice {
			return os.Remove(path) // two users finished at once when the node went down
		}
		d.add(hash, stored{owner, info.Size(), info.ModTime()})
		return nil
	}
	k, size, done, ok := parseUploadName(info.Name())
	if !ok || parent != uploadsDir {
		d.log.Warn("unknown file among blobs", "path", path)
		return nil
	}
	if info.Size() < done || d.uploads[k] != nil {
		return os.Remove(path) // no crash of ours leaves such a file
	}
	d.uploads[k] = newUpload(size, done, info.ModTime())
	return nil
}

// add counts a complete blob, for those who hold the lock.
func (d *Dir) add(hash bus.BlobHash, s stored) {
	d.stored[hash] = s
	d.paid[s.owner] += s.size
	d.total += s.size
}

// drop is the opposite of add.
func (d *Dir) drop(hash bus.BlobHash) {
	s := d.stored[hash]
	delete(d.stored, hash)
	d.total -= s.size
	if d.paid[s.owner] -= s.size; d.paid[s.owner] == 0 {
		delete(d.paid, s.owner)
	}
}

// Close implements [blobs.Store]. Everything is on the disk already.
func (d *Dir) Close() error { return nil }

// Stat implements [blobs.Store].
func (d *Dir) Stat(_ context.Context, user bus.ID, hash bus.BlobHash) (blobs.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.stored[hash]; ok {
		return complete(s.size), nil
	}
	if u, ok := d.uploads[key{user, hash}]; ok {
		return blobs.Status{Offset: u.done, Size: u.size}, nil
	}
	return blobs.Status{}, notFound(hash)
}

func complete(size int64) blobs.Status {
	return blobs.Status{Offset: size, Size: size, Complete: true}
}

func notFound(hash bus.BlobHash) error {
	return bus.Errorf(bus.CodeNotFound, "find blob: there is no %s", hash)
}

// Open implements [blobs.Store].
func (d *Dir) Open(ctx context.Context, hash bus.BlobHash, offset int64) (io.ReadCloser, int64, error) {
	d.mu.Lock()
	s, ok := d.stored[hash]
	d.mu.Unlock()
	if !ok {
		return nil, 0, notFound(hash)
	}
	f, err := os.Open(filepath.Join(d.blobDir(hash), blobName(hash, s.owner)))
	if errors.Is(err, fs.ErrNotExist) {
		d.mu.Lock()
		_, still := d.stored[hash]
		d.mu.Unlock()
		if !still {
			return nil, 0, notFound(hash) // removed in between
		}
	}
	if err != nil {
		return nil, 0, failed("open blob", err)
	}
	r, err := blobs.NewReader(ctx, f, hash, s.size, offset)
	if err != nil {
		err = d.judge(hash, err)
		return nil, 0, errors.Join(err, f.Close())
	}
	return &blobReader{dir: d, hash: hash, file: f, r: r}, s.size, nil
}

// blobReader is a reader of an open file.
type blobReader struct {
	dir  *Dir
	hash bus.BlobHash
	file *os.File
	r    io.Reader
}

// Read implements [io.Reader].
func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.dir.served.Add(int64(n))
	if err != nil && err != io.EOF {
		err = b.dir.judge(b.hash, err)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *blobReader) Close() error { return b.file.Close() }

// judge looks at why a blob cannot be read, and takes a damaged one out of the
// way, so that it can be put again.
func (d *Dir) judge(hash bus.BlobHash, err error) error {
	if bus.CodeOf(err) != bus.CodeBlobMismatch {
		if bus.CodeOf(err) == bus.CodeInternal {
			return failed("read blob", err)
		}
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.stored[hash]
	if !ok {
		return err // somebody else found it too
	}
	d.damaged.Add(1)
	name := blobName(hash, s.owner)
	moveErr := os.Rename(filepath.Join(d.blobDir(hash), name), filepath.Join(d.root, damagedDir, name))
	d.drop(hash)
	d.log.Error("blob is damaged", "hash", hash, "size", s.size, "moved_to", damagedDir, "error", errors.Join(err, moveErr))
	return err
}

// Remove implements [blobs.Store].
func (d *Dir) Remove(ctx context.Context, user bus.ID, hash bus.BlobHash, anybodys bool) error {
	err := d.removeUpload(ctx, key{user, hash})
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	begun := err == nil
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.stored[hash]
	switch {
	case !ok && begun:
		return nil
	case !ok:
		return notFound(hash)
	case s.owner != user && !anybodys:
		return bus.Errorf(bus.CodeForbidden, "remove blob %s: somebody else put it", hash)
	}
	return d.unlink(hash, s)
}

// unlink deletes a complete blob, for those who hold the lock.
func (d *Dir) unlink(hash bus.BlobHash, s stored) error {
	dir := d.blobDir(hash)
	if err := os.Remove(filepath.Join(dir, blobName(hash, s.owner))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove blob", err)
	}
	d.drop(hash)
	if err := syncDir(dir); err != nil {
		return failed("remove blob", err)
	}
	return nil
}

// UserBytes implements [blobs.Store].
func (d *Dir) UserBytes(_ context.Context, user bus.ID) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.paid[user]
	for k, u := range d.uploads {
		if k.user == user {
			n += u.done
		}
	}
	return n, nil
}

// Usage implements [blobs.Store].
func (d *Dir) Usage() blobs.Usage {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := blobs.Usage{
		Blobs: int64(len(d.stored)), Bytes: d.total, Uploads: int64(len(d.uploads)),
		BytesReceived: d.received.Load(), BytesServed: d.served.Load(), Damaged: d.damaged.Load(),
	}
	for _, up := range d.uploads {
		u.UploadBytes += up.done
	}
	return u
}

// Sweep implements [blobs.Store].
func (d *Dir) Sweep(ctx context.Context) (int, error) {
	now := d.now()
	var errs []error
	swept := 0
	for _, k := range d.abandoned(now) {
		err := d.removeUpload(ctx, k)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if errs = append(errs, err); err == nil {
			swept++
		}
	}
	if d.opts.KeepFor > 0 {
		d.mu.Lock()
		for hash, s := range d.stored {
			if now.Sub(s.at) <= d.opts.KeepFor {
				continue
			}
			err := d.unlink(hash, s)
			if errs = append(errs, err); err == nil {
				swept++
			}
		}
		d.mu.Unlock()
	}
	return swept, errors.Join(append(errs, d.sweepDamaged(now))...)
}

func (d *Dir) sweepDamaged(now time.Time) error {
	dir := filepath.Join(d.root, damagedDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return failed("sweep blobs", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && now.Sub(info.ModTime()) > damagedLife {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("sweep blobs", err)
		}
	}
	return nil
}

// failed is an error of the disk. Trying again may help, as soon as somebody
// has made room.
func failed(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return bus.Errorf(bus.CodeUnavailable, "%s: the disk of the node is full: %w", what, err)
	}
	return bus.Errorf(bus.CodeUnavailable, "%s: %w", what, err)
}
