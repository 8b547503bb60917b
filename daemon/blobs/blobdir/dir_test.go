package blobdir

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/daemon/blobs/blobtest"
	"github.com/enmanuel/unibus/lib/bus"
)

func TestConformance(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blobtest.Opener {
		root := filepath.Join(t.TempDir(), "data", "blobs")
		return func(t *testing.T, c blobtest.Config) blobs.Store {
			return open(t, root, Options{Limits: c.Limits, KeepFor: c.KeepFor, Now: c.Now})
		}
	})
}

func open(t *testing.T, root string, opts Options) *Dir {
	t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	d, err := Open(root, opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var alice = bus.ID{1}

// fill puts a random blob of n bytes.
func fill(t *testing.T, d *Dir, n int) (bus.BlobHash, []byte) {
	t.Helper()
	whole := make([]byte, n)
	rand.Read(whole) // never fails: crypto/rand ends the process first
	hash := bus.BlobHash(sha256.Sum256(whole))
	if status, err := put(t, d, hash, whole, 0, n); err != nil || !status.Complete {
		t.Fatalf("put: %+v, %v", status, err)
	}
	return hash, whole
}

func put(t *testing.T, d *Dir, hash bus.BlobHash, whole []byte, from, to int) (blobs.Status, error) {
	t.Helper()
	return d.Put(t.Context(), blobs.Part{User: alice, Hash: hash, Size: int64(len(whole)), Offset: int64(from)}, bytes.NewReader(whole[from:to]))
}

// TestDamageIsNoticedBeforeTheLastByte changes stored files in every way that a
// disk may, and reads them whole and from an offset.
func TestDamageIsNoticedBeforeTheLastByte(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(f *os.File, size int64) error
	}{
		{"first byte", func(f *os.File, _ int64) error { return flip(f, 0) }},
		{"a byte in the middle", func(f *os.File, size int64) error { return flip(f, size/2) }},
		{"last byte", func(f *os.File, size int64) error { return flip(f, size-1) }},
		{"cut by one", func(f *os.File, size int64) error { return f.Truncate(size - 1) }},
		{"cut to half", func(f *os.File, size int64) error { return f.Truncate(size / 2) }},
		{"empty", func(f *os.File, _ int64) error { return f.Truncate(0) }},
	} {
		for _, offset := range []int64{0, 70_000} {
			t.Run(tt.name, func(t *testing.T) {
				root := filepath.Join(t.TempDir(), "blobs")
				d := open(t, root, Options{})
				hash, whole := fill(t, d, 200_000)
				f, err := os.OpenFile(filepath.Join(d.blobDir(hash), blobName(hash, alice)), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(tt.damage(f, int64(len(whole))), f.Close()); err != nil {
					t.Fatal(err)
				}
				var have []byte
				r, _, err := d.Open(t.Context(), hash, offset)
				if err == nil {
					have, err = io.ReadAll(r)
					r.Close()
				}
				if !errors.Is(err, bus.ErrBlobMismatch) || len(have) >= len(whole)-int(offset) {
					t.Errorf("gave out %d bytes, %v", len(have), err)
				}
				if _, err := d.Stat(t.Context(), alice, hash); !errors.Is(err, bus.ErrNotFound) {
					t.Errorf("a damaged blob is there: %v", err)
				}
				if u := d.Usage(); u.Damaged != 1 || u.Blobs != 0 || u.Bytes != 0 {
					t.Errorf("usage %+v", u)
				}
				// Whoever has the bytes mends it.
				if status, err := put(t, d, hash, whole, 0, len(whole)); err != nil || !status.Complete {
					t.Errorf("put again: %+v, %v", status, err)
				}
			})
		}
	}
}

func flip(f *os.File, at int64) error {
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err := f.WriteAt(b[:], at)
	return err
}

// TestWhatACrashLeavesBehindIsCutOff has bytes behind those that count, as a
// node that dies in the middle of a part leaves them.
func TestWhatACrashLeavesBehindIsCutOff(t *testing.T) {
	root := filepath.Join(t.TempDir(), "blobs")
	d := open(t, root, Options{})
	whole := bytes.Repeat([]byte("content."), 1000)
	hash := bus.BlobHash(sha256.Sum256(whole))
	if _, err := put(t, d, hash, whole, 0, 5000); err != nil {
		t.Fatal(err)
	}
	path := d.uploadPath(key{alice, hash}, int64(len(whole)), 5000)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half a part that was never signed for"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	d = open(t, root, Options{})
	if status, err := d.Stat(t.Context(), alice, hash); err != nil || status.Offset != 5000 {
		t.Errorf("status %+v, %v", status, err)
	}
	if status, err := put(t, d, hash, whole, 5000, len(whole)); err != nil || !status.Complete {
		t.Errorf("status %+v, %v", status, err)
	}
	r, _, err := d.Open(t.Context(), hash, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if have, err := io.ReadAll(r); err != nil || !bytes.Equal(have, whole) {
		t.Errorf("read %d bytes, %v", len(have), err)
	}
}

func TestFilesThatAreNotOursAreLeftAlone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "blobs")
	d := open(t, root, Options{})
	fill(t, d, 10)
	odd := []string{
		filepath.Join(root, "README"),
		filepath.Join(root, uploadsDir, "0-1-2-3"),
		filepath.Join(root, "00", blobName(bus.BlobHash{1}, alice)), // in a directory of other hashes
	}
	for _, path := range odd {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d = open(t, root, Options{})
	if u := d.Usage(); u.Blobs != 1 || u.Bytes != 10 || u.Uploads != 0 {
		t.Errorf("usage %+v", u)
	}
	for _, path := range odd {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "blobs")
	d := open(t, root, Options{})
	fill(t, d, 10)
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
