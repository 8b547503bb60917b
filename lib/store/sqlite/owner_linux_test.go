package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

// another is a user that owns nothing.
const another = 54321

func TestARootThatLooksInKeepsNobodyOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, another, another); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "u.db")
	s := mustOpen(t, path, Options{})
	create(t, s, "k", "v")
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != another {
			t.Errorf("%s belongs to %d, want the directory's owner", info.Name(), uid)
		}
	}
}

func TestADirectoryThatMayNotBeWritten(t *testing.T) {
	dir := t.TempDir()
	chmod(t, dir, 0o555)
	if os.Geteuid() != 0 {
		refused(t, filepath.Join(dir, "u.db"), Options{}, bus.CodeUnavailable, "may not write")
		return
	}
	// Root may write anywhere, so this thread accesses files as somebody else.
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := syscall.Setfsuid(another); err != nil {
			done <- err
			return
		}
		s, err := Open(context.Background(), filepath.Join(dir, "u.db"), Options{})
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	if err := <-done; bus.CodeOf(err) != bus.CodeUnavailable || !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("error is %v (%s), want %s", err, bus.CodeOf(err), bus.CodeUnavailable)
	}
}
