package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

// follow returns a view that ends with the test.
func (w *world) follow() *View {
	w.Helper()
	v, err := w.dir.Follow(w.ctx)
	w.must(err)
	w.Cleanup(v.Close)
	return v
}

// log collects changes in the order they are delivered.
type log struct {
	mu      sync.Mutex
	changes []string
}

func (l *log) add(c Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var text string
	switch c.Kind {
	case ChangeUser:
		text = fmt.Sprintf("user %s: %s → %s", c.UserAfter.Handle, status(c.UserBefore), status(c.UserAfter))
	case ChangeCard:
		text = fmt.Sprintf("card: %s → %s", seq(c.CardBefore), seq(c.CardAfter))
	case ChangeRoom:
		text = fmt.Sprintf("room: %s → %s", members(c.RoomBefore), members(c.RoomAfter))
	}
	l.changes = append(l.changes, text)
}

func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.changes
	l.changes = nil
	return taken
}

func status(u *User) string {
	if u == nil {
		return "nobody"
	}
	return string(u.Status)
}

func seq(c *CardRef) string {
	if c == nil {
		return "none"
	}
	return fmt.Sprint(c.Seq)
}

func members(r *room.Record) string {
	if r == nil {
		return "none"
	}
	return fmt.Sprintf("%d members in %d", r.MemberCount(), r.Epoch)
}

func TestViewFollowsInOrder(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	first := w.create(alice)
	v := w.follow()
	if users, rooms := v.Counts(); users != 1 || rooms != 1 || v.Err() != nil {
		t.Fatalf("%d users, %d rooms, %v", users, rooms, v.Err())
	}
	var l log
	v.OnChange(l.add)

	bob := w.member("bob")
	second := w.append(first, alice, specs(bus.RoleReader, bob)...)
	_, err := w.dir.RevokeUser(w.ctx, bob.SignPub())
	w.must(err)
	w.must(w.dir.RenewLease(w.ctx, "n1"))
	third := w.append(second, alice)
	w.must(v.CatchUp(w.ctx))
	if diff := cmp.Diff([]string{
		"user bob: nobody → active",
		"card: none → 1",
		"room: 1 members in 0 → 2 members in 1",
		"user bob: active → revoked",
		"room: 2 members in 1 → 1 members in 2",
	}, l.take()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if rec, ok := v.Room(first.Record.Room); !ok || rec.Hash() != third.Record.Hash() {
		t.Error("the head is another")
	}
	if users, rooms := v.Counts(); users != 1 || rooms != 1 {
		t.Errorf("%d users, %d rooms", users, rooms)
	}
}

func TestViewLooksUpUsersByEveryKey(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	v := w.follow()
	stored, err := w.dir.User(w.ctx, alice.SignPub())
	w.must(err)
	for name, look := range map[string]func() (User, bool){
		"signing key":   func() (User, bool) { return v.UserBySignPub(alice.SignPub()) },
		"id":            func() (User, bool) { return v.UserByID(alice.ID()) },
		"transport key": func() (User, bool) { return v.UserByTransport(alice.card.TransportPub) },
	} {
		if u, ok := look(); !ok || u != stored {
			t.Errorf("by %s: %+v, %t", name, u, ok)
		}
	}
	if c, ok := v.Card(alice.ID()); !ok || c.Hash != alice.card.Hash() || !c.NotAfter.Equal(alice.card.NotAfter) {
		t.Errorf("card: %+v, %t", c, ok)
	}
	eve := w.stranger()
	_, byKey := v.UserBySignPub(eve.SignPub())
	_, byTransport := v.UserByTransport(eve.card.TransportPub)
	_, zero := v.UserByTransport(bus.TransportPub{})
	if byKey || byTransport || zero {
		t.Error("found a stranger")
	}
	_, err = w.dir.RevokeUser(w.ctx, alice.SignPub())
	w.must(err)
	w.must(v.CatchUp(w.ctx))
	if u, ok := v.UserByTransport(alice.card.TransportPub); !ok || u.Active() {
		t.Errorf("revoked: %+v, %t", u, ok)
	}
}

// A transport key that two identities claim authenticates neither, in every
// order of events.
func TestDisputedTransportKeysAreNobodys(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	v := w.follow()
	ref := refOf(bob.card)
	ref.TransportPub, ref.Seq = alice.card.TransportPub, 2
	v.setCard(bob.ID(), &ref)
	if u, ok := v.UserByTransport(alice.card.TransportPub); ok {
		t.Fatalf("it is %s's", u.Handle)
	}
	if u, ok := v.UserByTransport(bob.card.TransportPub); ok {
		t.Fatalf("the former key still is %s's", u.Handle)
	}
	own := refOf(alice.card)
	own.Seq = 3
	v.setCard(alice.ID(), &own)
	if u, ok := v.UserByTransport(alice.card.TransportPub); ok {
		t.Fatalf("it is %s's again", u.Handle)
	}
}

func TestRoomsOfFollowTheHeads(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	one := w.create(alice, specs(bus.RoleWriter, bob)...)
	two := w.create(alice)
	v := w.follow()
	check := func(p person, want ...Membership) {
		t.Helper()
		w.must(v.CatchUp(w.ctx))
		got := v.RoomsOf(p.ID())
		sort := func(a, b Membership) int { return slices.Compare(a.Room[:], b.Room[:]) }
		slices.SortFunc(got, sort)
		slices.SortFunc(want, sort)
		if !slices.Equal(got, want) {
			t.Errorf("have %v, want %v", got, want)
		}
		owned := 0
		for _, m := range want {
			if m.Role == bus.RoleOwner {
				owned++
			}
		}
		if member, owner := v.CountRooms(p.ID()); member != len(want) || owner != owned {
			t.Errorf("in %d rooms, of which %d are owned; want %d and %d", member, owner, len(want), owned)
		}
	}
	in := func(s *room.Signed, role bus.Role) Membership { return Membership{s.Record.Room, role, true} }
	check(alice, in(one, bus.RoleOwner), in(two, bus.RoleOwner))
	check(bob, in(one, bus.RoleWriter))
	one = w.append(one, alice)
	two = w.append(two, alice, specs(bus.RoleReader, bob)...)
	check(bob, in(two, bus.RoleReader))
	one = w.append(one, alice, specs(bus.RoleWriter, bob)...)
	check(bob, in(one, bus.RoleWriter), in(two, bus.RoleReader))
	w.append(one, alice)
	w.append(two, alice)
	check(bob)
	check(alice, in(one, bus.RoleOwner), in(two, bus.RoleOwner))
	check(w.stranger())
}

func TestViewBeginsAgainWhenItsWatchEnds(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	s := w.create(alice, specs(bus.RoleWriter, bob)...)
	v := w.follow()
	var l log
	v.OnChange(l.add)
	for range 3 {
		w.faults.breakWatches()
		carol := w.member(bus.Handle(fmt.Sprintf("carol-%d", len(v.RoomsOf(alice.ID())))))
		w.must(v.CatchUp(w.ctx))
		w.until("the view is current", func() bool { return v.Err() == nil })
		if _, ok := v.UserByTransport(carol.card.TransportPub); !ok {
			t.Fatal("what was written meanwhile is missing")
		}
		if got := l.take(); len(got) != 2 { // the user and the card, and nothing again
			t.Errorf("changes: %q", got)
		}
		w.create(alice)
		w.must(v.CatchUp(w.ctx))
		l.take()
	}
	if rec, ok := v.Room(s.Record.Room); !ok || !rec.Role(bob.ID()).Valid() {
		t.Error("a room was lost")
	}
}

// Nothing is deleted in operation, but a store may be restored from a backup.
func TestViewForgetsWhatTheStoreNoLongerHas(t *testing.T) {
	for _, watching := range []bool{true, false} {
		w := newWorld(t)
		alice, bob := w.member("alice"), w.member("bob")
		s := w.create(alice, specs(bus.RoleWriter, bob)...)
		v := w.follow()
		if !watching {
			w.faults.failReads(func(store.Bucket, string) error { return bus.Errorf(bus.CodeUnavailable, "down") })
			w.faults.breakWatches()
		}
		for _, key := range []string{userKey(bob.SignPub()), latestCardKey(bob.ID()), headKey(s.Record.Room)} {
			e, err := w.faults.Store.Get(w.ctx, store.Control, key)
			w.must(err)
			w.must(w.faults.Delete(w.ctx, store.Control, key, e.Revision))
		}
		w.faults.failReads(nil)
		w.until("bob is gone", func() bool {
			_, user := v.UserByID(bob.ID())
			_, transport := v.UserByTransport(bob.card.TransportPub)
			_, head := v.Room(s.Record.Room)
			return !user && !transport && !head && len(v.RoomsOf(alice.ID())) == 0 && v.Err() == nil
		})
		if _, ok := v.UserByTransport(alice.card.TransportPub); !ok {
			t.Error("alice is gone too")
		}
	}
}

func TestViewIsNotCurrentWithARecordItCannotLoad(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	s := w.create(alice)
	v := w.follow()
	second := w.next(s, alice)
	w.faults.failReads(func(b store.Bucket, key string) error {
		if key == recordKey(s.Record.Room, second.Record.Hash()) {
			return bus.Errorf(bus.CodeUnavailable, "read: disk on fire")
		}
		return nil
	})
	w.must(w.dir.AppendRecord(w.ctx, second.Record, second.Sealed))
	w.until("the view says so", func() bool { return errors.Is(v.Err(), bus.ErrUnavailable) })
	if rec, ok := v.Room(s.Record.Room); !ok || rec.Epoch != 0 {
		t.Error("the room moved")
	}
	short, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
	defer cancel()
	want(t, v.CatchUp(short), bus.CodeTimeout)
	_, err := w.restarted().Follow(short)
	want(t, err, bus.CodeTimeout)

	w.faults.failReads(nil)
	w.must(v.CatchUp(w.ctx))
	w.until("the view is current", func() bool { return v.Err() == nil })
	if rec, ok := v.Room(s.Record.Room); !ok || rec.Hash() != second.Record.Hash() {
		t.Error("the room did not move")
	}
}

func TestViewIsNotCurrentWithAnEntryItCannotRead(t *testing.T) {
	for _, key := range []string{"users/zz", "cards/zz/latest", "heads/zz", "nodes/n9"} {
		w := newWorld(t)
		v := w.follow()
		_, err := w.faults.Create(w.ctx, store.Control, key, []byte("junk"), 0)
		w.must(err)
		w.until(key+" is noticed", func() bool { return v.Err() != nil })
	}
}

func TestLeasesAreSeenThroughTheWatch(t *testing.T) {
	w := newWorld(t)
	v := w.follow()
	if !v.LeaseSeen("n1").IsZero() {
		t.Fatal("seen before it was renewed")
	}
	begun := w.now()
	w.must(w.dir.RenewLease(w.ctx, "n1"))
	w.must(v.CatchUp(w.ctx))
	if got := v.LeaseSeen("n1"); !got.Equal(begun) {
		t.Fatalf("seen %s, want %s", got, begun)
	}
	// A renewal by another process of that name proves nothing about this one.
	w.pass(time.Minute)
	other := w.restarted()
	w.must(other.RenewLease(w.ctx, "n1"))
	w.must(other.RenewLease(w.ctx, "n2"))
	w.member("alice")
	w.must(v.CatchUp(w.ctx))
	if got := v.LeaseSeen("n1"); !got.Equal(begun) || !v.LeaseSeen("n2").IsZero() {
		t.Fatalf("another's renewal counts: %s", got)
	}
	// A renewal that did not take place is not seen; the next one is.
	w.faults.plan(func(int, store.Bucket, string) fault { return refused })
	want(t, w.dir.RenewLease(w.ctx, "n1"), bus.CodeUnavailable)
	w.faults.plan(nil)
	w.must(v.CatchUp(w.ctx))
	if got := v.LeaseSeen("n1"); !got.Equal(begun) {
		t.Fatalf("a failed renewal counts: %s", got)
	}
	w.must(w.dir.RenewLease(w.ctx, "n1"))
	w.must(v.CatchUp(w.ctx))
	if got := v.LeaseSeen("n1"); !got.Equal(w.now()) {
		t.Fatalf("seen %s, want %s", got, w.now())
	}
	for range 2 * leaseMemory {
		w.pass(time.Second)
		w.must(w.dir.RenewLease(w.ctx, "n1"))
	}
	w.must(v.CatchUp(w.ctx))
	if got := v.LeaseSeen("n1"); !got.Equal(w.now()) {
		t.Fatalf("seen %s, want %s", got, w.now())
	}
}

func TestClosedViewSaysSo(t *testing.T) {
	w := newWorld(t)
	v := w.follow()
	v.Close()
	v.Close()
	want(t, v.Err(), bus.CodeClosed)
	w.member("alice")
	want(t, v.CatchUp(w.ctx), bus.CodeClosed)

	v = w.follow()
	w.must(w.faults.Store.Close())
	w.until("the view ends with its store", func() bool { return errors.Is(v.Err(), bus.ErrClosed) })
	_, err := w.dir.Follow(w.ctx)
	want(t, err, bus.CodeClosed)
}

func TestHandlersCanBeTakenAway(t *testing.T) {
	w := newWorld(t)
	v := w.follow()
	var first, second log
	stop := v.OnChange(first.add)
	v.OnChange(second.add)
	w.member("alice")
	w.must(v.CatchUp(w.ctx))
	stop()
	stop()
	w.member("bob")
	w.must(v.CatchUp(w.ctx))
	if a, b := len(first.take()), len(second.take()); a != 2 || b != 4 {
		t.Errorf("%d and %d changes", a, b)
	}
}

// After any operations, in any order, with the watch ending now and then, a
// view that followed all along, one that begins now, and the store agree.
func TestViewsAgreeWithTheStore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		defer w.faults.Close()
		v, err := w.dir.Follow(w.ctx)
		w.must(err)
		defer v.Close()
		owner := w.member("owner")
		people := []person{owner}
		var rooms []*room.Signed
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"member", "revoke", "room", "record", "break"}).Draw(rt, "step") {
			case "member":
				people = append(people, w.member(handleOf(len(people))))
			case "revoke":
				if p := rapid.SampledFrom(people).Draw(rt, "who"); p.ID() != owner.ID() {
					_, err := w.dir.RevokeUser(w.ctx, p.SignPub())
					w.must(err)
				}
			case "room":
				rooms = append(rooms, w.create(owner, w.some(rt, people[1:])...))
			case "record":
				if len(rooms) > 0 {
					i := rapid.IntRange(0, len(rooms)-1).Draw(rt, "room")
					rooms[i] = w.append(rooms[i], owner, w.some(rt, people[1:])...)
				}
			case "break":
				w.faults.breakWatches()
			}
		}
		w.must(v.CatchUp(w.ctx))
		fresh, err := w.dir.Follow(w.ctx)
		w.must(err)
		defer fresh.Close()
		for _, v := range []*View{v, fresh} {
			active := 0
			for _, p := range people {
				stored, err := w.dir.User(w.ctx, p.SignPub())
				w.must(err)
				if u, ok := v.UserByTransport(p.card.TransportPub); !ok || u != stored {
					rt.Fatalf("user %s is %+v", stored.Handle, u)
				}
				if stored.Active() {
					active++
				}
				in := map[bus.RoomID]bus.Role{}
				for _, s := range rooms {
					if role := s.Record.Role(p.ID()); role.Valid() {
						in[s.Record.Room] = role
					}
				}
				owned := 0
				for _, role := range in {
					if role == bus.RoleOwner {
						owned++
					}
				}
				if member, owner := v.CountRooms(p.ID()); member != len(in) || owner != owned {
					rt.Fatalf("%s is in %d rooms and owns %d, want %d and %d", stored.Handle, member, owner, len(in), owned)
				}
				for _, m := range v.RoomsOf(p.ID()) {
					if in[m.Room] != m.Role {
						rt.Fatalf("%s has role %s in %s", stored.Handle, m.Role, m.Room)
					}
					delete(in, m.Room)
				}
				if len(in) > 0 {
					rt.Fatalf("%s misses rooms", stored.Handle)
				}
			}
			if users, n := v.Counts(); users != active || n != len(rooms) {
				rt.Fatalf("%d users, %d rooms; want %d, %d", users, n, active, len(rooms))
			}
			for _, s := range rooms {
				if rec, ok := v.Room(s.Record.Room); !ok || rec.Hash() != s.Record.Hash() {
					rt.Fatalf("head of %s is another", s.Record.Room)
				}
			}
		}
	})
}

// some draws members for a record among those who are active.
func (w *world) some(rt *rapid.T, people []person) []room.MemberSpec {
	var list []room.MemberSpec
	for _, p := range people {
		u, err := w.dir.User(w.ctx, p.SignPub())
		w.must(err)
		if u.Active() && rapid.Bool().Draw(rt, "member") {
			list = append(list, specs(bus.RoleWriter, p)...)
		}
	}
	return list
}
