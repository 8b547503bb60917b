package access

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// scene is alice, who writes and reads here and there, and bob, whose things
// she is after. stored and live are rooms of both, foreign are bob's alone.
type scene struct {
	*world
	alice, bob                 person
	stored, live, readOnly     *chat
	foreignStored, foreignLive *chat
	aside                      *chat // to store in without touching the others
}

func newScene(t *testing.T) *scene {
	w := newWorld(t)
	s := &scene{world: w, alice: w.member("alice"), bob: w.member("bob")}
	s.stored = w.persistedRoom(s.bob, writing(s.alice))
	s.live = w.liveRoom(s.bob, writing(s.alice))
	s.readOnly = w.persistedRoom(s.bob, reading(s.alice))
	s.foreignStored = w.persistedRoom(s.bob)
	s.foreignLive = w.liveRoom(s.bob)
	s.aside = w.persistedRoom(s.alice)
	return s
}

func inboxOf(w *world, p person) string { return bus.InboxPrefix(p.Transport(w.bus).NKey()) }

func TestAMemberPublishesWhereItMayWrite(t *testing.T) {
	s := newScene(t)
	c := s.connect(s.alice)
	if seq := c.store(s.stored, "hello"); seq != 1 {
		t.Errorf("stored as %d", seq)
	}
	s.must(c.Publish(s.live.on(s.alice), []byte("hello")))
	c.wantNoErrors()
}

func TestAMemberSubscribesToItsLiveRoomsItsInboxAndItsNotices(t *testing.T) {
	s := newScene(t)
	c, other := s.connect(s.alice), s.connect(s.bob)
	live := c.subscribe(s.live.all())
	c.subscribe(inboxOf(s.world, s.alice) + ".>")
	c.subscribe(bus.NoticeSubject(s.alice.ID()))
	s.must(other.Publish(s.live.on(s.bob), []byte("hello")))
	msg, err := live.NextMsg(patience)
	if err != nil || string(msg.Data) != "hello" || msg.Subject != s.live.on(s.bob) {
		t.Errorf("received %+v, %v", msg, err)
	}
}

func TestRefusesToPublish(t *testing.T) {
	s := newScene(t)
	session := newSession()
	c, err := s.dial(s.alice, session)
	s.must(err)
	t.Cleanup(c.Close)
	before := s.allStreams()
	for name, subject := range map[string]string{
		"to another persisted room":               s.foreignStored.on(s.alice),
		"to another live room":                    s.foreignLive.on(s.alice),
		"as another sender":                       s.stored.on(s.bob),
		"as another sender of a live room":        s.live.on(s.bob),
		"to a room that may only be read":         s.readOnly.on(s.alice),
		"to a persisted room as if it were live":  bus.DataSubject(s.stored.id(), s.alice.ID(), false),
		"to a live room as if it were persisted":  bus.DataSubject(s.live.id(), s.alice.ID(), true),
		"to a room under another shard":           strings.Replace(s.stored.on(s.alice), ".d.", ".d.9", 1),
		"below its own subject":                   s.stored.on(s.alice) + ".more",
		"to another inbox":                        inboxOf(s.world, s.bob) + ".x",
		"to its own inbox":                        inboxOf(s.world, s.alice) + ".x",
		"another's notices":                       bus.NoticeSubject(s.bob.ID()),
		"its own notices":                         bus.NoticeSubject(s.alice.ID()),
		"to delete a stream":                      "$JS.API.STREAM.DELETE." + s.stored.stream(),
		"to purge a stream":                       "$JS.API.STREAM.PURGE." + s.stored.stream(),
		"to read a message":                       "$JS.API.STREAM.MSG.GET." + s.stored.stream(),
		"to make a consumer":                      "$JS.API.CONSUMER.CREATE." + s.stored.stream() + ".mine",
		"to make a consumer through the services": "ub.js.CONSUMER.CREATE." + s.stored.stream() + ".mine",
		"to list streams through the services":    "ub.js.STREAM.NAMES",
		"to fetch directly":                       "$JS.API.CONSUMER.MSG.NEXT." + s.stored.stream() + "." + bus.TailConsumer(s.alice.ID(), session),
		"to fetch from another's consumer":        bus.ConsumerNextSubject(s.stored.stream(), bus.TailConsumer(s.bob.ID(), session)),
		"to ask about another's consumer":         bus.ConsumerInfoSubject(s.stored.stream(), bus.TailConsumer(s.bob.ID(), session)),
		"to fetch from another session's":         bus.ConsumerNextSubject(s.stored.stream(), bus.TailConsumer(s.alice.ID(), newSession())),
		"to ask about another session's":          bus.ConsumerInfoSubject(s.stored.stream(), bus.CatchUpConsumer(s.alice.ID(), newSession(), 0)),
		"to fetch from a slot there is not":       bus.ConsumerNextSubject(s.stored.stream(), bus.CatchUpConsumer(s.alice.ID(), session, bus.CatchUpSlots)),
		"an acknowledgement":                      "$JS.ACK." + s.stored.stream() + ".x.1.1.1.1.1",
		"to the system":                           "$SYS.REQ.SERVER.PING",
		"to ask the system about itself":          "$SYS.REQ.USER.INFO",
		"what routes say":                         "$NRG.x",
		"anywhere else":                           "hello",
	} {
		t.Run(name, func(t *testing.T) {
			s.world.T = t
			s.must(c.Publish(subject, []byte("x")))
			c.w.T = t
			c.wantDenied(subject)
		})
	}
	s.world.T = t
	if after := s.allStreams(); after != before {
		t.Errorf("streams before:\n%s\nafter:\n%s", before, after)
	}
}

func (c *chat) stream() string { return bus.Stream(bus.Shard(c.id())) }

func TestRefusesToSubscribe(t *testing.T) {
	s := newScene(t)
	c, other := s.connect(s.alice), s.connect(s.bob)
	var subs []*nats.Subscription
	for name, subject := range map[string]string{
		"to another live room":                s.foreignLive.all(),
		"to all live rooms":                   "ub.l.>",
		"to all live rooms of a shard":        "ub.l.*.*.*",
		"to a persisted room":                 s.stored.all(),
		"to a persisted room it only reads":   s.readOnly.all(),
		"to its own subject in one":           s.stored.on(s.alice),
		"to everything on the way to streams": "ub.d.>",
		"to one shard":                        "ub.d.0.>",
		"to another inbox":                    inboxOf(s.world, s.bob) + ".>",
		"to all inboxes":                      "_INBOX.>",
		"to its inbox and others":             "_INBOX.*.x",
		"another's notices":                   bus.NoticeSubject(s.bob.ID()),
		"all notices":                         "ub.c.*",
		"requests to consumers":               "ub.js.>",
		"jetstream":                           "$JS.>",
		"jetstream's events":                  "$JS.EVENT.ADVISORY.>",
		"the system":                          "$SYS.>",
		"answers of services":                 "_R_.>",
		"everything":                          ">",
		"a wildcard":                          "*.*.*.*.*",
		"everything, in a queue":              "> q",
	} {
		t.Run(name, func(t *testing.T) {
			c.w.T = t
			subject, queue, _ := strings.Cut(subject, " ")
			sub, err := c.QueueSubscribeSync(subject, queue)
			s.must(err)
			subs = append(subs, sub)
			c.wantDenied(subject)
		})
	}
	s.world.T = t
	// And none of them receives anything.
	other.store(s.stored, "x")
	for _, subject := range []string{s.live.on(s.bob), s.foreignLive.on(s.bob)} {
		s.must(other.Publish(subject, []byte("x")))
	}
	s.foreignLive.set()
	other.roundTrip()
	c.roundTrip()
	for _, sub := range subs {
		if n, _, err := sub.Pending(); n > 0 {
			t.Errorf("%s received %d messages, %v", sub.Subject, n, err)
		}
	}
}

// The session of a sender is in every frame it sends, so others can claim it.
func TestClaimingASessionGivesNobodysConsumers(t *testing.T) {
	s := newScene(t)
	s.connect(s.bob).store(s.foreignStored, "secret")
	session := newSession()
	reply, err := s.access.Cursors(s.ctx, s.bob.ID(), api.CursorRequest{
		Session: session,
		Tail:    []api.TailShard{{Shard: bus.Shard(s.foreignStored.id()), From: 1, Rooms: []bus.RoomID{s.foreignStored.id()}}},
	})
	s.must(err)
	bobs := reply.Tail[0]

	thief, err := s.dial(s.alice, session)
	s.must(err)
	t.Cleanup(thief.Close)
	msg := nats.NewMsg(bus.ConsumerNextSubject(bobs.Stream, bobs.Consumer))
	msg.Reply = inboxOf(s.world, s.alice) + ".x"
	got := thief.subscribe(msg.Reply)
	s.must(thief.PublishMsg(msg))
	thief.wantDenied(bobs.Consumer)
	if n, _, _ := got.Pending(); n != 0 {
		t.Errorf("the thief received %d messages", n)
	}
	mine, err := s.access.Cursors(s.ctx, s.alice.ID(), api.CursorRequest{
		Session: session,
		Tail:    []api.TailShard{{Shard: bus.Shard(s.stored.id()), From: 1, Rooms: []bus.RoomID{s.stored.id()}}},
	})
	if err != nil || mine.Tail[0].Consumer == bobs.Consumer {
		t.Errorf("the thief's own consumer is %q, %v", mine.Tail[0].Consumer, err)
	}

	owner, err := s.dial(s.bob, session)
	s.must(err)
	t.Cleanup(owner.Close)
	if all, err := owner.fetch(bobs.Stream, bobs.Consumer, 1); err != nil || texts(all) != "secret" {
		t.Errorf("its owner fetched %q, %v", texts(all), err)
	}
}

// A reply subject is where the server sends the answer, with its own rights.
func TestNothingIsDoneThroughReplySubjects(t *testing.T) {
	s := newScene(t)
	c := s.connect(s.alice)
	c.store(s.stored, `{"v":1,"kind":"removed"}`)
	reply, err := s.access.Cursors(s.ctx, s.alice.ID(), api.CursorRequest{
		Session: c.session,
		Tail:    []api.TailShard{{Shard: bus.Shard(s.stored.id()), From: 1, Rooms: []bus.RoomID{s.stored.id()}}},
	})
	s.must(err)
	tail := reply.Tail[0]
	victim := bus.TailConsumer(s.bob.ID(), c.session)

	for name, to := range map[string]string{
		"delete a stream":                   "$JS.API.STREAM.DELETE." + tail.Stream,
		"delete another stream":             "$JS.API.STREAM.DELETE.X",
		"purge a stream":                    "$JS.API.STREAM.PURGE." + tail.Stream,
		"delete a message":                  "$JS.API.STREAM.MSG.DELETE." + tail.Stream,
		"delete a consumer":                 "$JS.API.CONSUMER.DELETE." + tail.Stream + "." + tail.Consumer,
		"make a stream":                     "$JS.API.STREAM.CREATE.EVIL",
		"acknowledge":                       "$JS.ACK." + tail.Stream + "." + tail.Consumer + ".1.1.1.1.1",
		"store as another sender":           s.stored.on(s.bob),
		"store in another room":             s.foreignStored.on(s.bob),
		"store as itself":                   s.stored.on(s.alice),
		"send to a live room":               s.live.on(s.bob),
		"send to a live room as itself":     s.live.on(s.alice),
		"send to another live room":         s.foreignLive.on(s.bob),
		"another inbox":                     inboxOf(s.world, s.bob) + ".x",
		"an inbox that begins like its own": inboxOf(s.world, s.alice) + "X.x",
		"all inboxes":                       "_INBOX.>",
		"another's notices":                 bus.NoticeSubject(s.bob.ID()),
		"its own notices":                   bus.NoticeSubject(s.alice.ID()),
		"fetch from another's consumer":     bus.ConsumerNextSubject(tail.Stream, victim),
		"ask about another's consumer":      bus.ConsumerInfoSubject(tail.Stream, victim),
		"ask the system":                    "$SYS.REQ.SERVER.PING",
		"ask the system about itself":       "$SYS.REQ.USER.INFO",
		"answer of a service":               "_R_.x.y",
		"routed answer":                     "_GR_.x.y.z",
		"anything":                          "x",
	} {
		t.Run(name, func(t *testing.T) {
			s.world.T = t
			before, spies := s.allStreams(), s.spies(to)
			for _, request := range []nats.Msg{
				{Subject: s.stored.on(s.alice), Data: []byte("stored with a reply subject")},
				{Subject: s.stored.on(s.alice), Data: []byte("stored"), Header: nats.Header{"Nats-Msg-Id": {"once"}}},
				{Subject: s.live.on(s.alice), Data: []byte("said with a reply subject")},
				{Subject: bus.ConsumerInfoSubject(tail.Stream, tail.Consumer)},
				{Subject: bus.ConsumerNextSubject(tail.Stream, tail.Consumer), Data: []byte(`{"batch":1,"no_wait":true}`)},
				{Subject: bus.ConsumerNextSubject(tail.Stream, tail.Consumer), Data: []byte(`{"batch":1,"expires":1000000}`)},
				{Subject: bus.ConsumerNextSubject(tail.Stream, tail.Consumer), Data: []byte(`no JSON`)},
			} {
				request.Reply = to
				s.must(c.PublishMsg(&request))
				c.w.T = t
				c.wantDenied(to)
			}
			if after := s.allStreams(); after != before {
				t.Errorf("streams before:\n%s\nafter:\n%s", before, after)
			}
			spies.wantNothing(c)
		})
	}
	s.world.T = t
	// Only then is the message read, and by its reader.
	if all, err := c.fetch(tail.Stream, tail.Consumer, 1); err != nil || len(all) != 1 {
		t.Errorf("the consumer delivered %q, %v", texts(all), err)
	}
}

// spies listen, past the gate, for whatever arrives on a subject.
type spies struct {
	s    *scene
	to   string
	subs []*nats.Subscription
	own  []*nats.Conn
}

func (s *scene) spies(to string) *spies {
	s.Helper()
	all := &spies{s: s, to: to}
	for _, account := range []broker.Account{broker.AccountBus, broker.AccountStore} {
		nc, err := s.broker.Conn(account)
		s.must(err)
		s.Cleanup(nc.Close)
		subject := to
		if to == "_INBOX.>" { // the daemon and alice have some too
			subject = inboxOf(s.world, s.bob) + ".>"
		}
		sub, err := nc.SubscribeSync(subject)
		s.must(err)
		s.must(nc.FlushTimeout(patience))
		all.subs, all.own = append(all.subs, sub), append(all.own, nc)
	}
	return all
}

// wantNothing checks that nothing arrived, once everything that c sent and the
// streams had to answer is through.
func (p *spies) wantNothing(c *peer) {
	p.s.Helper()
	c.store(p.s.aside, "after") // acknowledged after everything before it
	for i, nc := range p.own {
		p.s.must(nc.FlushTimeout(patience))
		if n, _, err := p.subs[i].Pending(); n > 0 || err != nil {
			msg, _ := p.subs[i].NextMsg(patience)
			p.s.Errorf("on %s arrived %d messages, %v: %s %q", p.to, n, err, msg.Subject, msg.Data)
		}
		nc.Close()
	}
}

// What the tests above show to be closed is there: without the gate, the server
// does send answers wherever a request says. If it stops doing so, the gate has
// become a second lock.
func TestTheServerItselfAnswersAnywhere(t *testing.T) {
	s := newScene(t)
	to := bus.NoticeSubject(s.bob.ID())
	all := s.spies(to)
	nc, err := s.broker.Conn(broker.AccountBus)
	s.must(err)
	s.must(nc.PublishRequest(s.stored.on(s.alice), to, []byte("x")))
	msg, err := all.subs[0].NextMsg(patience)
	if err != nil || !strings.Contains(string(msg.Data), "UNIBUS_ROOMS_") {
		t.Errorf("the spy received %+v, %v", msg, err)
	}
}

// Even past the gate, an answer gets nothing done with the streams: that is
// what the two accounts are for.
func TestAnswersReachNoStreamEvenPastTheGate(t *testing.T) {
	s := newScene(t)
	c := s.connect(s.alice)
	c.store(s.stored, `{"filter":">"}`)
	reply, err := s.access.Cursors(s.ctx, s.alice.ID(), api.CursorRequest{
		Session: c.session,
		Tail:    []api.TailShard{{Shard: bus.Shard(s.stored.id()), From: 1, Rooms: []bus.RoomID{s.stored.id()}}},
	})
	s.must(err)
	tail := reply.Tail[0]
	nc, err := s.broker.Conn(broker.AccountBus)
	s.must(err)
	before := s.allStreams()
	for _, to := range []string{
		"$JS.API.STREAM.DELETE." + tail.Stream,
		"$JS.API.STREAM.PURGE." + tail.Stream,
		"$JS.API.CONSUMER.DELETE." + tail.Stream + "." + tail.Consumer,
		s.stored.on(s.bob),
		s.foreignStored.on(s.bob),
		bus.ConsumerNextSubject(tail.Stream, tail.Consumer),
	} {
		s.must(nc.PublishRequest(bus.ConsumerNextSubject(tail.Stream, tail.Consumer), to, []byte(`{"batch":1,"no_wait":true}`)))
		s.must(nc.PublishRequest(bus.ConsumerInfoSubject(tail.Stream, tail.Consumer), to, nil))
	}
	s.must(nc.FlushTimeout(patience))
	if _, err := nc.Request(bus.ConsumerInfoSubject(tail.Stream, tail.Consumer), nil, patience); err != nil {
		t.Fatal(err)
	}
	if after := s.allStreams(); after != before {
		t.Errorf("streams before:\n%s\nafter:\n%s", before, after)
	}
}

// Deduplication is stream-wide and does not look at the subject: whoever knew
// the id of a message before it is stored could have it dropped. That is why
// nobody may listen to what is on its way.
func TestDeduplicationIgnoresTheSubject(t *testing.T) {
	s := newScene(t)
	alice, bob := s.connect(s.alice), s.connect(s.bob)
	const id = "a hash that nobody could have known"
	first, err := alice.streams().Publish(s.ctx, s.stored.on(s.alice), []byte("garbage"), jetstream.WithMsgID(id))
	s.must(err)
	second, err := bob.streams().Publish(s.ctx, s.stored.on(s.bob), []byte("the real one"), jetstream.WithMsgID(id))
	s.must(err)
	if first.Duplicate || !second.Duplicate || second.Sequence != first.Sequence {
		t.Errorf("first %+v, second %+v", first, second)
	}
}

// The server can report the way of a message to a subject its header names.
func TestTracesGoNowhereElse(t *testing.T) {
	s := newScene(t)
	c := s.connect(s.alice)
	for _, to := range []string{bus.NoticeSubject(s.bob.ID()), inboxOf(s.world, s.bob) + ".x", s.live.on(s.bob), "$JS.API.STREAM.DELETE." + s.stored.stream()} {
		all := s.spies(to)
		s.must(c.PublishMsg(&nats.Msg{Subject: s.live.on(s.alice), Data: []byte("x"), Header: nats.Header{"Nats-Trace-Dest": {to}}}))
		c.roundTrip()
		all.wantNothing(c)
	}
}

func TestEmptyListsAllowNothing(t *testing.T) {
	p := rights{}.permissions()
	if len(p.Publish.Allow) != 0 || len(p.Publish.Deny) != 1 || p.Publish.Deny[0] != ">" ||
		len(p.Subscribe.Allow) != 0 || len(p.Subscribe.Deny) != 1 || p.Subscribe.Deny[0] != ">" {
		t.Errorf("permissions %+v %+v", p.Publish, p.Subscribe)
	}
}

func TestLosingIsToldFromGaining(t *testing.T) {
	none, one, other, both := rights{}, rights{publish: []string{"a"}}, rights{subscribe: []string{"a"}}, rights{publish: []string{"a", "b"}, subscribe: []string{"a"}}
	for _, test := range []struct {
		name       string
		from, to   rights
		loses, eql bool
	}{
		{"nothing to nothing", none, none, false, true},
		{"gains the first", none, one, false, false},
		{"loses the last", one, none, true, false},
		{"gains more", one, both, false, false},
		{"loses some", both, one, true, false},
		{"swaps", one, other, true, false},
		{"stays", both, both, false, true},
	} {
		gone := test.from.without(test.to)
		if loses := len(gone.publish)+len(gone.subscribe)+len(gone.read) > 0; loses != test.loses || test.from.equal(test.to) != test.eql {
			t.Errorf("%s: loses %+v, equal %t", test.name, gone, test.from.equal(test.to))
		}
	}
}
