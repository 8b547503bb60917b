package room_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

func TestRoomIsMadeAndRotated(t *testing.T) {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	card, err := identity.NewCard(id, bus.BusID{1}, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	d := room.Draft{Policy: bus.DefaultPolicy(), Name: "a.b", Members: []room.MemberSpec{{Card: card, Role: bus.RoleOwner}}}
	first, err := room.Create(id, d, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := room.Next(id, first.Record, first.Key, d, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := room.NewChain(first.Record.Room)
	if err := c.AcceptWithKey(first.Record, first.Key); err != nil {
		t.Fatal(err)
	}
	key, err := second.Record.OpenKey(id, second.Sealed[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AcceptWithKey(second.Record, key); err != nil {
		t.Fatal(err)
	}
	earlier, err := second.Record.OpenHistory(key, first.Record)
	if err != nil || earlier != first.Key {
		t.Fatal(err)
	}
}
