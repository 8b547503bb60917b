package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestNameIsThatOfTheFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	claim := func(name string, given bool) (string, error) {
		n := &Node{cfg: Config{DataDir: dir, Name: name, nameGiven: given}}
		err := n.claimDir(context.Background())
		return n.cfg.Name, err
	}
	for _, tt := range []struct {
		name  string
		given bool
	}{{"old-host", false}, {"new-host", false}, {"old-host", true}} {
		if have, err := claim(tt.name, tt.given); err != nil || have != "old-host" {
			t.Errorf("%+v: named %q, %v", tt, have, err)
		}
	}
	if _, err := claim("other", true); !errors.Is(err, bus.ErrUsage) || !strings.Contains(err.Error(), "belongs to node old-host") {
		t.Errorf("by another name: %v", err)
	}
}

func TestDirectoryThatOthersCanWriteToIsRefused(t *testing.T) {
	for mode, ok := range map[os.FileMode]bool{0o700: true, 0o750: true, 0o755: true, 0o770: false, 0o777: false, 0o702: false} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		err := checkDir(dir)
		if ok && err != nil || !ok && (!errors.Is(err, bus.ErrFileMode) || !strings.HasSuffix(err.Error(), "; run: chmod go-w \""+dir+"\"")) {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
}
