package directory

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store"
)

// BenchmarkViewOf100kUsers tells what it costs a node to take in a large bus,
// and what one lookup in it costs.
func BenchmarkViewOf100kUsers(b *testing.B) {
	const users = 100_000
	events := make([]store.Event, 0, 2*users)
	at := time.Unix(1_800_000_000, 0)
	for i := range users {
		sign := bus.SignPub(sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))))
		u := User{SignPub: sign, ID: identity.IDOf(sign), Handle: handleOf(i), Role: bus.UserMember, Status: bus.UserActive, CreatedAt: at}
		user, err := encodeUser(u, newMark())
		if err != nil {
			b.Fatal(err)
		}
		card, err := encodeLatest(CardRef{Seq: 1, TransportPub: bus.TransportPub(sign), NotBefore: at, NotAfter: at})
		if err != nil {
			b.Fatal(err)
		}
		events = append(events,
			store.Event{Entry: store.Entry{Key: userKey(sign), Value: user, Revision: store.Revision(2*i + 1)}},
			store.Event{Entry: store.Entry{Key: latestCardKey(u.ID), Value: card, Revision: store.Revision(2*i + 2)}})
	}
	fill := func() *View {
		v := newView(New(nil, bus.BusID{}, time.Now), func() {})
		f := follower{v: v}
		for _, e := range events {
			if err := f.apply(b.Context(), e); err != nil {
				b.Fatal(err)
			}
		}
		return v
	}
	b.Run("fill", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fill()
		}
	})
	b.Run("look up", func(b *testing.B) {
		v := fill()
		key := bus.TransportPub(sha256.Sum256(binary.BigEndian.AppendUint64(nil, users/2)))
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := v.UserByTransport(key); !ok {
				b.Fatal("not found")
			}
		}
	})
}
