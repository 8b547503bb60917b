package quota

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a quota over a real directory.
type world struct {
	*testing.T
	ctx   context.Context
	bus   bus.BusID
	dir   *directory.Directory
	view  *directory.View
	quota *Quota
	log   bytes.Buffer
}

const limit = 1000

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx}
	_, err := rand.Read(w.bus[:])
	w.must(err)
	s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "unibus.db"), sqlite.Options{})
	w.must(err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.dir = directory.New(s, w.bus, time.Now)
	w.view, err = w.dir.Follow(ctx)
	w.must(err)
	t.Cleanup(w.view.Close)
	w.quota = w.begin()
	return w
}

// begin returns a quota that knows nothing yet, as after a restart.
func (w *world) begin() *Quota {
	q := New(Config{Limit: limit, View: w.view, Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	w.Cleanup(q.Close)
	return q
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

type person struct {
	*identity.Identity
	card *identity.Card
}

func (w *world) member(handle bus.Handle) person {
	w.Helper()
	id, err := identity.Generate(rand.Reader)
	w.must(err)
	now := time.Now().Truncate(time.Second)
	card, err := identity.NewCard(id, w.bus, now, now.Add(bus.MaxCardLife))
	w.must(err)
	_, err = w.dir.AddUser(w.ctx, id.SignPub(), handle, bus.UserMember)
	w.must(err)
	w.must(w.dir.PutCard(w.ctx, card))
	return person{id, card}
}

func draft(owners ...person) room.Draft {
	d := room.Draft{Policy: bus.DefaultPolicy(), Name: "room"}
	for _, p := range owners {
		d.Members = append(d.Members, room.MemberSpec{Card: p.card, Role: bus.RoleOwner})
	}
	return d
}

func (w *world) create(owners ...person) *room.Signed {
	w.Helper()
	s, err := room.Create(owners[0].Identity, draft(owners...), time.Now(), rand.Reader)
	w.must(err)
	w.must(w.dir.CreateRoom(w.ctx, owners[0].ID(), s.Record, s.Sealed))
	w.must(w.view.CatchUp(w.ctx))
	return s
}

func (w *world) append(head *room.Signed, signer person, owners ...person) *room.Signed {
	w.Helper()
	s, err := room.Next(signer.Identity, head.Record, head.Key, draft(owners...), time.Now(), rand.Reader)
	w.must(err)
	w.must(w.dir.AppendRecord(w.ctx, s.Record, s.Sealed))
	w.must(w.view.CatchUp(w.ctx))
	return s
}

func (w *world) full(s *room.Signed) bool { return w.quota.Full([]byte(s.Record.Room.Token())) }

// want compares what people have used and which rooms are full, in words.
func (w *world) want(when string, people []person, rooms []*room.Signed, want string) {
	w.Helper()
	var have []string
	for _, p := range people {
		have = append(have, fmt.Sprint(w.quota.Used(p.ID())))
	}
	for _, s := range rooms {
		have = append(have, fmt.Sprint(w.full(s)))
	}
	if have := strings.Join(have, " "); have != want {
		w.Errorf("%s: %s, want %s", when, have, want)
	}
}

func TestARoomCountsAgainstEachOfItsOwners(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	people := []person{alice, bob}
	own, shared, bobs := w.create(alice), w.create(alice, bob), w.create(bob)
	rooms := []*room.Signed{own, shared, bobs}
	w.want("nothing stored", people, rooms, "0 0 false false false")
	w.quota.Stored(shared.Record.Room.Token(), 600)
	w.want("the shared room", people, rooms, "600 600 false false false")
	w.quota.Stored(own.Record.Room.Token(), 400)
	w.want("alice is full", people, rooms, "1000 600 true true false")
	w.quota.Stored(bus.RoomID{9}.Token(), 5000)
	w.want("a room nobody knows", people, rooms, "1000 600 true true false")

	shared = w.append(shared, alice, bob)
	w.want("alice left", people, rooms, "400 600 false false false")
	shared = w.append(shared, bob, bob, alice)
	w.want("and is back", people, rooms, "1000 600 true true false")
	w.quota.Stored(own.Record.Room.Token(), -400)
	w.want("after a purge", people, rooms, "600 600 false false false")
	w.quota.Stored(bobs.Record.Room.Token(), 500)
	w.want("bob is full", people, rooms, "600 1100 false true true")

	// A quota that begins with rooms that are there finds the same.
	w.quota = w.begin()
	w.quota.Stored(shared.Record.Room.Token(), 600)
	w.quota.Stored(bobs.Record.Room.Token(), 500)
	w.want("after a restart", people, rooms, "600 1100 false true true")
}

func TestTheOperatorHearsOnceOfEachLevel(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	s := w.create(alice)
	for _, n := range []int64{899, 1, 50, 49, 1, 1, -2, -200, 150, 200, -1149} {
		w.quota.Stored(s.Record.Room.Token(), n)
	}
	var have []string
	for line := range strings.Lines(w.log.String()) {
		_, line, _ = strings.Cut(line, "level=")
		line, _, _ = strings.Cut(line, " handle=alice")
		have = append(have, line)
	}
	nearly, full, again := `WARN msg="user has stored nearly all it may"`,
		`WARN msg="user has stored all it may; messages to its rooms are refused"`, `INFO msg="user may store again"`
	if diff := cmp.Diff([]string{nearly, full, again, nearly, full, again}, have); diff != "" {
		t.Error(diff)
	}
	if len(w.quota.owners) != 0 {
		t.Errorf("%d owners are remembered who store nothing", len(w.quota.owners))
	}
}
