package client

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/identity"
)

// pair is a node with two members of one room, of whom the tests use what no
// honest program has.
type pair struct {
	alice, bob *Client
	room       *Room // alice's
	theirs     *Room // bob's
	events     chan Event
}

func newPair(t *testing.T) *pair {
	t.Helper()
	ctx := t.Context()
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]*identity.Identity, 2)
	for i := range ids {
		if ids[i], err = identity.Generate(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	n, err := node.Start(ctx, node.Config{
		BusID: root.BusID(), DataDir: t.TempDir(), Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "alice", SignPub: ids[0].SignPub()}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p := &pair{events: make(chan Event, 100)}
	dial := func(id *identity.Identity) *Client {
		c, err := Dial(ctx, Config{
			Servers: []string{n.ServerURL()}, URLs: []string{n.URL()}, BusID: root.BusID(), Identity: id,
			OnEvent: func(e Event) { p.events <- e },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	p.alice = dial(ids[0])
	if _, err := p.alice.AddUser(ctx, ids[1].SignPub(), "bob", bus.UserMember); err != nil {
		t.Fatal(err)
	}
	p.bob = dial(ids[1])
	if p.room, err = p.alice.CreateRoom(ctx, "team", RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.room.Invite(ctx, "bob", bus.RoleWriter); err != nil {
		t.Fatal(err)
	}
	if p.theirs, err = p.bob.AcceptRoom(ctx, p.room.ID()); err != nil {
		t.Fatal(err)
	}
	return p
}

// event waits for an event of a kind.
func (p *pair) event(t *testing.T, kind EventKind) Event {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case e := <-p.events:
			if e.Kind == kind {
				return e
			}
		case <-limit:
			t.Fatalf("no event %s", kind)
		}
	}
}

// seal makes a frame of alice's by hand and stores it.
func (p *pair) seal(t *testing.T, session bus.SessionID, seq bus.Seq, body string) {
	t.Helper()
	head, key, _ := p.room.model.current()
	s, err := frame.NewSealer(p.alice.identity(), head, key, session, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, hash, err := s.Seal(nil, seq, time.Now(), []frame.Record{{Body: []byte(body)}})
	if err != nil {
		t.Fatal(err)
	}
	p.store(t, data, frame.MsgID(hash))
}

func (p *pair) store(t *testing.T, data []byte, id string) {
	t.Helper()
	reply, err := p.alice.nc.RequestMsgWithContext(p.context(t), &nats.Msg{
		Subject: bus.DataSubject(p.room.id, p.alice.id, true), Data: data, Header: nats.Header{nats.MsgIdHdr: []string{id}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := parseAck(reply, bus.Shard(p.room.id)); a.verdict != ackStored {
		t.Fatalf("not stored: %v", a.err)
	}
}

// Headers of the transport are their sender's, who may write what a server writes
// to tell of a consumer. It is a frame that is none, and the next one comes.
func TestStatusWrittenByAMemberStopsNobody(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, status := range []string{"503", "409", "404", "100"} {
		reply, err := p.alice.nc.RequestMsgWithContext(p.context(t), &nats.Msg{
			Subject: bus.DataSubject(p.room.id, p.alice.id, true), Header: nats.Header{"Status": []string{status}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if a := parseAck(reply, bus.Shard(p.room.id)); a.verdict != ackStored {
			t.Fatalf("not stored: %v", a.err)
		}
	}
	p.seal(t, bus.SessionID{1}, 0, "hello")
	failures := 0
	for m, err := range p.theirs.Messages(p.context(t), Stored) {
		switch {
		case errors.Is(err, bus.ErrMalformed):
			failures++
		case err != nil:
			t.Error(err)
		case string(m.Body) != "hello":
			t.Errorf("read %q", m.Body)
		}
	}
	if failures != 4 {
		t.Errorf("%d malformed frames, want 4", failures)
	}
}

// context bounds one step of a test.
func (p *pair) context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Two frames of one seq are told of, and the proof of it is kept.
func TestEquivocationIsProved(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	session := bus.SessionID{1}
	p.seal(t, session, 0, "yes")
	p.seal(t, session, 0, "no")
	var bodies []string
	var failures []error
	for m, err := range p.theirs.Messages(t.Context(), Stored) {
		if err != nil {
			failures = append(failures, err)
			continue
		}
		bodies = append(bodies, string(m.Body))
	}
	if len(bodies) != 1 || bodies[0] != "yes" {
		t.Errorf("read %q", bodies)
	}
	var failed *FrameError
	if len(failures) != 1 || !errors.Is(failures[0], bus.ErrEquivocation) || !errors.As(failures[0], &failed) || failed.Sender != p.alice.id {
		t.Fatalf("failures %v", failures)
	}
	proofs, err := filepath.Glob(p.bob.state.path("proofs", "equivocation-*"))
	if err != nil || len(proofs) != 1 {
		t.Errorf("proofs %v, %v", proofs, err)
	}
}

// What the store holds twice, under another id, is read once.
func TestStoredTwiceIsReadOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	head, key, _ := p.room.model.current()
	s, err := frame.NewSealer(p.alice.identity(), head, key, bus.SessionID{1}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, hash, err := s.Seal(nil, 0, time.Now(), []frame.Record{{Body: []byte("once")}})
	if err != nil {
		t.Fatal(err)
	}
	p.store(t, data, frame.MsgID(hash))
	p.store(t, data, "another")
	n := 0
	for _, err := range p.theirs.Messages(t.Context(), Stored) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("read %d times", n)
	}
}

// An epoch that nobody has heard of is looked for, and then refused; members
// who send under ones that exist are not held up by it.
func TestInventedEpochIsRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	in := make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seq := p.theirs.Messages(ctx, Now)
	go func() {
		for _, err := range seq {
			in <- err
		}
		close(in)
	}()
	head, key, _ := p.room.model.current()
	s, err := frame.NewSealer(p.alice.identity(), head, key, bus.SessionID{1}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := s.Seal(nil, 0, time.Now(), []frame.Record{{Body: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	data[6+32+7] = 99 // the epoch
	p.store(t, data, "invented")
	if _, err := p.room.Publish(t.Context(), []byte("real")); err != nil {
		t.Fatal(err)
	}
	var refused, read bool
	for !refused || !read {
		select {
		case err := <-in:
			switch {
			case err == nil:
				read = true
			case errors.Is(err, bus.ErrEpochUnknown):
				refused = true
			default:
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("refused %t, read %t", refused, read)
		}
	}
	cancel()
	for range in {
	}
}

// What a server denies is told, whoever asked.
func TestDenialsAreTold(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	if err := p.bob.nc.Publish(bus.DataSubject(p.room.id, p.alice.id, true), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if e := p.event(t, EventDenied); !errors.Is(e.Err, bus.ErrForbidden) {
		t.Errorf("%+v", e)
	}
	if _, err := p.bob.nc.Subscribe(bus.RoomSubject(p.room.id, true), func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if e := p.event(t, EventDenied); !errors.Is(e.Err, bus.ErrForbidden) {
		t.Errorf("%+v", e)
	}
	// A room that the records say bob may write to, and the server does not.
	other, err := p.alice.CreateRoom(t.Context(), "others", RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.alice.mu.Lock()
	p.bob.mu.Lock()
	ghost := &Room{client: p.bob, id: other.id, model: p.theirs.model}
	ghost.pub = newPublisher(ghost)
	ghost.live = newLiveHub(ghost)
	ghost.replies = newReplyHub(ghost)
	p.bob.rooms[other.id] = ghost
	p.bob.mu.Unlock()
	p.alice.mu.Unlock()
	if _, err := ghost.Publish(t.Context(), []byte("x")); !errors.Is(err, bus.ErrForbidden) {
		t.Errorf("publish: %v", err)
	}
	if _, err := p.bob.follower.add(t.Context(), other.id, 0, true); !errors.Is(err, bus.ErrNotMember) {
		t.Errorf("follow: %v", err)
	}
}

// Past half of its life a record is renewed by whoever has the authority.
func TestRecordsAreRenewedAtHalfLife(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	r, err := p.alice.CreateRoom(t.Context(), "short", RoomOptions{Life: 80 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r.upkeep(t.Context())
	if r.Epoch() != 0 {
		t.Errorf("renewed at once")
	}
	// Within what the clocks of a client and its control plane may differ.
	honest := p.alice.config.Now
	p.alice.config.Now = func() time.Time { return honest().Add(50 * time.Second) }
	r.upkeep(t.Context())
	if r.Epoch() != 1 {
		t.Errorf("epoch %d", r.Epoch())
	}
}

func TestNothingIsSentUnderAnExpiredRecord(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	honest := p.alice.config.Now
	p.alice.config.Now = func() time.Time { return honest().Add(bus.DefaultRecordLife + bus.ClockSkew + time.Hour) }
	if _, err := p.room.Publish(t.Context(), []byte("x")); !errors.Is(err, bus.ErrExpired) {
		t.Errorf("publish: %v", err)
	}
	p.alice.config.Now = honest
}

func TestInvitationIsHeard(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	r, err := p.alice.CreateRoom(t.Context(), "other", RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Invite(t.Context(), "bob", bus.RoleReader); err != nil {
		t.Fatal(err)
	}
	for {
		if e := p.event(t, EventInvited); e.Room == r.id {
			break // there is one of the pair's own room too
		}
	}
}
