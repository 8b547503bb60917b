package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// sameShard makes persisted rooms until n of them share a shard.
func (w *world) sameShard(n int, owner person, others ...role) []*chat {
	w.Helper()
	byShard := make(map[int][]*chat)
	for {
		r := w.persistedRoom(owner, others...)
		shard := bus.Shard(r.id())
		byShard[shard] = append(byShard[shard], r)
		if len(byShard[shard]) == n {
			return byShard[shard]
		}
	}
}

func ids(rooms ...*chat) []bus.RoomID {
	var all []bus.RoomID
	for _, r := range rooms {
		all = append(all, r.id())
	}
	return all
}

func (c *peer) cursors(req api.CursorRequest) (api.CursorReply, error) {
	req.Session = c.session
	return c.w.access.Cursors(c.w.ctx, c.person.ID(), req)
}

// tail asks for the tail of rooms of one shard.
func (c *peer) tail(from uint64, keep bool, rooms ...*chat) api.TailConsumer {
	c.w.Helper()
	reply, err := c.cursors(api.CursorRequest{Tail: []api.TailShard{{Shard: bus.Shard(rooms[0].id()), From: from, Rooms: ids(rooms...), Keep: keep}}})
	c.w.must(err)
	if len(reply.Tail) != 1 || len(reply.CatchUp) != 0 {
		c.w.Fatalf("reply %+v", reply)
	}
	return reply.Tail[0]
}

func (c *peer) wantFetched(consumer api.TailConsumer, want string) {
	c.w.Helper()
	all, err := c.fetch(consumer.Stream, consumer.Consumer, len(strings.Fields(want)))
	if got := texts(all); err != nil || got != want {
		c.w.Errorf("fetched %q, %v, want %q", got, err, want)
	}
}

func TestTailStartsWhereItIsAskedTo(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	for i := range 3 {
		b.store(r, fmt.Sprint(i+1))
	}
	shard := bus.Shard(r.id())
	want := api.TailConsumer{Shard: shard, Stream: bus.Stream(shard), Consumer: bus.TailConsumer(alice.ID(), a.session), Last: 3}
	got := a.tail(2, false, r)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	a.wantFetched(got, "2 3")

	got = a.tail(0, false, r)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	a.wantFetched(got, "")
	b.store(r, "4")
	a.wantFetched(got, "4")
}

func TestTailFollowsOnlyTheRoomsAskedFor(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	rooms := w.sameShard(3, bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	tail := a.tail(0, false, rooms[0], rooms[1])
	for i, r := range rooms {
		b.store(r, fmt.Sprint(i))
	}
	a.wantFetched(tail, "0 1")
}

func TestTailThatIsKeptGoesOnWhereItWas(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	rooms := w.sameShard(2, bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	tail := a.tail(0, false, rooms[0])
	b.store(rooms[0], "1")
	b.store(rooms[1], "skipped")
	b.store(rooms[0], "2")
	a.wantFetched(tail, "1 2")
	kept := a.tail(1, true, rooms...)
	if !kept.Kept || kept.Last != 3 {
		t.Errorf("reply %+v", kept)
	}
	b.store(rooms[1], "3")
	b.store(rooms[0], "4")
	// What the room had before is not made up for: that is what Last is for.
	a.wantFetched(kept, "3 4")

	kept = a.tail(1, true, rooms[1])
	if !kept.Kept {
		t.Errorf("reply %+v", kept)
	}
	b.store(rooms[0], "no longer")
	b.store(rooms[1], "5")
	a.wantFetched(kept, "5")
}

func TestTailThatIsGoneIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	b.store(r, "1")
	b.store(r, "2")
	first := a.tail(1, true, r)
	if first.Kept {
		t.Error("a consumer that was never made was kept")
	}
	w.must(w.js.DeleteConsumer(w.ctx, first.Stream, first.Consumer))
	second := a.tail(2, true, r)
	if second.Kept {
		t.Error("a consumer that was gone was kept")
	}
	a.wantFetched(second, "2")
}

func TestTailWithoutRoomsIsDeleted(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	r := w.persistedRoom(alice)
	a := w.connect(alice)
	tail := a.tail(0, false, r)
	for range 2 {
		reply, err := a.cursors(api.CursorRequest{Tail: []api.TailShard{{Shard: tail.Shard}}})
		if err != nil || len(reply.Tail) != 1 || reply.Tail[0].Last != 0 {
			t.Errorf("reply %+v, %v", reply, err)
		}
		w.wantNoConsumer(tail.Stream, tail.Consumer)
	}
	w.eventually("the identity is forgotten", func() bool { return !w.access.reads(alice.ID()) })
}

func (w *world) wantNoConsumer(stream, name string) {
	w.Helper()
	if _, err := w.js.Consumer(w.ctx, stream, name); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		w.Errorf("consumer %s: %v", name, err)
	}
}

func TestConsumersAreSmallAndEndByThemselves(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	r := w.persistedRoom(alice)
	tail := w.connect(alice).tail(0, false, r)
	consumer, err := w.js.Consumer(w.ctx, tail.Stream, tail.Consumer)
	w.must(err)
	c := consumer.CachedInfo().Config
	if !c.MemoryStorage || c.AckPolicy != jetstream.AckNonePolicy || c.InactiveThreshold != consumerIdle || c.Durable != "" ||
		c.MaxRequestExpires != time.Minute || c.Replicas != 1 || len(c.FilterSubjects) != 1 || c.FilterSubjects[0] != r.all() {
		t.Errorf("consumer %+v", c)
	}
}

func TestCatchUpReadsOneRoomFromThePast(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	rooms := w.sameShard(2, bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	for i := range 3 {
		b.store(rooms[0], fmt.Sprint(i+1))
	}
	b.store(rooms[1], "other")
	reply, err := a.cursors(api.CursorRequest{CatchUp: []api.CatchUp{
		{Slot: 0, Room: rooms[0].id(), From: 1},
		{Slot: 3, Room: rooms[0].id(), From: 3},
	}})
	w.must(err)
	stream := bus.Stream(bus.Shard(rooms[0].id()))
	want := api.CursorReply{CatchUp: []api.CatchUpConsumer{
		{Slot: 0, Room: rooms[0].id(), Stream: stream, Consumer: bus.CatchUpConsumer(alice.ID(), a.session, 0), Last: 3},
		{Slot: 3, Room: rooms[0].id(), Stream: stream, Consumer: bus.CatchUpConsumer(alice.ID(), a.session, 3), Last: 3},
	}}
	if diff := cmp.Diff(want, reply); diff != "" {
		t.Fatal(diff)
	}
	for i, texts := range []string{"1 2 3", "3"} {
		a.wantFetched(api.TailConsumer{Stream: stream, Consumer: reply.CatchUp[i].Consumer}, texts)
	}
}

func TestCatchUpOfAnEmptyRoomHasNoLast(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	rooms := w.sameShard(2, alice)
	a := w.connect(alice)
	a.store(rooms[1], "other")
	reply, err := a.cursors(api.CursorRequest{CatchUp: []api.CatchUp{{Slot: 1, Room: rooms[0].id(), From: 1}}})
	if err != nil || len(reply.CatchUp) != 1 || reply.CatchUp[0].Last != 0 {
		t.Errorf("reply %+v, %v", reply, err)
	}
}

func TestCatchUpSlotMovesToAnotherRoom(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	first := w.persistedRoom(alice)
	second := w.persistedRoom(alice)
	for bus.Shard(second.id()) == bus.Shard(first.id()) {
		second = w.persistedRoom(alice)
	}
	a := w.connect(alice)
	a.store(second, "1")
	for _, r := range []*chat{first, second} {
		_, err := a.cursors(api.CursorRequest{CatchUp: []api.CatchUp{{Slot: 2, Room: r.id(), From: 1}}})
		w.must(err)
	}
	name := bus.CatchUpConsumer(alice.ID(), a.session, 2)
	w.wantNoConsumer(first.stream(), name)
	a.wantFetched(api.TailConsumer{Stream: second.stream(), Consumer: name}, "1")
}

func TestCursorsRefuse(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	own, foreign, live := w.persistedRoom(alice), w.persistedRoom(bob), w.liveRoom(alice)
	revoked := w.member("carol")
	ofRevoked := w.persistedRoom(revoked)
	w.revoke(revoked)
	w.must(w.view.CatchUp(w.ctx))
	shard := func(r *chat) int { return bus.Shard(r.id()) }
	session := newSession()
	for name, test := range map[string]struct {
		who  person
		code bus.Code
		req  api.CursorRequest
	}{
		"another's room": {alice, bus.CodeNotMember, api.CursorRequest{Session: session,
			Tail: []api.TailShard{{Shard: shard(foreign), Rooms: ids(foreign)}}}},
		"the past of another's room": {alice, bus.CodeNotMember, api.CursorRequest{Session: session,
			CatchUp: []api.CatchUp{{Room: foreign.id(), From: 1}}}},
		"a room that does not exist": {alice, bus.CodeNotMember, api.CursorRequest{Session: session,
			CatchUp: []api.CatchUp{{Room: bus.RoomID{1}, From: 1}}}},
		"a live room": {alice, bus.CodePolicy, api.CursorRequest{Session: session,
			Tail: []api.TailShard{{Shard: shard(live), Rooms: ids(live)}}}},
		"a revoked user": {revoked, bus.CodeNotMember, api.CursorRequest{Session: session,
			Tail: []api.TailShard{{Shard: shard(ofRevoked), Rooms: ids(ofRevoked)}}}},
		"a stranger": {w.stranger(), bus.CodeNotMember, api.CursorRequest{Session: session,
			Tail: []api.TailShard{{Shard: shard(own), Rooms: ids(own)}}}},
		"one room of two": {alice, bus.CodeNotMember, api.CursorRequest{Session: session,
			Tail:    []api.TailShard{{Shard: shard(own), Rooms: ids(own)}},
			CatchUp: []api.CatchUp{{Room: foreign.id(), From: 1}}}},
		"no session":        {alice, bus.CodeMalformed, api.CursorRequest{Tail: []api.TailShard{{Shard: shard(own), Rooms: ids(own)}}}},
		"nothing":           {alice, bus.CodeMalformed, api.CursorRequest{Session: session}},
		"a room elsewhere":  {alice, bus.CodeMalformed, api.CursorRequest{Session: session, Tail: []api.TailShard{{Shard: (shard(own) + 1) % bus.Shards, Rooms: ids(own)}}}},
		"no such shard":     {alice, bus.CodeMalformed, api.CursorRequest{Session: session, Tail: []api.TailShard{{Shard: bus.Shards}}}},
		"a negative shard":  {alice, bus.CodeMalformed, api.CursorRequest{Session: session, Tail: []api.TailShard{{Shard: -1}}}},
		"a shard twice":     {alice, bus.CodeMalformed, api.CursorRequest{Session: session, Tail: []api.TailShard{{Shard: shard(own), Rooms: ids(own)}, {Shard: shard(own)}}}},
		"to delete twice":   {alice, bus.CodeMalformed, api.CursorRequest{Session: session, Tail: []api.TailShard{{Shard: 1}, {Shard: 1}}}},
		"to delete nowhere": {alice, bus.CodeMalformed, api.CursorRequest{Tail: []api.TailShard{{Shard: 1}}}},
		"no such slot":      {alice, bus.CodeMalformed, api.CursorRequest{Session: session, CatchUp: []api.CatchUp{{Slot: bus.CatchUpSlots, Room: own.id(), From: 1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			reply, err := w.access.Cursors(w.ctx, test.who.ID(), test.req)
			if bus.CodeOf(err) != test.code || len(reply.Tail)+len(reply.CatchUp) != 0 {
				t.Errorf("reply %+v, error %v (%s), want %s", reply, err, bus.CodeOf(err), test.code)
			}
		})
	}
	for shard := range bus.Shards {
		w.wantConsumers(shard, 0)
	}
	w.setReady(bus.Errorf(bus.CodeUnavailable, "the lease is old"))
	if _, err := w.access.Cursors(w.ctx, alice.ID(), api.CursorRequest{Session: session, Tail: []api.TailShard{{Shard: shard(own), Rooms: ids(own)}}}); bus.CodeOf(err) != bus.CodeUnavailable {
		t.Errorf("while not ready: %v", err)
	}
}

func (w *world) wantConsumers(shard, want int) {
	w.Helper()
	stream, err := w.js.Stream(w.ctx, bus.Stream(shard))
	w.must(err)
	if n := stream.CachedInfo().State.Consumers; n != want {
		w.Errorf("shard %d has %d consumers, want %d", shard, n, want)
	}
}

func TestRemovingTakesTheConsumersOfTheRoom(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	rooms := w.sameShard(2, bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	tail := a.tail(1, false, rooms...)
	past, err := a.cursors(api.CursorRequest{CatchUp: []api.CatchUp{{Slot: 0, Room: rooms[0].id(), From: 1}, {Slot: 1, Room: rooms[1].id(), From: 1}}})
	w.must(err)
	b.store(rooms[0], "lost")
	b.store(rooms[1], "kept")

	rooms[0].set()
	a.wantCut()
	// The same session comes back at once, and may fetch by the same names.
	again, err := w.dial(alice, a.session)
	w.must(err)
	t.Cleanup(again.Close)
	for _, name := range []string{tail.Consumer, past.CatchUp[0].Consumer} {
		if all, err := again.fetch(tail.Stream, name, 0); !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.Errorf("consumer %s delivered %q, %v", name, texts(all), err)
		}
	}
	again.wantFetched(api.TailConsumer{Stream: tail.Stream, Consumer: past.CatchUp[1].Consumer}, "kept")
	again.wantFetched(again.tail(1, true, rooms[1]), "kept")
}

func TestRemovingWhileAwayTakesTheConsumersToo(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	tail := a.tail(1, false, r)
	b.store(r, "lost")
	a.Close()
	r.set()
	again, err := w.dial(alice, a.session)
	w.must(err)
	t.Cleanup(again.Close)
	if all, err := again.fetch(tail.Stream, tail.Consumer, 0); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("the consumer delivered %q, %v", texts(all), err)
	}
}

// Whoever comes in must not depend on the change having been handled already.
func TestConsumersOfLostRoomsAreGoneBeforeAConnectionIsAdmitted(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CheckInterval = time.Hour })
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	tail := a.tail(1, false, r)
	b.store(r, "lost")
	a.Close()
	w.access.stopChanges()
	r.set()
	again, err := w.dial(alice, a.session)
	w.must(err)
	t.Cleanup(again.Close)
	if all, err := again.fetch(tail.Stream, tail.Consumer, 0); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("the consumer delivered %q, %v", texts(all), err)
	}
}

func TestRevokingTakesEveryConsumer(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CheckInterval = time.Hour })
	alice := w.member("alice")
	r := w.persistedRoom(alice)
	for range 3 {
		w.connect(alice).tail(1, false, r)
	}
	w.revoke(alice)
	w.eventually("the consumers are gone", func() bool { return !w.access.reads(alice.ID()) })
	w.wantConsumers(bus.Shard(r.id()), 0)
}

// A consumer asked for while its room is taken away must not stay.
func TestCursorsRaceRemovalAndLose(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	for range 10 {
		r := w.persistedRoom(bob, reading(alice))
		tail := []api.TailShard{{Shard: bus.Shard(r.id()), Rooms: ids(r), From: 1}}
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() {
				_, err := w.access.Cursors(w.ctx, alice.ID(), api.CursorRequest{Session: newSession(), Tail: tail})
				if err != nil && !errors.Is(err, bus.ErrNotMember) {
					t.Error(err)
				}
			})
		}
		r.set()
		asking.Wait()
		w.eventually("the consumers are gone", func() bool { return !w.access.reads(alice.ID()) })
		w.wantConsumers(bus.Shard(r.id()), 0)
	}
}

func TestConsumersOfSessionsThatWentAwayAreDeleted(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	r := w.persistedRoom(alice)
	gone, here := w.connect(alice), w.connect(alice)
	first := gone.tail(0, false, r)
	second := here.tail(0, false, r)
	gone.Close()
	w.eventually("the connection is forgotten", func() bool { return len(w.access.connectedSessions(alice.ID())) == 1 })
	w.pass(consumerIdle + time.Second)
	w.eventually("the consumer is gone", func() bool {
		_, err := w.js.Consumer(w.ctx, first.Stream, first.Consumer)
		return errors.Is(err, jetstream.ErrConsumerNotFound)
	})
	if _, err := w.js.Consumer(w.ctx, second.Stream, second.Consumer); err != nil {
		t.Errorf("the consumer of a session that is connected: %v", err)
	}
}

func TestTooManySessionsTakeTheOldestThatIsAway(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	r := w.persistedRoom(alice)
	ask := func(s bus.SessionID) api.TailConsumer {
		w.Helper()
		w.pass(time.Millisecond)
		reply, err := w.access.Cursors(w.ctx, alice.ID(), api.CursorRequest{Session: s, Tail: []api.TailShard{{Shard: bus.Shard(r.id()), Rooms: ids(r)}}})
		w.must(err)
		return reply.Tail[0]
	}
	connected := w.connect(alice)
	first := ask(connected.session)
	second := ask(newSession())
	for range maxSessions - 2 {
		ask(newSession())
	}
	w.wantConsumers(bus.Shard(r.id()), maxSessions)
	ask(newSession())
	w.wantConsumers(bus.Shard(r.id()), maxSessions)
	w.wantNoConsumer(second.Stream, second.Consumer)
	if _, err := w.js.Consumer(w.ctx, first.Stream, first.Consumer); err != nil {
		t.Errorf("the consumer of the session that is connected: %v", err)
	}
}

func TestCursorsTellThatTheStreamsCannotBeReached(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	r := w.persistedRoom(alice)
	w.must(w.broker.Shutdown(context.WithoutCancel(w.ctx)))
	_, err := w.access.Cursors(w.ctx, alice.ID(), api.CursorRequest{Session: newSession(), Tail: []api.TailShard{{Shard: bus.Shard(r.id()), Rooms: ids(r)}}})
	if bus.CodeOf(err) != bus.CodeUnavailable {
		t.Errorf("error %v (%s)", err, bus.CodeOf(err))
	}
}
