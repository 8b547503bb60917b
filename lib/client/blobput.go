package client

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/blob"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const (
	// spoolLife is how long something sealed waits for its upload to go on.
	spoolLife = 7 * 24 * time.Hour
	// partLife is how long something fetched waits for the rest of it.
	partLife = 7 * 24 * time.Hour
	// blobLocks is how many locks the blobs of a state share. A lock file is
	// never deleted, so that there cannot be one for each.
	blobLocks = 64
	// blobBuffer is how much of a blob is held at a time.
	blobBuffer = 64 << 10

	newSpool   = "new-" // what is being sealed
	spoolFile  = ".age"
	spoolRef   = ".ref"
	blobOutDir = "out"
	blobInDir  = "in"
)

// spool is something sealed that is on its way.
type spool struct {
	ref    BlobRef
	path   string // without the ending
	unlock func()
}

// remove deletes the spool, the file with the key first.
func (s *spool) remove() error {
	err := errors.Join(os.Remove(s.path+spoolRef), os.Remove(s.path+spoolFile))
	if err != nil {
		return fmt.Errorf("remove spool: %w", err)
	}
	return nil
}

// blobDir makes a directory of the state for blobs, and deletes what has been
// lying in it for too long.
func (c *Client) blobDir(name string, life time.Duration) (string, error) {
	dir := c.state.path("blobs", name)
	if err := os.MkdirAll(dir, stateDirMode); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		info, err := e.Info()
		old := life
		if strings.HasPrefix(e.Name(), newSpool) {
			old = 24 * time.Hour // nobody goes on with those
		}
		// The clock of files is that of this machine, whatever the client's is.
		if err == nil && time.Since(info.ModTime()) > old {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return dir, nil
}

// lockBlob takes the lock that goes with a key.
func (c *Client) lockBlob(ctx context.Context, key [32]byte) (unlock func(), err error) {
	dir := c.state.path("blobs", "locks")
	if err := os.MkdirAll(dir, stateDirMode); err != nil {
		return nil, err
	}
	return durable.Lock(ctx, filepath.Join(dir, fmt.Sprintf("%02d.lock", key[0]%blobLocks)))
}

// spoolBlob seals src into the state, or finds what a call before has sealed of
// the same content.
func (c *Client) spoolBlob(ctx context.Context, room bus.RoomID, pad bool, src io.Reader, opts PutOptions) (*spool, error) {
	dir, err := c.blobDir(blobOutDir, spoolLife)
	if err != nil {
		return nil, fmt.Errorf("keep sealed file: %w", err)
	}
	f, err := os.CreateTemp(dir, newSpool+"*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("keep sealed file: %w", err)
	}
	ref, err := sealInto(ctx, f, src, pad, opts)
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	ref.Name, ref.Media = opts.Name, opts.Media
	key := spoolKey(room, ref)
	unlock, err := c.lockBlob(ctx, key)
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	sp := &spool{ref: ref, path: filepath.Join(dir, hex.EncodeToString(key[:])), unlock: unlock}
	if before, ok := sp.before(); ok {
		sp.ref = before
		err = os.Remove(f.Name())
	} else {
		err = sp.keep(f.Name())
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("keep sealed file: %w", err)
	}
	return sp, nil
}

// sealInto seals src into f, which it closes. When ctx ends it does not wait for
// src, which may be a terminal.
func sealInto(ctx context.Context, f *os.File, src io.Reader, pad bool, opts PutOptions) (BlobRef, error) {
	limit := opts.Limit
	if limit <= 0 {
		limit = bus.MaxBlobSize
	}
	type result struct {
		ref BlobRef
		err error
	}
	done := make(chan result, 1)
	go func() {
		ref, err := blob.Seal(f, &endingReader{ctx, src}, pad, limit)
		if err == nil {
			err = f.Sync()
		}
		done <- result{ref, errors.Join(err, f.Close())}
	}()
	select {
	case r := <-done:
		return r.ref, r.err
	case <-ctx.Done():
		return BlobRef{}, endedBy(ctx)
	}
}

// endingReader ends with a context, between two reads.
type endingReader struct {
	ctx context.Context
	src io.Reader
}

// Read implements [io.Reader].
func (e *endingReader) Read(p []byte) (int, error) {
	if e.ctx.Err() != nil {
		return 0, endedBy(e.ctx)
	}
	return e.src.Read(p)
}

// before returns what a call before has left. What cannot be used is as nothing:
// it is replaced.
func (s *spool) before() (BlobRef, bool) {
	raw, err := os.ReadFile(s.path + spoolRef)
	if err != nil {
		return BlobRef{}, false
	}
	ref, err := blob.Parse(raw)
	if err != nil || ref.Digest != s.ref.Digest || ref.Name != s.ref.Name || ref.Media != s.ref.Media {
		return BlobRef{}, false
	}
	info, err := os.Stat(s.path + spoolFile)
	return ref, err == nil && info.Size() == ref.SealedSize
}

// keep gives what was sealed the name that a later call looks for. The reference
// comes last: it is what makes the spool count.
func (s *spool) keep(sealed string) error {
	raw, err := s.ref.Encode()
	if err == nil {
		err = os.Remove(s.path + spoolRef)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(sealed, s.path+spoolFile)
	}
	if err == nil {
		err = durable.WriteFile(s.path+spoolRef, raw, stateFileMode)
	}
	return err
}
