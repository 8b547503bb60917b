package demo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/clitest"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func() int{
		"unibus-demo": func() int { return cli.Main(Command()) },
	})
}

func TestScripts(t *testing.T) { clitest.Run(t, clitest.Params{}) }

// The demo's claim rests on this scan: it must find what is there.
func TestScanFindsPlaintext(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "1.blk")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("\x00\x01UB\x01\x03 no frame, under the third stone"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := scanDir(dir, []string{"third stone", "fourth stone"})
	if err != nil {
		t.Fatal(err)
	}
	if found.files != 1 || len(found.leaks) != 1 || len(found.frames) != 0 {
		t.Errorf("scan %+v", found)
	}
	if _, ok := found.frameOf(bus.RoomID{}, bus.SessionID{}, 0); ok {
		t.Error("a frame out of nothing")
	}
}
