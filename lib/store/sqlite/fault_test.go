package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// disk is the file system of the operating system with faults that a test
// switches on, and a memory of what was not flushed.
type disk struct {
	vfs.VFS

	mu       sync.Mutex
	fail     func(op, name string) error // nil is no fault
	unsynced map[string]bool             // files written since they were flushed
}

// newDisk makes the disk of a test and the options that use it.
func newDisk(t *testing.T) (*disk, Options) {
	d := &disk{VFS: vfs.Find(""), unsynced: map[string]bool{}}
	return d, Options{fs: newFileSystem(strings.ToLower(t.Name()), d)}
}

func (d *disk) set(fail func(op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

// op notes an operation and returns its fault.
func (d *disk) op(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(op, name); err != nil {
			return err
		}
	}
	switch op {
	case "write":
		d.unsynced[name] = true
	case "sync":
		delete(d.unsynced, name)
	}
	return nil
}

func (d *disk) isUnsynced(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unsynced[name]
}

func (d *disk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := vfsutil.WrapOpenFilename(d.VFS, name, flags)
	if err != nil {
		return nil, flags, err
	}
	return &diskFile{File: file, disk: d, name: filepath.Base(name.String())}, flags, nil
}

type diskFile struct {
	vfs.File
	disk *disk
	name string
}

func (f *diskFile) Unwrap() vfs.File { return f.File }

func (f *diskFile) SharedMemory() vfs.SharedMemory { return vfsutil.WrapSharedMemory(f.File) }

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.disk.op("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.op("write", f.name); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *diskFile) Sync(flags vfs.SyncFlag) error {
	if err := f.disk.op("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync(flags)
}

// on returns a fault of one operation on one file.
func on(op, name string, err error) func(string, string) error {
	return func(o, n string) error {
		if o == op && n == name {
			return err
		}
		return nil
	}
}

func TestWritesReturnAfterTheLogWasFlushed(t *testing.T) {
	d, opts := newDisk(t)
	s := mustOpen(t, filepath.Join(t.TempDir(), "u.db"), opts)
	wrote := false
	d.set(func(op, name string) error {
		wrote = wrote || op == "write" && name == "u.db-wal"
		return nil
	})
	rev := create(t, s, "k", strings.Repeat("v", 10_000))
	for i := range 20 {
		if !wrote || d.isUnsynced("u.db-wal") {
			t.Fatalf("write %d: wrote %t, unsynced %t", i, wrote, d.isUnsynced("u.db-wal"))
		}
		wrote = false
		var err error
		if rev, err = s.Update(t.Context(), store.Control, "k", []byte("v"), rev); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), store.Control, "k", rev); err != nil || !wrote || d.isUnsynced("u.db-wal") {
		t.Fatalf("delete: %v, wrote %t, unsynced %t", err, wrote, d.isUnsynced("u.db-wal"))
	}
}

func TestAFailedFlushHasAnUnknownOutcomeAndEndsTheStore(t *testing.T) {
	d, opts := newDisk(t)
	path := filepath.Join(t.TempDir(), "u.db")
	s := mustOpen(t, path, opts)
	rev := create(t, s, "before", "v")
	w, err := s.Watch(t.Context(), store.Control, "")
	if err != nil {
		t.Fatal(err)
	}
	for e := range w.Events() {
		if e.Synced {
			break
		}
	}

	d.set(on("sync", "u.db-wal", syscall.EIO))
	if _, err := s.Create(t.Context(), store.Control, "during", []byte("v"), 0); !errors.Is(err, bus.ErrUnknownOutcome) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("write that could not be flushed: %v (%s)", err, bus.CodeOf(err))
	}
	d.set(nil) // a disk that says it is well again is not believed

	for e := range w.Events() {
		t.Errorf("watch tells %+v, which may never have been", e)
	}
	if !errors.Is(w.Err(), bus.ErrUnavailable) {
		t.Errorf("watch of a failed store: %v", w.Err())
	}
	if _, err := s.Get(t.Context(), store.Control, "before"); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("get from a failed store: %v", err)
	}
	if _, err := s.Update(t.Context(), store.Control, "before", nil, rev); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("update of a failed store: %v", err)
	}
	if _, err := s.Watch(t.Context(), store.Control, ""); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("watch of a failed store: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), store.Control, "before"); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("get from a closed store: %v", err)
	}

	again := mustOpen(t, path, opts)
	if e, err := again.Get(t.Context(), store.Control, "before"); err != nil || e.Revision != rev {
		t.Errorf("what was written before the failure: %+v, %v", e, err)
	}
	if _, err := again.Get(t.Context(), store.Control, "during"); err != nil && !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("the write of unknown outcome: %v", err)
	}
}

func TestAFullDiskRefusesWritesUntilThereIsRoom(t *testing.T) {
	d, opts := newDisk(t)
	s := mustOpen(t, filepath.Join(t.TempDir(), "u.db"), opts)
	rev := create(t, s, "before", "v")
	w, err := s.Watch(t.Context(), store.Control, "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	d.set(on("write", "u.db-wal", syscall.ENOSPC))
	for range 3 {
		if _, err := s.Create(t.Context(), store.Control, "during", []byte("v"), 0); !errors.Is(err, bus.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("write without room: %v (%s)", err, bus.CodeOf(err))
		}
		if e, err := s.Get(t.Context(), store.Control, "before"); err != nil || e.Revision != rev {
			t.Fatalf("read without room: %+v, %v", e, err)
		}
		if _, err := s.Get(t.Context(), store.Control, "during"); !errors.Is(err, bus.ErrNotFound) {
			t.Fatalf("what was refused: %v", err)
		}
	}
	d.set(nil)
	after := create(t, s, "after", "v")
	var keys []string
	for e := range w.Events() {
		keys = append(keys, e.Key)
		if e.Revision == after {
			break
		}
	}
	if have := strings.Join(keys, " "); have != "before  after" {
		t.Errorf("watch told %q", have)
	}
}

func TestAFailedReadEndsTheStore(t *testing.T) {
	d, opts := newDisk(t)
	path := filepath.Join(t.TempDir(), "u.db")
	s := mustOpen(t, path, opts)
	for i := range 20 { // more than a fresh connection has read
		create(t, s, strings.Repeat("k", i+1), strings.Repeat("v", 10_000))
	}
	d.set(func(op, name string) error {
		if op == "read" {
			return syscall.EIO
		}
		return nil
	})
	if _, err := s.List(t.Context(), store.Control, ""); !errors.Is(err, bus.ErrUnavailable) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("list from a disk that cannot be read: %v (%s)", err, bus.CodeOf(err))
	}
	d.set(nil)
	if _, err := s.Create(t.Context(), store.Control, "x", nil, 0); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatalf("create in a failed store: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path, opts)
	if all, err := again.List(t.Context(), store.Control, ""); err != nil || len(all) != 20 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
}

func TestADamagedFileEndsTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "u.db")
	s := mustOpen(t, path, Options{})
	for i := range 200 {
		create(t, s, fmt.Sprint("k", i), strings.Repeat("v", 1000))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 2; i < len(data); i++ { // well behind the header and the schema
		data[i] = 0xff
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := mustOpen(t, path, Options{})
	if _, err := damaged.List(t.Context(), store.Control, ""); !errors.Is(err, bus.ErrUnavailable) || !strings.Contains(err.Error(), "malformed") {
		t.Fatalf("list from a damaged file: %v", err)
	}
	if _, err := damaged.Create(t.Context(), store.Control, "k", nil, 0); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatalf("create in a damaged file: %v", err)
	}
}
