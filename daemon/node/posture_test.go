package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/identity"
)

func TestOpaqueIsWhatAThiefCannotRead(t *testing.T) {
	noise := make([]byte, 8<<10)
	rand.Read(noise)
	frame := append(bytes.Clone(noise), "ub.d.0.room.sender"...)
	database := append([]byte("SQLite format 3\x00"), noise...)
	for name, c := range map[string]struct {
		files map[string][]byte
		want  bool
	}{
		"nothing":               {nil, false},
		"an empty database":     {map[string][]byte{"unibus.db": nil}, false},
		"a database":            {map[string][]byte{"unibus.db": database}, false},
		"noise":                 {map[string][]byte{"unibus.db": noise, "jetstream/a/1.blk": noise}, true},
		"a frame":               {map[string][]byte{"unibus.db": noise, "jetstream/a/1.blk": noise, "jetstream/b/c/2.blk": frame}, false},
		"messages and no store": {map[string][]byte{"jetstream/a/1.blk": noise}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, content := range c.files {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			have, err := opaque(dir)
			if err != nil || have != c.want {
				t.Errorf("%t, %v, want %t", have, err, c.want)
			}
		})
	}
}

// A node that looks at itself finds what a stranger would, and makes no noise.
func TestANodeLooksAtItselfQuietly(t *testing.T) {
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n, err := Start(t.Context(), Config{
		BusID: root.BusID(), DataDir: t.TempDir(), Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := n.measure(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if seen := *n.seen.Load(); seen != (measured{denies: true, enforces: true, synced: true}) {
		t.Errorf("saw %+v", seen)
	}
	if err := n.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if err := n.measure(t.Context()); err == nil {
		t.Error("a node that ended was measured")
	}
	for _, line := range []string{"denied", "refused", "speaks"} {
		if strings.Contains(log.String(), line) {
			t.Errorf("%q in the log: %s", line, log.String())
		}
	}
}
