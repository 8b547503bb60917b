package blob

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// printed returns how a value is printed with --json.
func printed(t *testing.T, v any) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := &cli.Env{Args: []string{"unibus-blob", "--json"}, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now}
	cmd := &cli.Command{Name: "blob", Usage: "test", Action: cli.Action(func(c *cli.Call) error { return c.JSON(v) })}
	if status := cli.Run(context.Background(), env, cmd); status != 0 || stderr.Len() > 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	return stdout.String()
}

// TestJSONShapes is a contract: see cli.JSONVersion before changing what is wanted.
func TestJSONShapes(t *testing.T) {
	const (
		id1 = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		id2 = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		id3 = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	)
	file := describe(client.BlobRef{Identity: "secret", Size: 17, SealedSize: 1676, Digest: [32]byte{4}, Hash: bus.BlobHash{2}, Name: "a.txt", Media: "text/plain"})
	asJSON := `"hash":"` + id2 + `","name":"a.txt","media":"text/plain","size":17,"sealed_size":1676,"sha256":"04` + strings.Repeat("0", 62) + `"`
	tells := told{file, bus.ID{3}, "alice", time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)}
	toldJSON := asJSON + `,"sender":"` + id3 + `","handle":"alice","sent":"2031-02-03T04:05:06Z"`
	for _, tt := range []struct {
		name string
		v    any
		want string
	}{
		{"put", sentFile{bus.RoomID{1}, file, bus.SessionID{1}, 7}, `{"v":1,"room":"` + id1 + `",` + asJSON + `,"session":"AQAAAAAAAAAAAAAAAAAAAA","seq":7}`},
		{"get", gotFile{bus.RoomID{1}, file, "out/a.txt"}, `{"v":1,"room":"` + id1 + `",` + asJSON + `,"path":"out/a.txt"}`},
		{"ls", listing{bus.RoomID{1}, []told{tells}}, `{"v":1,"room":"` + id1 + `","blobs":[{` + toldJSON + `}]}`},
		{"ls of nothing", listing{bus.RoomID{1}, []told{}}, `{"v":1,"room":"` + id1 + `","blobs":[]}`},
		{"stat", state{bus.RoomID{1}, tells, 5, false}, `{"v":1,"room":"` + id1 + `",` + toldJSON + `,"offset":5,"complete":false}`},
		{"rm", removed{bus.RoomID{1}, bus.BlobHash{2}}, `{"v":1,"room":"` + id1 + `","hash":"` + id2 + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want+"\n", printed(t, tt.v)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSizesForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 64 << 20: "64.0 MiB", 3 << 40: "3.0 TiB", 5000 << 40: "5000.0 TiB"} {
		if have := size(n); have != want {
			t.Errorf("%d is %q, want %q", n, have, want)
		}
	}
}

func TestNamesThatAreNotTakenUnasked(t *testing.T) {
	for name, want := range map[string]bool{"a.txt": true, "": false, ".bashrc": false, "-rf": false} {
		if _, err := ownName(client.BlobRef{Name: name}); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}
