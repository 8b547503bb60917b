package blobdir

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/lib/bus"
)

// copySize is how much of a part is held at a time.
const copySize = 64 << 10

// upload is a blob on its way in. Whoever has its turn may write; the rest is
// guarded by the lock of the Dir, but hash, which goes with the turn.
type upload struct {
	turn    chan struct{} // holds one token, which is the turn
	size    int64
	done    int64
	writing bool
	gone    bool // complete or removed; who waited for the turn looks anew
	changed time.Time
	hash    hash.Hash // of the bytes done; nil after a start
}

func newUpload(size, done int64, changed time.Time) *upload {
	u := &upload{turn: make(chan struct{}, 1), size: size, done: done, changed: changed}
	u.turn <- struct{}{}
	return u
}

// Put implements [blobs.Store].
func (d *Dir) Put(ctx context.Context, p blobs.Part, body io.Reader) (blobs.Status, error) {
	k := key{p.User, p.Hash}
	u, status, err := d.begin(ctx, k, p)
	if u == nil {
		return status, err
	}
	err = d.write(k, u, body)
	status = blobs.Status{Offset: u.done, Size: u.size, Complete: u.done == u.size}
	d.end(k, u, err)
	if err != nil {
		return blobs.Status{}, err
	}
	return status, nil
}

// begin takes the turn of an upload, which it makes for the first part. Without
// an upload the status is the answer, or the error.
func (d *Dir) begin(ctx context.Context, k key, p blobs.Part) (*upload, blobs.Status, error) {
	for {
		u, status, err := d.find(k, p)
		if u == nil {
			return nil, status, err
		}
		select {
		case <-u.turn:
		case <-ctx.Done():
			return nil, blobs.Status{}, bus.Errorf(bus.CodeUnavailable, "put blob: another part of it is being written: %w", ctx.Err())
		}
		again, err := d.start(k, u, p)
		if err == nil && !again {
			return u, blobs.Status{}, nil
		}
		d.end(k, u, err)
		if err != nil {
			return nil, blobs.Status{}, err
		}
	}
}

// find returns the upload of a part.
func (d *Dir) find(k key, p blobs.Part) (*upload, blobs.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.stored[k.hash]; ok {
		return nil, complete(s.size), nil
	}
	if p.Size <= 0 || p.Offset < 0 || p.Offset >= p.Size {
		return nil, blobs.Status{}, bus.Errorf(bus.CodeMalformed, "put blob: a part at %d of %d bytes", p.Offset, p.Size)
	}
	if u, ok := d.uploads[k]; ok {
		return u, blobs.Status{}, nil
	}
	if err := d.allow(k, p.Size); err != nil {
		return nil, blobs.Status{}, err
	}
	if p.Offset != 0 {
		return nil, blobs.Status{}, conflict(p, 0, p.Size)
	}
	u := newUpload(p.Size, 0, d.now())
	u.hash = sha256.New()
	d.uploads[k] = u
	return u, blobs.Status{}, nil
}

func conflict(p blobs.Part, done, size int64) error {
	return bus.Errorf(bus.CodeConflict, "put blob: a part at %d of %d bytes, where %d of %d are there", p.Offset, p.Size, done, size)
}

// start checks a part against the upload it belongs to. again says that the
// upload went away while the turn was waited for.
func (d *Dir) start(k key, u *upload, p blobs.Part) (again bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case u.gone:
		return true, nil
	case u.done != p.Offset || u.size != p.Size:
		return false, conflict(p, u.done, u.size)
	}
	if err := d.allow(k, u.size); err != nil {
		return false, err
	}
	u.writing = true
	return false, nil
}

// allow checks the limits for an upload, for those who hold the lock. Uploads
// that are being written count as what they are to become.
func (d *Dir) allow(k key, size int64) error {
	mine, all, begun := d.paid[k.user], d.total, 0
	for other, u := range d.uploads {
		if other == k {
			continue
		}
		n := u.done
		if u.writing {
			n = u.size
		}
		all += n
		if other.user == k.user {
			mine += n
			begun++
		}
	}
	if begun >= blobs.MaxUploads {
		return bus.Errorf(bus.CodeQuota, "put blob: %d others are begun and not complete, and %d is all a user may have", begun, blobs.MaxUploads)
	}
	return d.opts.Limits.Allow(size, mine, all)
}

// end gives the turn back.
func (d *Dir) end(k key, u *upload, err error) {
	d.mu.Lock()
	u.writing = false
	u.changed = d.now()
	if u.done == 0 && !u.gone && err != nil {
		u.gone = true // nothing of it is on the disk
		delete(d.uploads, k)
	}
	d.mu.Unlock()
	u.turn <- struct{}{}
}

// write adds what body gives, and counts it once it is durable. After an error
// the upload is as it was, or gone where its bytes turned out to be wrong.
func (d *Dir) write(k key, u *upload, body io.Reader) (err error) {
	path := d.uploadPath(k, u.size, u.done)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return failed("put blob", err)
	}
	defer func() {
		// What is written and does not count takes up room, and no more.
		switch {
		case err == nil || u.gone:
		case u.done == 0:
			err = errors.Join(err, os.Remove(path))
		default:
			err = errors.Join(err, f.Truncate(u.done))
		}
		err = errors.Join(err, f.Close())
	}()
	if u.hash == nil {
		u.hash = sha256.New()
		if _, err := io.CopyN(u.hash, f, u.done); err != nil {
			u.hash = nil
			return failed("put blob", err)
		}
	}
	// Beyond what counts there may be what a crash left.
	if err := f.Truncate(u.done); err != nil {
		return failed("put blob", err)
	}
	if _, err := f.Seek(u.done, io.SeekStart); err != nil {
		return failed("put blob", err)
	}
	sum, err := u.hash.(hash.Cloner).Clone()
	if err != nil {
		return fmt.Errorf("copy hash: %w", err)
	}
	n, err := d.copy(f, sum, body, u.size-u.done)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return failed("put blob", err)
	}
	if u.done+n == u.size {
		return d.complete(k, u, path, bus.BlobHash(sum.Sum(nil)))
	}
	if err := os.Rename(path, d.uploadPath(k, u.size, u.done+n)); err != nil {
		return failed("put blob", err)
	}
	d.mu.Lock()
	u.done, u.hash = u.done+n, sum
	d.mu.Unlock()
	return failedUnlessNil("put blob", syncDir(filepath.Join(d.root, uploadsDir)))
}

func failedUnlessNil(what string, err error) error {
	if err == nil {
		return nil
	}
	return failed(what, err)
}

// copy writes all of body, which is 1 to room bytes, to the file and the hash.
// Errors of body are passed on as they are.
func (d *Dir) copy(f *os.File, hash hash.Hash, body io.Reader, room int64) (int64, error) {
	buf := make([]byte, copySize)
	var n int64
	for {
		m, readErr := body.Read(buf)
		if n += int64(m); n > room {
			return 0, bus.Errorf(bus.CodeMalformed, "put blob: the part goes beyond the end of the blob")
		}
		if m > 0 {
			if _, err := f.Write(buf[:m]); err != nil {
				return 0, failed("put blob", err)
			}
			hash.Write(buf[:m])
			d.received.Add(int64(m))
		}
		switch {
		case readErr == io.EOF && n == 0:
			return 0, bus.Errorf(bus.CodeMalformed, "put blob: the part is empty")
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return 0, readErr
		}
	}
}

// complete gives an upload at path that has all its bytes its name, if their
// hash is the right one.
func (d *Dir) complete(k key, u *upload, path string, have bus.BlobHash) error {
	dir := d.blobDir(k.hash)
	if have == k.hash {
		err := os.Mkdir(dir, dirMode)
		if err == nil {
			err = syncDir(d.root)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return failed("put blob", err)
		}
	}
	if err := d.settle(k, u, path, have); err != nil {
		return err
	}
	return failedUnlessNil("put blob", errors.Join(syncDir(dir), syncDir(filepath.Join(d.root, uploadsDir))))
}

// settle ends an upload: with a name, or without a trace.
func (d *Dir) settle(k key, u *upload, path string, have bus.BlobHash) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, other := d.stored[k.hash] // another user was first
	var err error
	if have == k.hash && !other {
		err = os.Rename(path, filepath.Join(d.blobDir(k.hash), blobName(k.hash, k.user)))
	} else {
		err = os.Remove(path)
	}
	if err != nil {
		return failed("put blob", err)
	}
	u.gone = true
	delete(d.uploads, k)
	if have != k.hash {
		return bus.Errorf(bus.CodeBlobMismatch, "put blob: %d bytes were sent, and their hash is not %s", u.size, k.hash)
	}
	if !other {
		d.add(k.hash, stored{k.user, u.size, d.now()})
	}
	u.done = u.size
	return nil
}

// removeUpload deletes an upload once nobody writes it.
func (d *Dir) removeUpload(ctx context.Context, k key) error {
	d.mu.Lock()
	u, ok := d.uploads[k]
	d.mu.Unlock()
	if !ok {
		return notFound(k.hash)
	}
	select {
	case <-u.turn:
	case <-ctx.Done():
		return bus.Errorf(bus.CodeUnavailable, "remove blob: a part of it is being written: %w", ctx.Err())
	}
	defer func() { u.turn <- struct{}{} }()
	d.mu.Lock()
	defer d.mu.Unlock()
	if u.gone {
		return notFound(k.hash)
	}
	err := os.Remove(d.uploadPath(k, u.size, u.done))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove blob", err)
	}
	u.gone = true
	delete(d.uploads, k)
	return nil
}

// abandoned lists the uploads to which nothing was added for long.
func (d *Dir) abandoned(now time.Time) []key {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []key
	for k, u := range d.uploads {
		if !u.writing && now.Sub(u.changed) > blobs.UploadLife {
			list = append(list, k)
		}
	}
	return list
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
