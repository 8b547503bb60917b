package access

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// listen subscribes so that what arrived can be read after the connection's end.
func (c *peer) listen(subject string) <-chan *nats.Msg {
	c.w.Helper()
	arrived := make(chan *nats.Msg, 100)
	_, err := c.ChanSubscribe(subject, arrived)
	c.w.must(err)
	c.wantNoErrors()
	return arrived
}

func (c *peer) notices() <-chan *nats.Msg {
	c.w.Helper()
	return c.listen(bus.NoticeSubject(c.person.ID()))
}

func wantNotice(t *testing.T, notices <-chan *nats.Msg, kind api.NoticeKind, room *bus.RoomID, epoch bus.Epoch) {
	t.Helper()
	var msg *nats.Msg
	select {
	case msg = <-notices:
	case <-time.After(patience):
		t.Fatalf("no notice of kind %s", kind)
	}
	var n api.Notice
	if err := json.Unmarshal(msg.Data, &n); err != nil {
		t.Fatal(err)
	}
	if n.V != 1 || n.Kind != kind || (n.Room == nil) != (room == nil) || room != nil && *n.Room != *room || n.Epoch != epoch {
		t.Errorf("notice %s, want kind %s, room %v, epoch %d", msg.Data, kind, room, epoch)
	}
}

func TestRevokingCutsTheConnectionAndDeniesTheNext(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	first, second, other := w.connect(alice), w.connect(alice), w.connect(bob)
	w.revoke(alice)
	first.wantCut()
	second.wantCut()
	w.denied(alice)
	other.wantAlive()
}

func TestSettleWaitsUntilConnectionsFollowTheView(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		p := w.member(bus.Handle("user" + strconv.Itoa(i)))
		w.connect(p)
		_, err := w.dir.RevokeUser(w.ctx, p.SignPub())
		w.must(err)
		w.must(w.view.CatchUp(w.ctx))
		w.must(w.access.Settle(w.ctx))
		w.access.mu.Lock()
		left := len(w.access.conns[p.ID()])
		w.access.mu.Unlock()
		if left > 0 {
			t.Fatalf("settled with %d connections of a revoked user", left)
		}
	}
}

func TestSettleEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.access.Close() // nobody handles changes any more
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if err := w.access.Settle(ctx); !errors.Is(err, bus.ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

func TestRemovingCutsTheMemberAndNobodyElse(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.member("alice"), w.member("bob"), w.member("carol")
	r := w.persistedRoom(bob, writing(alice), writing(carol))
	live := w.liveRoom(bob, writing(alice))
	a, b, c := w.connect(alice), w.connect(bob), w.connect(carol)
	a.tail(0, false, r)
	notices := a.notices()
	r.set(writing(carol))
	a.wantCut()
	room := r.id()
	wantNotice(t, notices, api.NoticeRemoved, &room, 1)
	b.wantAlive()
	c.wantAlive()
	c.store(r, "still here")

	again := w.connect(alice)
	w.must(again.Publish(r.on(alice), []byte("x")))
	again.wantDenied(r.on(alice))
	w.must(again.Publish(live.on(alice), []byte("x")))
	again.wantNoErrors()
}

func TestRemovingFromALiveRoomEndsItsSubscriptions(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.liveRoom(bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	arrived := a.listen(r.all())
	w.must(b.Publish(r.on(bob), []byte("before")))
	b.roundTrip()
	r.set()
	a.wantCut()
	w.must(b.Publish(r.on(bob), []byte("secret")))
	b.roundTrip()
	if msg := <-arrived; string(msg.Data) != "before" || len(arrived) != 0 {
		t.Errorf("%q arrived, and %d messages after it", msg.Data, len(arrived))
	}
	again := w.connect(alice)
	_, err := again.SubscribeSync(r.all())
	w.must(err)
	again.wantDenied(r.all())
}

// Whoever invites somebody to a room and removes them again must not be able to
// end their connections that way.
func TestRemovingFromARoomThatIsNotReadCutsNobody(t *testing.T) {
	w := newWorld(t)
	alice, mallory := w.member("alice"), w.member("mallory")
	mine := w.persistedRoom(alice)
	a := w.connect(alice)
	a.tail(0, false, mine)
	notices := a.notices()
	var trap *chat
	for _, make := range []func(person, ...role) *chat{w.persistedRoom, w.liveRoom} {
		trap = make(mallory, writing(alice))
		room := trap.id()
		wantNotice(t, notices, api.NoticeRoom, &room, 0)
		trap.set()
		wantNotice(t, notices, api.NoticeRemoved, &room, 1)
		w.must(a.Publish(trap.on(alice), []byte("x")))
		a.wantDenied(trap.on(alice))
	}
	_, err := a.SubscribeSync(trap.all())
	w.must(err)
	a.wantDenied(trap.all())
	a.wantAlive()
	a.store(mine, "still here")
}

func TestDemotingEndsWritingOnTheOpenConnection(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, writing(alice))
	a := w.connect(alice)
	a.store(r, "x")
	r.set(reading(alice))
	w.must(w.view.CatchUp(w.ctx))
	w.must(w.access.Settle(w.ctx))
	w.must(a.Publish(r.on(alice), []byte("x")))
	a.wantDenied(r.on(alice))
	a.wantAlive()
}

func TestInvitingWidensTheOpenConnection(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	live, stored := w.liveRoom(bob), w.persistedRoom(bob)
	a, b := w.connect(alice), w.connect(bob)
	notices := a.notices()
	w.must(a.Publish(live.on(alice), []byte("too early")))
	a.wantDenied(live.on(alice))

	live.set(writing(alice))
	room := live.id()
	wantNotice(t, notices, api.NoticeRoom, &room, 1)
	got, said := a.subscribe(live.all()), b.subscribe(live.all())
	w.must(a.Publish(live.on(alice), []byte("hello")))
	a.wantNoErrors()
	if msg, err := said.NextMsg(patience); err != nil || string(msg.Data) != "hello" {
		t.Errorf("bob received %+v, %v", msg, err)
	}
	w.must(b.Publish(live.on(bob), []byte("welcome")))
	for _, want := range []string{"hello", "welcome"} {
		if msg, err := got.NextMsg(patience); err != nil || string(msg.Data) != want {
			t.Errorf("alice received %+v, %v, want %s", msg, err, want)
		}
	}

	stored.set(writing(alice))
	room = stored.id()
	wantNotice(t, notices, api.NoticeRoom, &room, 1)
	if seq := a.store(stored, "hello"); seq != 1 {
		t.Errorf("stored as %d", seq)
	}
	a.wantAlive()
}

func TestPromotingWidensTheOpenConnection(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, reading(alice))
	a := w.connect(alice)
	notices := a.notices()
	r.set(writing(alice))
	room := r.id()
	wantNotice(t, notices, api.NoticeRoom, &room, 1)
	a.store(r, "x")
}

func TestARoomThatTurnsLiveCutsItsReaders(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, writing(alice))
	a := w.connect(alice)
	a.tail(0, false, r)
	r.flags = bus.FlagEncrypt
	r.set(writing(alice))
	a.wantCut()
	again := w.connect(alice)
	w.must(again.Publish(r.on(alice), []byte("x")))
	again.wantNoErrors()
}

func TestRenewingTellsEveryMemberAndCutsNobody(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	r := w.persistedRoom(bob, reading(alice))
	a, b := w.connect(alice), w.connect(bob)
	toAlice, toBob := a.notices(), b.notices()
	r.set(reading(alice))
	room := r.id()
	wantNotice(t, toAlice, api.NoticeRoom, &room, 1)
	wantNotice(t, toBob, api.NoticeRoom, &room, 1)
	a.wantAlive()
	b.wantAlive()
}

func TestRevokingTellsThoseWhoCanRemoveTheMember(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.member("alice"), w.member("bob"), w.member("carol")
	r := w.persistedRoom(bob, reading(alice), reading(carol))
	a, b := w.connect(alice), w.connect(bob)
	toAlice, toBob := a.notices(), b.notices()
	_, err := w.dir.PutRevocation(w.ctx, carol.Revocation())
	w.must(err)
	room := r.id()
	wantNotice(t, toBob, api.NoticeRevoked, &room, 0)
	w.putCard(w.cardFor(alice, alice.Transport(w.bus).TransportPub(), 2))
	wantNotice(t, toAlice, api.NoticeCard, nil, 0) // and nothing before it
}

func TestANewCardOfTheSameKeyIsToldAndCutsNobody(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	c := w.connect(p)
	notices := c.notices()
	w.putCard(w.cardFor(p, p.Transport(w.bus).TransportPub(), 2))
	wantNotice(t, notices, api.NoticeCard, nil, 0)
	c.wantAlive()
}

func TestANewCardOfAnotherKeyCutsTheConnection(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	c := w.connect(p)
	w.putCard(w.cardFor(p, w.stranger().Transport(w.bus).TransportPub(), 2))
	c.wantCut()
	w.denied(p)
}

func TestACardThatExpiresCutsTheConnection(t *testing.T) {
	w := newWorld(t)
	c := w.connect(w.member("alice"))
	w.pass(bus.MaxCardLife + bus.ClockSkew + time.Second)
	c.wantCut()
}

func TestConnectionsThatEndedAreForgotten(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	w.connect(p).Close()
	w.connect(p).Close()
	w.eventually("connections are forgotten", func() bool {
		w.access.mu.Lock()
		defer w.access.mu.Unlock()
		return len(w.access.conns) == 0
	})
}

func TestCloseDeniesNewConnections(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	c := w.connect(p)
	w.access.Close()
	c.wantAlive()
	w.denied(p)
}
