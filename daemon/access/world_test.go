package access

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store/sqlite"
	"github.com/enmanuel/unibus/lib/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that is to happen.
const patience = 10 * time.Second

// world is a message server whose access follows a real directory, with a
// clock that stands still until it is moved.
type world struct {
	*testing.T
	ctx    context.Context
	bus    bus.BusID
	dir    *directory.Directory
	view   *directory.View
	broker *broker.Broker
	access *Access
	js     jetstream.JetStream // as the daemon has it

	mu       sync.Mutex
	clock    time.Time
	notReady error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, func(*Config) {})
}

// newWorldWith lets a test change what access stands on.
func newWorldWith(t *testing.T, change func(*Config)) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	_, err := rand.Read(w.bus[:])
	w.must(err)
	s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "unibus.db"), sqlite.Options{})
	w.must(err)
	t.Cleanup(func() { w.check(s.Close()) })
	w.dir = directory.New(s, w.bus, w.now)
	w.view, err = w.dir.Follow(ctx)
	w.must(err)
	t.Cleanup(w.view.Close)

	log := slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	w.broker, err = broker.Start(ctx, broker.Config{Name: "n1", StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Logger: log})
	w.must(err)
	t.Cleanup(func() { w.check(w.broker.Shutdown(context.WithoutCancel(ctx))) })
	cfg := Config{
		View: w.view, Broker: w.broker, Ready: w.ready, Now: w.now,
		CheckInterval: 20 * time.Millisecond, Logger: log,
	}
	change(&cfg)
	w.access, err = New(cfg)
	w.must(err)
	t.Cleanup(w.access.Close)
	w.must(w.broker.Open(w.access))
	own, err := w.broker.Conn(broker.AccountStore)
	w.must(err)
	w.js, err = jetstream.New(own)
	w.must(err)
	return w
}

// testLog shows the log only where the test fails.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil { // a test must not log after its end
		l.t.Logf("%s", bytes.TrimSpace(p))
	}
	return len(p), nil
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Error(err)
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

func (w *world) ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.notReady
}

func (w *world) setReady(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notReady = err
}

// eventually waits until f holds.
func (w *world) eventually(what string, f func() bool) {
	w.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// person is an identity with a card.
type person struct {
	*identity.Identity
	card *identity.Card
}

// stranger is nobody to the bus.
func (w *world) stranger() person {
	w.Helper()
	id, err := identity.Generate(rand.Reader)
	w.must(err)
	card, err := identity.NewCard(id, w.bus, w.now(), w.now().Add(bus.MaxCardLife))
	w.must(err)
	return person{id, card}
}

// member is an active user with a card.
func (w *world) member(handle bus.Handle) person {
	w.Helper()
	p := w.stranger()
	_, err := w.dir.AddUser(w.ctx, p.SignPub(), handle, bus.UserMember)
	w.must(err)
	w.putCard(p.card)
	return p
}

func (w *world) putCard(c *identity.Card) {
	w.Helper()
	w.must(w.dir.PutCard(w.ctx, c))
	w.must(w.view.CatchUp(w.ctx))
}

// cardFor makes a card of p's by hand, with another transport key and number.
func (w *world) cardFor(p person, transport bus.TransportPub, seq uint64) *identity.Card {
	w.Helper()
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddUint8(bus.TypeCard)
	b.AddBytes(p.card.SignPub[:])
	b.AddBytes(w.bus[:])
	b.AddBytes(transport[:])
	b.AddUint16(p.card.KEM)
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(p.card.KEMPub) })
	b.AddUint64(seq)
	wire.AddTime(&b, w.now())
	wire.AddTime(&b, w.now().Add(bus.MaxCardLife))
	raw, err := b.Bytes()
	w.must(err)
	card, err := identity.ParseCard(append(raw, p.Sign(wire.LabelCard, raw)...))
	w.must(err)
	return card
}

func (w *world) revoke(p person) {
	w.Helper()
	_, err := w.dir.RevokeUser(w.ctx, p.SignPub())
	w.must(err)
}

// chat is a room with its author and its latest record.
type chat struct {
	w     *world
	owner person
	flags bus.RoomFlags
	head  *room.Signed
}

func (c *chat) id() bus.RoomID { return c.head.Record.Room }

func (c *chat) persisted() bool { return c.flags.Has(bus.FlagPersist) }

// on returns the subject of a sender.
func (c *chat) on(p person) string { return bus.DataSubject(c.id(), p.ID(), c.persisted()) }

func (c *chat) all() string { return bus.RoomSubject(c.id(), c.persisted()) }

type role struct {
	person
	role bus.Role
}

func reading(p person) role { return role{p, bus.RoleReader} }
func writing(p person) role { return role{p, bus.RoleWriter} }

func (c *chat) draft(others []role) room.Draft {
	d := room.Draft{Name: "a.b", Policy: bus.Policy{Suite: bus.SuiteXAESGCM, Flags: c.flags}}
	for _, r := range append([]role{{c.owner, bus.RoleOwner}}, others...) {
		d.Members = append(d.Members, room.MemberSpec{Card: r.card, Role: r.role})
	}
	return d
}

// persistedRoom and liveRoom make a room and wait until the view has it.
func (w *world) persistedRoom(owner person, others ...role) *chat {
	w.Helper()
	return w.newRoom(bus.FlagEncrypt|bus.FlagPersist, owner, others)
}

func (w *world) liveRoom(owner person, others ...role) *chat {
	w.Helper()
	return w.newRoom(bus.FlagEncrypt, owner, others)
}

func (w *world) newRoom(flags bus.RoomFlags, owner person, others []role) *chat {
	w.Helper()
	c := &chat{w: w, owner: owner, flags: flags}
	var err error
	c.head, err = room.Create(owner.Identity, c.draft(others), w.now(), rand.Reader)
	w.must(err)
	w.must(w.dir.CreateRoom(w.ctx, owner.ID(), c.head.Record, c.head.Sealed))
	w.must(w.view.CatchUp(w.ctx))
	return c
}

// set makes the next record, with these members.
func (c *chat) set(others ...role) {
	c.w.Helper()
	next, err := room.Next(c.owner.Identity, c.head.Record, c.head.Key, c.draft(others), c.w.now(), rand.Reader)
	c.w.must(err)
	c.w.must(c.w.dir.AppendRecord(c.w.ctx, next.Record, next.Sealed))
	c.w.must(c.w.view.CatchUp(c.w.ctx))
	c.head = next
}

func newSession() bus.SessionID {
	var s bus.SessionID
	rand.Read(s[:])
	return s
}

// peer is a stock client's connection.
type peer struct {
	*nats.Conn
	w       *world
	person  person
	session bus.SessionID
	errs    chan error
	closed  chan struct{}
}

// dial connects with what p has; options come last and may spoil that.
func (w *world) dial(p person, session bus.SessionID, options ...nats.Option) (*peer, error) {
	transport := p.Transport(w.bus)
	c := &peer{w: w, person: p, session: session, errs: make(chan error, 100), closed: make(chan struct{})}
	var err error
	c.Conn, err = nats.Connect(w.broker.ClientURL(), append([]nats.Option{
		nats.Nkey(transport.NKey(), transport.SignNonce),
		nats.Name(session.String()),
		nats.CustomInboxPrefix(bus.InboxPrefix(transport.NKey())),
		nats.NoReconnect(),
		nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.errs <- err }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	}, options...)...)
	return c, err
}

func (w *world) connect(p person) *peer {
	w.Helper()
	c, err := w.dial(p, newSession())
	w.must(err)
	w.Cleanup(c.Close)
	return c
}

// roundTrip returns when the server has dealt with everything sent so far.
func (c *peer) roundTrip() {
	c.w.Helper()
	c.w.must(c.FlushTimeout(patience))
}

// wantDenied checks that the server refused the last operation, saying what.
func (c *peer) wantDenied(what string) {
	c.w.Helper()
	c.roundTrip()
	select {
	case err := <-c.errs:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), what) {
			c.w.Errorf("denied with %v, want a permissions violation about %q", err, what)
		}
	case <-time.After(patience):
		c.w.Errorf("nothing was denied about %q", what)
	}
}

// wantNoErrors checks that the server refused nothing so far.
func (c *peer) wantNoErrors() {
	c.w.Helper()
	c.roundTrip()
	select {
	case err := <-c.errs:
		c.w.Errorf("denied with %v", err)
	default:
	}
}

func (c *peer) wantCut() {
	c.w.Helper()
	select {
	case <-c.closed:
	case <-time.After(patience):
		c.w.Error("the connection lives on")
	}
}

func (c *peer) wantAlive() {
	c.w.Helper()
	if err := c.FlushTimeout(patience); err != nil {
		c.w.Errorf("the connection is gone: %v", err)
	}
}

func (c *peer) subscribe(subject string) *nats.Subscription {
	c.w.Helper()
	sub, err := c.SubscribeSync(subject)
	c.w.must(err)
	c.wantNoErrors()
	return sub
}

// streams returns JetStream as a member has it.
func (c *peer) streams() jetstream.JetStream {
	c.w.Helper()
	js, err := jetstream.NewWithAPIPrefix(c.Conn, bus.APIPrefix)
	c.w.must(err)
	return js
}

// store publishes to a persisted room and returns the stream sequence.
func (c *peer) store(to *chat, text string) uint64 {
	c.w.Helper()
	ack, err := c.streams().Publish(c.w.ctx, to.on(c.person), []byte(text))
	c.w.must(err)
	return ack.Sequence
}

// fetch waits for n messages of a consumer and reads what else it has by then.
func (c *peer) fetch(stream, name string, n int) ([]jetstream.Msg, error) {
	cons, err := c.streams().Consumer(c.w.ctx, stream, name)
	if err != nil {
		return nil, err
	}
	var all []jetstream.Msg
	collect := func(batch jetstream.MessageBatch, err error) error {
		if err != nil {
			return err
		}
		for msg := range batch.Messages() {
			all = append(all, msg)
		}
		return batch.Error()
	}
	if n > 0 {
		err = collect(cons.Fetch(n, jetstream.FetchMaxWait(patience)))
	}
	if err == nil {
		err = collect(cons.FetchNoWait(100))
	}
	return all, err
}

func texts(msgs []jetstream.Msg) string {
	var all []string
	for _, m := range msgs {
		all = append(all, string(m.Data()))
	}
	return strings.Join(all, " ")
}

// allStreams describes every stream: what it is and every message in it.
func (w *world) allStreams() string {
	w.Helper()
	var all strings.Builder
	streams := w.js.ListStreams(w.ctx)
	for info := range streams.Info() {
		fmt.Fprintf(&all, "%s %+v messages %d first %d last %d deleted %d\n", info.Config.Name, info.Config,
			info.State.Msgs, info.State.FirstSeq, info.State.LastSeq, info.State.NumDeleted)
		stream, err := w.js.Stream(w.ctx, info.Config.Name)
		w.must(err)
		for seq := info.State.FirstSeq; seq <= info.State.LastSeq && seq > 0; seq++ {
			msg, err := stream.GetMsg(w.ctx, seq)
			w.must(err)
			fmt.Fprintf(&all, "  %d %s %q\n", seq, msg.Subject, msg.Data)
		}
	}
	w.must(streams.Err())
	return all.String()
}
