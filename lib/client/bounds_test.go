package client

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// Whoever sends hints, one look at a time comes of them, and one after the last.
func TestHintsLeadToOneLookAtATime(t *testing.T) {
	p := newPair(t)
	id := p.theirs.id
	data, err := json.Marshal(api.Notice{V: 1, Kind: api.NoticeRoom, Room: &id, Epoch: 99})
	if err != nil {
		t.Fatal(err)
	}
	m := p.theirs.model
	if err := m.syncing.enter(t.Context()); err != nil { // so that no look gets on
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	const flood = 10_000
	for range flood {
		p.bob.hearNotice(&nats.Msg{Data: data})
	}
	// Others come and go; a goroutine for each notice would show.
	if n := runtime.NumGoroutine(); n > before+100 {
		t.Errorf("%d goroutines more", n-before)
	}
	if n := p.theirs.hints.Load(); n != flood {
		t.Errorf("%d hints wait", n)
	}
	m.syncing.leave()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for p.theirs.hints.Load() > 0 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("hints are left")
		}
	}
	// None is lost: a later one is looked into again.
	if err := p.room.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p.theirs.Epoch() != 2 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the new record was not looked for")
		}
	}
}

// A room of which no record was accepted is not kept.
func TestRoomsThatCannotBeReadAreNotKept(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for range 20 {
		var id bus.RoomID
		if _, err := rand.Read(id[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := p.bob.AcceptRoom(t.Context(), id); err == nil {
			t.Error("accepted")
		}
	}
	p.bob.mu.Lock()
	defer p.bob.mu.Unlock()
	if n := len(p.bob.rooms); n != 1 || p.bob.rooms[p.theirs.id] != p.theirs {
		t.Errorf("%d rooms", n)
	}
}

// slowEvents hands events to a callback that is held until release.
func slowEvents() (e *events, told *[]Event, release func()) {
	hold := make(chan struct{})
	told = &[]Event{}
	e = newEvents(slog.New(slog.DiscardHandler), time.Now, func(ev Event) {
		<-hold
		*told = append(*told, ev)
	}, func(error) {})
	return e, told, func() { close(hold); e.close() }
}

func TestEventsThatSayTheSameAreToldOnce(t *testing.T) {
	e, told, release := slowEvents()
	a, b := bus.RoomID{1}, bus.RoomID{2}
	// What is being told does not wait any more.
	e.raise(EventConnected, bus.RoomID{}, nil, "n0")
	for range 3 {
		e.raise(EventInvited, a, nil, "")
		e.raise(EventInvited, b, nil, "")
		e.raise(EventSecurity, bus.RoomID{}, errors.New("x"), "")
	}
	for range 2 { // one after the other is news each time
		e.raise(EventDisconnected, bus.RoomID{}, nil, "")
		e.raise(EventConnected, bus.RoomID{}, nil, "n1")
	}
	e.raise(EventEpoch, a, nil, "epoch 1")
	e.raise(EventInvited, a, nil, "")
	release()
	var got []EventKind
	for _, ev := range *told {
		got = append(got, ev.Kind)
	}
	want := []EventKind{EventConnected, EventInvited, EventInvited, EventSecurity, EventDisconnected, EventConnected, EventDisconnected, EventConnected, EventEpoch, EventInvited}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A flood of one kind takes the place of none of another, and is not silent.
func TestEventsThatWaitAreBounded(t *testing.T) {
	e, told, release := slowEvents()
	e.raise(EventSecurity, bus.RoomID{}, errors.New("first"), "")
	const flood = 5 * maxWaiting
	for i := range flood {
		e.raise(EventInvited, bus.RoomID{1, byte(i >> 8), byte(i)}, nil, fmt.Sprint(i))
	}
	e.raise(EventSecurity, bus.RoomID{}, errors.New("last"), "")
	e.mu.Lock()
	waiting := len(e.queue)
	e.mu.Unlock()
	if waiting > maxWaiting+2 {
		t.Errorf("%d events wait", waiting)
	}
	release()
	var security, invited, lost int
	var newest string
	for _, ev := range *told {
		switch ev.Kind {
		case EventSecurity:
			security++
		case EventInvited:
			invited, newest = invited+1, ev.Detail
		case EventLost:
			lost++
		}
	}
	if security != 2 || invited < maxWaiting || invited > maxWaiting+1 || lost == 0 || newest != fmt.Sprint(flood-1) {
		t.Errorf("%d security, %d invited up to %s, %d lost", security, invited, newest, lost)
	}
}

// The poll finds what another process has pinned, whatever the servers say.
func TestPollNoticesAPinThatMovedElsewhere(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	r := p.theirs
	head, _, _ := r.model.current()
	if r.astray(head) {
		t.Error("astray at once")
	}
	ahead := head.Epoch + 1
	if err := p.bob.pins.Move(t.Context(), r.id, room.Pin{Epoch: ahead, Hash: bus.RecordHash{1}}, func(room.Pin) error { return nil }); err != nil {
		t.Fatal(err)
	}
	p.bob.checkRooms()
	if e := p.event(t, EventSecurity); !errors.Is(e.Err, bus.ErrRollback) || e.Room != r.id {
		t.Errorf("%+v", e)
	}
	if _, err := r.Publish(t.Context(), []byte("x")); !errors.Is(err, bus.ErrRollback) {
		t.Errorf("publish: %v", err)
	}
}

// A few proofs of the forks of a room are kept, each once.
func TestForkProofsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	head, key, _ := p.room.model.current()
	before := p.room.model.at(head.Epoch - 1)
	beforeKey, ok := p.room.model.chain.Key(before.Epoch)
	if !ok {
		t.Fatal("no key")
	}
	name, err := head.OpenName(key)
	if err != nil {
		t.Fatal(err)
	}
	d := room.Draft{Policy: head.Policy, Name: name, Members: []room.MemberSpec{{Card: p.alice.card(), Role: bus.RoleOwner}}}
	for range maxForkProofs + 2 {
		other, err := room.Next(p.alice.identity(), before, beforeKey, d, time.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			p.theirs.keepFork(&room.Fork{Before: before, Known: head, Other: other.Record})
		}
	}
	kept, err := filepath.Glob(p.bob.state.path("proofs", "fork-*"))
	if err != nil || len(kept) != maxForkProofs {
		t.Errorf("%d proofs, %v", len(kept), err)
	}
}
