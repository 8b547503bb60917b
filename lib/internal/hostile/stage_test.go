package hostile_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/wire"
)

// patience bounds whatever a row waits for.
const patience = 20 * time.Second

// theatre is a real node, which the rows share.
type theatre struct {
	root  *identity.Root
	node  *node.Node
	admin *client.Client
}

func logger(t *testing.T) *slog.Logger {
	if os.Getenv("UNIBUS_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	admin := newIdentity(t)
	n, err := node.Start(t.Context(), node.Config{
		BusID: root.BusID(), DataDir: t.TempDir(), Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: admin.SignPub()}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	c, err := client.Dial(t.Context(), client.Config{Servers: []string{n.ServerURL()}, URLs: []string{n.URL()}, BusID: root.BusID(), Identity: admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &theatre{root: root, node: n, admin: c}
}

func newIdentity(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// stage is where one lie is told.
type stage struct {
	*testing.T
	*theatre
	name    string // of rooms made here
	actors  []*actor
	secrets []hostile.Secret

	mu     sync.Mutex
	lies   []string       // what no handler may be given
	late   map[string]int // what no later inbox than so many may be given
	inboxs []*inbox
	told   bool
}

func newStage(t *testing.T, th *theatre) *stage {
	s := &stage{T: t, theatre: th, late: map[string]int{}}
	s.name = s.secret("room name")
	return s
}

// ctx bounds one step.
func (s *stage) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	s.Cleanup(cancel)
	return ctx
}

// must fails the row for a step that is no part of the lie.
func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func randomText() string {
	var b [12]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	return hex.EncodeToString(b[:])
}

// secret returns a text that no server may see.
func (s *stage) secret(what string) string {
	text := "secret-" + randomText()
	s.secrets = append(s.secrets, hostile.Secret{Name: what, Value: []byte(text)})
	return text
}

// lieText returns what no handler may be given.
func (s *stage) lieText() string {
	text := "lie-" + randomText()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lies = append(s.lies, text)
	return text
}

// actor is a client with a hostile server of its own in front of the node.
type actor struct {
	*client.Client
	stage   *stage
	id      *identity.Identity
	control *hostile.Control
	data    *hostile.Data

	mu     sync.Mutex
	up     func(hostile.Sent) []hostile.Sent
	events []client.Event
	change chan struct{}
	told   bool
	frames int // published since the lie
	before int // requests before the lie
}

// actor adds an account and connects.
func (s *stage) actor(handle string, change ...func(*client.Config)) *actor {
	s.Helper()
	return s.dial(s.account(handle), change...)
}

// account adds an account. Its handle is of this stage alone.
func (s *stage) account(handle string) *identity.Identity {
	s.Helper()
	id := newIdentity(s.T)
	_, err := s.admin.AddUser(s.ctx(), id.SignPub(), bus.Handle(handle+"-"+randomText()), bus.UserMember)
	s.must(err)
	return id
}

// backstage returns a client that has not connected, and what it is to be
// configured with.
func (s *stage) backstage(id *identity.Identity) (*actor, client.Config) {
	s.Helper()
	a := &actor{stage: s, id: id, change: make(chan struct{})}
	a.control = hostile.NewControl(s.T, s.node.URL())
	a.data = hostile.NewData(s.T, s.node.ServerURL())
	a.data.Up(a.countSent)
	s.actors = append(s.actors, a)
	s.keepSecret(id)
	return a, client.Config{
		Servers: []string{a.data.URL}, URLs: []string{a.control.URL}, BusID: s.root.BusID(), Identity: id,
		OnEvent: a.hear, Logger: logger(s.T),
	}
}

func (s *stage) dial(id *identity.Identity, change ...func(*client.Config)) *actor {
	s.Helper()
	a, err := s.tryDial(id, change...)
	s.must(err)
	return a
}

func (s *stage) tryDial(id *identity.Identity, change ...func(*client.Config)) (*actor, error) {
	s.Helper()
	a, cfg := s.backstage(id)
	for _, f := range change {
		f(&cfg)
	}
	return a, a.dial(cfg)
}

func (a *actor) dial(cfg client.Config) error {
	c, err := client.Dial(a.stage.ctx(), cfg)
	if err != nil {
		return err
	}
	a.Client = c
	a.stage.Cleanup(func() { a.close() })
	return nil
}

// close ends the client, without regard to what was never acknowledged.
func (a *actor) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.Close(ctx); err != nil {
		a.stage.Logf("close: %v", err)
	}
}

// keepSecret has the keys of an identity looked for.
func (s *stage) keepSecret(id *identity.Identity) {
	s.Helper()
	lines := strings.Split(strings.TrimSpace(string(id.Marshal())), "\n")
	raw, err := base64.RawURLEncoding.DecodeString(lines[len(lines)-1])
	s.must(err)
	const seed = 32
	busID := s.root.BusID()
	s.secrets = append(s.secrets,
		hostile.Secret{Name: "signing key of " + id.ID().String(), Value: raw[:seed]},
		hostile.Secret{Name: "card key of " + id.ID().String(), Value: raw[len(raw)-seed:]},
		hostile.Secret{Name: "transport key of " + id.ID().String(), Value: wire.DeriveKey(raw[:seed], busID[:], wire.LabelTransport, seed)},
	)
}

// tell notes that the lie is told now: what the client sends from here on is
// counted.
func (a *actor) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told {
		return
	}
	a.told, a.frames, a.before = true, 0, len(a.control.Requests())
	a.stage.mu.Lock()
	defer a.stage.mu.Unlock()
	a.stage.told = true
}

// sent returns how many frames and how many requests that change something the
// client has sent since the lie.
func (a *actor) sent() (frames, changes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.told {
		return 0, 0
	}
	for _, x := range a.control.Requests()[a.before:] {
		if x.Method != http.MethodGet && x.URL.Path != api.CursorsPath() {
			changes++
		}
	}
	return a.frames, changes
}

func (a *actor) countSent(m hostile.Sent) []hostile.Sent {
	a.mu.Lock()
	if strings.HasPrefix(m.Subject, "ub.d.") || strings.HasPrefix(m.Subject, "ub.l.") {
		a.frames++
	}
	up := a.up
	a.mu.Unlock()
	if up != nil {
		return up(m)
	}
	return []hostile.Sent{m}
}

// setUp has what the client publishes changed.
func (a *actor) setUp(lie func(hostile.Sent) []hostile.Sent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.up = lie
}

func (a *actor) hear(e client.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
	close(a.change)
	a.change = make(chan struct{})
}

// event waits for the first event of a kind and returns its error.
func (a *actor) event(kind client.EventKind) error { return a.count(kind, 1) }

// count waits for the nth event of a kind and returns its error.
func (a *actor) count(kind client.EventKind, n int) error {
	a.stage.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		var found []error
		a.mu.Lock()
		for _, e := range a.events {
			if e.Kind == kind {
				found = append(found, e.Err)
			}
		}
		change := a.change
		a.mu.Unlock()
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-change:
		case <-limit.C:
			return errors.New("no event " + string(kind))
		}
	}
}

// answers has the answers to requests of a method and path changed, and the lie
// told with the first of them.
func (a *actor) answers(method, path string, lie func(*hostile.Exchange)) {
	a.control.Set(func(x *hostile.Exchange) {
		if x.Method == method && x.URL.Path == path {
			a.tell()
			lie(x)
		}
	})
}

// edit changes the JSON of an answer.
func edit[T any](s *stage, x *hostile.Exchange, change func(*T)) {
	var v T
	if err := json.Unmarshal(x.Answer, &v); err != nil {
		s.Errorf("answer %.200q: %v", x.Answer, err)
		return
	}
	change(&v)
	x.Reply(x.Status, v)
}

// card returns the newest card that the client has shown the servers.
func (a *actor) card() *identity.Card {
	a.stage.Helper()
	for _, x := range slices.Backward(a.control.Requests()) {
		if x.Method == http.MethodPut && x.URL.Path == api.CardPath(a.id.ID()) {
			var c api.Card
			a.stage.must(json.Unmarshal(x.Body, &c))
			card, err := identity.ParseCard(c.Card)
			a.stage.must(err)
			return card
		}
	}
	a.stage.Fatal("no card was shown")
	return nil
}

func newCard(s *stage, id *identity.Identity, busID bus.BusID, life time.Duration) *identity.Card {
	s.Helper()
	from := time.Now().Truncate(time.Second).Add(-time.Hour)
	card, err := identity.NewCard(id, busID, from, from.Add(life))
	s.must(err)
	return card
}

// room makes an encrypted room of a with these writers.
func (s *stage) room(a *actor, persisted bool, members ...*actor) (*client.Room, []*client.Room) {
	s.Helper()
	policy := bus.DefaultPolicy()
	if !persisted {
		policy.Flags &^= bus.FlagPersist
	}
	r, err := a.CreateRoom(s.ctx(), bus.RoomName(s.name), client.RoomOptions{Policy: &policy})
	s.must(err)
	var rooms []*client.Room
	for _, m := range members {
		s.must(r.Invite(s.ctx(), m.ID().String(), bus.RoleWriter))
		theirs, err := m.AcceptRoom(s.ctx(), r.ID())
		s.must(err)
		rooms = append(rooms, theirs)
	}
	return r, rooms
}

// duo is a room of alice, its owner, in which bob writes.
type duo struct {
	*stage
	alice, bob *actor
	hers, his  *client.Room
}

func (s *stage) duo(persisted bool, change ...func(*client.Config)) *duo {
	s.Helper()
	d := &duo{stage: s, alice: s.actor("alice"), bob: s.actor("bob", change...)}
	r, rooms := s.room(d.alice, persisted, d.bob)
	d.hers, d.his = r, rooms[0]
	return d
}

// log returns the records of the room as alice has them.
func (d *duo) log() []*room.Record {
	d.Helper()
	recs, err := d.hers.Log(d.ctx())
	d.must(err)
	return recs
}

// head returns the newest record and its key.
func (d *duo) head() (*room.Record, room.Key) {
	d.Helper()
	recs := d.log()
	rec := recs[len(recs)-1]
	return rec, d.key(rec)
}

// key opens the key of a record that went through the hands of a server here.
func (s *stage) key(rec *room.Record) room.Key {
	s.Helper()
	for _, a := range s.actors {
		if blob := s.sealedFor(rec, a.id.ID()); blob != nil {
			key, err := rec.OpenKey(a.id, blob)
			s.must(err)
			s.keepKey(key)
			return key
		}
	}
	s.Fatalf("no key of epoch %d", rec.Epoch)
	return room.Key{}
}

// sealedFor returns somebody's copy of the key of a record that went through the
// hands of a server here, nil where there is none.
func (s *stage) sealedFor(rec *room.Record, id bus.ID) []byte {
	for _, a := range s.actors {
		for _, x := range a.control.Requests() {
			if x.Method != http.MethodPost || !strings.HasPrefix(x.URL.Path, "/rooms") {
				continue
			}
			var u api.RecordUpload
			if json.Unmarshal(x.Body, &u) != nil || !bytes.Equal(u.Record, rec.Bytes()) {
				continue
			}
			for _, k := range u.Sealed {
				if k.ID == id {
					return k.Blob
				}
			}
		}
	}
	return nil
}

func (s *stage) keepKey(key room.Key) {
	s.secrets = append(s.secrets, hostile.Secret{Name: "room key", Value: slices.Clone(key[:])})
}

// next returns a record that honestly follows the newest, with alice as owner
// and bob as a writer, for the row to change.
func (d *duo) next() *hostile.Record {
	d.Helper()
	rec, key := d.head()
	r := hostile.NewRecord(rec, key, bus.RoomName(d.name), hostile.Line{Card: d.alice.card(), Role: bus.RoleOwner}, hostile.Line{Card: d.bob.card(), Role: bus.RoleWriter})
	d.keepKey(r.Key)
	return r
}

// parse reads a record that was signed here.
func (s *stage) parse(signed *hostile.Signed) *room.Record {
	s.Helper()
	rec, err := room.ParseRecord(signed.Record, signed.Members)
	s.must(err)
	return rec
}

// shows has the client's server show these records of a room, the first ones
// honest, and no others.
func (a *actor) shows(id bus.RoomID, honest []*room.Record, then ...*hostile.Signed) {
	list := api.RecordList{Records: []api.RecordItem{}}
	sealed := map[string][]byte{}
	for _, rec := range honest {
		list.Records = append(list.Records, api.RecordItem{Record: rec.Bytes(), Members: rec.MembersBytes()})
	}
	for _, rec := range then {
		list.Records = append(list.Records, api.RecordItem{Record: rec.Record, Members: rec.Members})
		sealed[api.KeyPath(id, rec.Epoch)] = rec.Sealed[a.id.ID()]
	}
	list.Head = bus.Epoch(len(list.Records) - 1)
	a.control.Instead(func(x *hostile.Exchange) bool {
		blob, known := sealed[x.URL.Path]
		switch {
		case x.Method != http.MethodGet:
			return false
		case x.URL.Path == api.RecordsPath(id):
			from, err := strconv.Atoi(x.URL.Query().Get("from"))
			if err != nil {
				a.stage.Error(err)
			}
			part := list
			part.Records = list.Records[min(from, len(list.Records)):]
			a.tell()
			x.Reply(http.StatusOK, part)
		case known && blob == nil:
			x.Fail(bus.CodeNotFound)
		case known:
			x.Reply(http.StatusOK, api.SealedKey{ID: a.id.ID(), Blob: blob})
		default:
			return false
		}
		return true
	})
}

// honest ends the lies of the client's server.
func (a *actor) honest() {
	a.control.Instead(nil)
	a.control.Set(nil)
	a.data.Down(nil)
	a.data.Info(nil)
	a.setUp(nil)
}

// refuses publishes a secret, which must fail.
func (s *stage) refusesToSend(r *client.Room) error {
	s.Helper()
	if _, err := r.Publish(s.ctx(), []byte(s.secret("message after the lie"))); err == nil {
		return errors.New("it was sent")
	} else {
		return err
	}
}

// publish sends a message and waits until it is stored, or sent.
func (s *stage) publish(r *client.Room, body string) {
	s.Helper()
	_, err := r.Publish(s.ctx(), []byte(body))
	s.must(err)
}
