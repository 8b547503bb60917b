package client

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
)

// reads holds one kind of state file to this: what is read is what was meant, so
// that writing it and reading it again changes nothing.
func reads[T any](t *testing.T, raw []byte) {
	t.Helper()
	v, err := parseState[T](raw)
	if err != nil {
		if bus.CodeOf(err) != bus.CodeMalformed {
			t.Fatalf("%T: %v", v, err)
		}
		return
	}
	first, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseState[T](first)
	if err != nil {
		t.Fatalf("%T written as %s: %v", v, first, err)
	}
	if second, err := json.Marshal(again); err != nil || string(first) != string(second) {
		t.Fatalf("%T: %s comes back as %s, %v", v, first, second, err)
	}
}

// FuzzStateFiles reads anything as every kind of file that a client keeps.
func FuzzStateFiles(f *testing.F) {
	const hash = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, seed := range []string{
		`{"v":1,"handles":{"alice":{"id":"` + hash + `","entry_seq":2}}}`,
		`{"v":1,"rooms":[{"room":"` + hash + `","name":"team"}]}`,
		`{"v":1,"upload":{"record":"AA","members":"AA","sealed":[]},"refused":true}`,
		`{"v":1,"room":"` + hash + `","next":7,"seen":6,"part":{"place":3,"next":1}}`,
		`{"v":1,"epoch":1,"hashes":["` + hash + `","` + hash + `"],"owners":["` + hash + `"]}`,
		`{"v":1,"revoked":{"` + hash + `":"AA"}}`,
		`null`, `[]`, `{"v":`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		reads[handlePins](t, raw)
		reads[acceptedRooms](t, raw)
		reads[unsettled](t, raw)
		reads[cursorState](t, raw)
		reads[revokedKeys](t, raw)
		reads[lineage](t, raw)
		var l lineage
		if json.Unmarshal(raw, &l) == nil {
			// Whatever a file says, looking something up ends well.
			l.at(l.Epoch)
			l.at(0)
			if hash, ok := l.at(l.first()); ok && hash != l.Hashes[0] {
				t.Fatalf("%s begins with %s", raw, hash)
			}
		}
	})
}

// FuzzNotice gives a client anything as a notice.
func FuzzNotice(f *testing.F) {
	c := &Client{rooms: map[bus.RoomID]*Room{}}
	c.log = slog.New(slog.DiscardHandler)
	c.events = newEvents(c.log, time.Now, nil, nil)
	for _, seed := range []string{
		`{"v":1,"kind":"room","room":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","epoch":7}`,
		`{"v":1,"kind":"card"}`, `{"v":1,"kind":"revoked","room":null}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c.hearNotice(&nats.Msg{Data: raw})
		if len(c.rooms) != 0 {
			t.Fatal("a notice alone opened a room")
		}
	})
}
