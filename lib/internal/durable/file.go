package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/enmanuel/unibus/lib/bus"
)

// WriteFile makes path a file with the content data and exactly the permission
// bits of mode, whatever the umask. What was there before stays whole until
// it is replaced in one step; without an error the new content survives a
// crash. The directory must exist.
//
// After an error path holds either the old content or the new, never a
// mixture, unless it did not exist: then it may still not.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return replace(path, bytes.NewReader(data), mode)
}

// CopyFile is [CreateFile], or with overwrite [WriteFile], with what src gives
// as the content. An error of src leaves path as it was; of the content nothing
// but a buffer is held.
func CopyFile(path string, src io.Reader, mode fs.FileMode, overwrite bool) error {
	if overwrite {
		return replace(path, src, mode)
	}
	return create(path, src, mode)
}

func replace(path string, src io.Reader, mode fs.FileMode) error {
	aside, err := writeAside(path, src, mode)
	if err != nil {
		return fmt.Errorf("write file %s: %w", path, err)
	}
	if err := os.Rename(aside, path); err != nil {
		return fmt.Errorf("write file %s: %w", path, errors.Join(err, os.Remove(aside)))
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write file %s: %w", path, err)
	}
	return nil
}

// CreateFile makes path a new file with the content data and exactly the
// permission bits of mode, whatever the umask. Without an error the file
// survives a crash. The directory must exist.
//
// It never overwrites: if anything has that name already, be it a directory or
// a dangling symbolic link, the error has [bus.CodeFileExists] and nothing
// changes. Of several callers at once, in this process or in others, exactly
// one succeeds. After any other error path does not exist.
func CreateFile(path string, data []byte, mode fs.FileMode) error {
	return create(path, bytes.NewReader(data), mode)
}

func create(path string, src io.Reader, mode fs.FileMode) error {
	aside, err := writeAside(path, src, mode)
	if err != nil {
		return fmt.Errorf("create file %s: %w", path, err)
	}
	// Unlike rename, link refuses a name that is taken, and the file appears
	// under its name only when it is complete.
	linkErr := os.Link(aside, path)
	removeErr := os.Remove(aside)
	switch {
	case errors.Is(linkErr, fs.ErrExist):
		return bus.Errorf(bus.CodeFileExists, "create file %s: %w", path, errors.Join(fs.ErrExist, removeErr))
	case linkErr != nil:
		return fmt.Errorf("create file %s: %w", path, errors.Join(linkErr, removeErr))
	}
	if err := errors.Join(removeErr, SyncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("create file %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// writeAside writes what src gives to a new file beside path, down to the disk, and
// returns the new file's path. On error it leaves no file.
func writeAside(path string, src io.Reader, mode fs.FileMode) (aside string, err error) {
	// CreateTemp makes the file 0600: nobody else reads a secret before its mode is set.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, src)
	if err == nil {
		err = f.Chmod(mode.Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}
