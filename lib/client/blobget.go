package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/enmanuel/unibus/lib/blob"
	"github.com/enmanuel/unibus/lib/bus"
)

// checkFree refuses a path whose name is taken, before any work is done for it.
func checkFree(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return bus.Errorf(bus.CodeFileExists, "%s is a directory", path)
	case !force:
		return bus.Errorf(bus.CodeFileExists, "%s exists", path)
	}
	return nil
}

// getBlob fetches a blob into the state and hands it to use, which may open it
// more than once, after it was found right from end to end.
func (c *Client) getBlob(ctx context.Context, ref BlobRef, opts GetOptions, use func(open func() (io.Reader, error)) error) error {
	if err := c.alive(); err != nil {
		return err
	}
	if _, err := ref.Encode(); err != nil {
		return err
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	dir, err := c.blobDir(blobInDir, partLife)
	if err != nil {
		return fmt.Errorf("keep what is fetched: %w", err)
	}
	unlock, err := c.lockBlob(ctx, ref.Hash)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.OpenFile(filepath.Join(dir, hex.EncodeToString(ref.Hash[:])+".part"), os.O_RDWR|os.O_CREATE, stateFileMode)
	if err != nil {
		return fmt.Errorf("keep what is fetched: %w", err)
	}
	defer f.Close() // what was written is checked before it is used
	if err := c.control.download(ctx, ref, f, opts.Progress); err != nil {
		return err
	}
	open := func() (io.Reader, error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return blob.Open(ref, &endingReader{ctx, f})
	}
	content, err := open()
	if err == nil {
		_, err = io.CopyBuffer(onlyWriter{io.Discard}, content, make([]byte, blobBuffer))
	}
	if err != nil {
		if errors.Is(err, bus.ErrBlobMismatch) {
			// The sealed bytes are right, so that it is the reference that is wrong.
			err = errors.Join(err, os.Remove(f.Name()))
		}
		return err
	}
	if err := use(open); err != nil {
		return err // what was fetched stays for another try
	}
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("remove what was fetched: %w", err)
	}
	return nil
}

// sealedRight reports whether f has the bytes of ref's hash.
func sealedRight(ctx context.Context, ref BlobRef, f *os.File) (bool, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{h}, &endingReader{ctx, f}, make([]byte, blobBuffer))
	return n == ref.SealedSize && bus.BlobHash(h.Sum(nil)) == ref.Hash, err
}
