//go:build unix

package durable

import (
	"path/filepath"
	"syscall"
	"testing"
)

func TestModeDoesNotDependOnTheUmask(t *testing.T) {
	dir := t.TempDir()
	for _, umask := range []int{0, 0o022, 0o277} {
		old := syscall.Umask(umask)
		t.Cleanup(func() { syscall.Umask(old) })
		written, created := filepath.Join(dir, "w"), filepath.Join(dir, "c"+string(rune('0'+umask%8)))
		if err := WriteFile(written, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := CreateFile(created, []byte("x"), 0o640); err != nil {
			t.Fatal(err)
		}
		syscall.Umask(old)
		checkFile(t, written, "x", 0o644)
		checkFile(t, created, "x", 0o640)
	}
}
