//go:build unix

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestADescriptorOfTheProcessItselfIsNoPassphrase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("of somebody else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := os.Open(path) // closes on exec, as all that Go opens
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	f := &frame{descriptors: map[int]*os.File{}}
	in, err := f.descriptor(int(own.Fd()))
	if !errors.Is(err, unix.EBADF) || bus.CodeOf(err) != bus.CodePassphrase {
		t.Errorf("its own descriptor is taken: %v, %v", in, err)
	}
	given, err := unix.Dup(int(own.Fd())) // stays open on exec, as what a shell hands on
	if err != nil {
		t.Fatal(err)
	}
	in, err = f.descriptor(given)
	if err != nil {
		t.Fatalf("an inherited one is refused: %v", err)
	}
	defer f.descriptors[given].Close()
	if line, err := firstLine(in); line != "of somebody else" || err != nil {
		t.Errorf("read %q, %v", line, err)
	}
}
