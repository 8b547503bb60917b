package client

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestWhatWasMetIsRemembered(t *testing.T) {
	dir, b := t.TempDir(), bus.BusID{1}
	write := func(id bus.ID, name, text string) {
		t.Helper()
		path := filepath.Join(dir, b.Token(), id.Token(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	room := bus.RoomID{7}.String()
	write(bus.ID{1}, roomsFile, `{"v":1,"rooms":[{"room":"`+room+`","name":"ops"},{"room":"`+room+`","name":"lobby"}]}`)
	write(bus.ID{1}, handlesFile, `{"v":1,"handles":{"bob":{"id":"`+bus.ID{2}.String()+`"}}}`)
	write(bus.ID{2}, roomsFile, `{"v":1,"rooms":[{"room":"`+room+`","name":"attic"}]}`)
	for _, tt := range []struct {
		name    string
		bus     bus.BusID
		id      bus.ID
		rooms   []bus.RoomName
		handles []bus.Handle
	}{
		{"by one identity", b, bus.ID{1}, []bus.RoomName{"lobby", "ops"}, []bus.Handle{"bob"}},
		{"by all of them", b, bus.ID{}, []bus.RoomName{"attic", "lobby", "ops"}, []bus.Handle{"bob"}},
		{"by nobody yet", b, bus.ID{3}, nil, nil},
		{"on another bus", bus.BusID{2}, bus.ID{}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rooms, handles, err := Remembered(dir, tt.bus, tt.id)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.rooms, rooms) + cmp.Diff(tt.handles, handles); diff != "" {
				t.Error(diff)
			}
		})
	}
	write(bus.ID{2}, roomsFile, "{")
	if _, _, err := Remembered(dir, b, bus.ID{}); bus.CodeOf(err) != bus.CodeMalformed {
		t.Errorf("a torn file: %v", err)
	}
}
