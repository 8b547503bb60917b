package sqlite

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/ncruces/go-sqlite3/vfs/xts"
)

// fileSystem is what SQLite reads and writes files with. It tells a full disk,
// after which the store goes on, from a failing one, after which it does not;
// SQLite's own would report both as failing. And it keeps the operating
// system's error, which is lost by the time SQLite reports its own.
type fileSystem struct {
	vfs.VFS
	name   string
	faults sync.Map // path of a database → the last error of its files
}

// osFiles is the file system of every store outside of tests.
var osFiles = sync.OnceValue(func() *fileSystem { return newFileSystem("unibus", vfs.Find("")) })

// newFileSystem registers a file system with SQLite, and under the name that
// encrypted returns the same with encryption over it. It cannot be taken back.
func newFileSystem(name string, base vfs.VFS) *fileSystem {
	fs := &fileSystem{VFS: base, name: name}
	vfs.Register(fs.name, fs)
	vfs.Register(fs.encrypted(), xts.Wrap(fs, nil))
	return fs
}

func (fs *fileSystem) encrypted() string { return fs.name + "-xts" }

// OpenFilename implements [vfs.VFSFilename].
func (fs *fileSystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := vfsutil.WrapOpenFilename(fs.VFS, name, flags)
	database := name.Database()
	if err != nil {
		return nil, flags, fs.note(database, err)
	}
	return &fsFile{File: file, fs: fs, database: database}, flags, nil
}

// note keeps an error and returns it as SQLite should see it.
func (fs *fileSystem) note(database string, err error) error {
	if err == nil {
		return nil
	}
	fs.faults.Store(database, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return vfs.SystemError(err, sqlite3.FULL)
	}
	return err
}

// explain adds to an error of SQLite what the operating system said last about
// the files of a database, once.
func (fs *fileSystem) explain(database string, err error) error {
	if fault, ok := fs.faults.LoadAndDelete(database); ok && !errors.Is(err, fault.(error)) {
		return fmt.Errorf("%w: %w", err, fault.(error))
	}
	return err
}

// fsFile is one open file. It passes on what SQLite needs of an ordinary file
// in WAL mode.
type fsFile struct {
	vfs.File
	fs       *fileSystem
	database string
}

func (f *fsFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.fs.note(f.database, err)
	}
	return n, err
}

func (f *fsFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.fs.note(f.database, err)
}

func (f *fsFile) Sync(flags vfs.SyncFlag) error {
	return f.fs.note(f.database, f.File.Sync(flags))
}

func (f *fsFile) Truncate(size int64) error {
	return f.fs.note(f.database, f.File.Truncate(size))
}

func (f *fsFile) SizeHint(size int64) error {
	return f.fs.note(f.database, vfsutil.WrapSizeHint(f.File, size))
}

// DeviceCharacteristics leaves out the one that would need more methods and
// that a store in WAL mode has no use for.
func (f *fsFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.File.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}

func (f *fsFile) Unwrap() vfs.File                { return f.File }
func (f *fsFile) SharedMemory() vfs.SharedMemory  { return vfsutil.WrapSharedMemory(f.File) }
func (f *fsFile) LockState() vfs.LockLevel        { return vfsutil.WrapLockState(f.File) }
func (f *fsFile) HasMoved() (bool, error)         { return vfsutil.WrapHasMoved(f.File) }
func (f *fsFile) PersistWAL() bool                { return vfsutil.WrapPersistWAL(f.File) }
func (f *fsFile) SetPersistWAL(keep bool)         { vfsutil.WrapSetPersistWAL(f.File, keep) }
func (f *fsFile) PowersafeOverwrite() bool        { return vfsutil.WrapPowersafeOverwrite(f.File) }
func (f *fsFile) SetPowersafeOverwrite(psow bool) { vfsutil.WrapSetPowersafeOverwrite(f.File, psow) }

var (
	_ vfs.VFSFilename            = (*fileSystem)(nil)
	_ vfs.FileUnwrap             = (*fsFile)(nil)
	_ vfs.FileSharedMemory       = (*fsFile)(nil)
	_ vfs.FileLockState          = (*fsFile)(nil)
	_ vfs.FileHasMoved           = (*fsFile)(nil)
	_ vfs.FileSizeHint           = (*fsFile)(nil)
	_ vfs.FilePersistWAL         = (*fsFile)(nil)
	_ vfs.FilePowersafeOverwrite = (*fsFile)(nil)
)
