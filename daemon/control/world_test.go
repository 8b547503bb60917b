package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/httpsig"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
	"github.com/enmanuel/unibus/lib/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a control plane over a real store, behind a real HTTP server, and
// the people who call it.
type world struct {
	*testing.T
	ctx    context.Context
	store  *failing
	dir    *directory.Directory
	view   *directory.View
	server *Server
	url    string
	client *http.Client
	log    *lines
	root   *identity.Root
	now    time.Time

	auditDir string
	cfg      Config // as the server got it

	mu      sync.Mutex
	unready error
	cursors func(bus.ID, api.CursorRequest) (api.CursorReply, error)

	admin, owner, reader, outsider, removed, revoked, cardless, stranger person
	room                                                                 *room.Signed
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "unibus.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, ctx: ctx, store: &failing{Store: s}, log: &lines{}, now: time.Now().UTC().Truncate(time.Second)}
	t.Cleanup(func() { w.must(s.Close()) })
	w.root, err = identity.GenerateRoot(rand.Reader)
	w.must(err)
	clock := func() time.Time { return w.now }
	w.dir = directory.New(w.store, w.root.BusID(), clock)
	w.view, err = w.dir.Follow(ctx)
	w.must(err)
	t.Cleanup(w.view.Close)
	w.auditDir = filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(ctx, w.auditDir, audit.Options{Now: clock})
	w.must(err)
	t.Cleanup(func() { w.must(log.Close()) })
	w.cfg = Config{
		Directory: w.dir, View: w.view, Cursors: w, Audit: log,
		Ready: func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.unready
		},
		Health: func(context.Context) api.Health { return api.Health{Status: "ok", Node: "n1"} },
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    clock,
	}
	for _, f := range change {
		f(&w.cfg)
	}
	w.server = New(w.cfg)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewHTTPServer(w.server.Handler(), w.cfg.Logger)
	srv.Listener = w.server.LimitConns(srv.Listener)
	srv.Start()
	t.Cleanup(srv.Close)
	w.url, w.client = srv.URL, srv.Client()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.populate()
	return w
}

// populate makes one person of every standing and a room.
func (w *world) populate() {
	w.Helper()
	w.admin = w.user("admin", bus.UserAdmin)
	w.owner = w.user("owner", bus.UserMember)
	w.reader = w.user("reader", bus.UserMember)
	w.outsider = w.user("outsider", bus.UserMember)
	w.removed = w.user("removed", bus.UserMember)
	w.revoked = w.user("revoked", bus.UserMember)
	w.stranger = w.person()
	w.cardless = w.person()
	_, err := w.dir.AddUser(w.ctx, w.cardless.SignPub(), "cardless", bus.UserMember)
	w.must(err)

	genesis := w.genesis(w.owner, w.removed)
	w.must(w.dir.CreateRoom(w.ctx, w.owner.ID(), genesis.Record, genesis.Sealed))
	w.room = w.next(genesis, w.owner, w.reader)
	w.must(w.dir.AppendRecord(w.ctx, w.room.Record, w.room.Sealed))
	_, err = w.dir.RevokeUser(w.ctx, w.revoked.SignPub())
	w.must(err)
	w.must(w.view.CatchUp(w.ctx))
}

// Cursors implements [Cursors].
func (w *world) Cursors(_ context.Context, id bus.ID, req api.CursorRequest) (api.CursorReply, error) {
	w.mu.Lock()
	f := w.cursors
	w.mu.Unlock()
	if f == nil {
		return api.CursorReply{}, nil
	}
	return f(id, req)
}

func (w *world) setReady(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unready = err
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// person is an identity with its key for this bus and a card.
type person struct {
	*identity.Identity
	transport *identity.Transport
	card      *identity.Card
}

func (w *world) person() person {
	w.Helper()
	id, err := identity.Generate(rand.Reader)
	w.must(err)
	return person{id, id.Transport(w.root.BusID()), w.newCard(id)}
}

func (w *world) newCard(id *identity.Identity) *identity.Card {
	w.Helper()
	c, err := identity.NewCard(id, w.root.BusID(), w.now, w.now.Add(bus.MaxCardLife))
	w.must(err)
	return c
}

func (w *world) user(handle bus.Handle, role bus.UserRole) person {
	w.Helper()
	p := w.person()
	_, err := w.dir.AddUser(w.ctx, p.SignPub(), handle, role)
	w.must(err)
	w.must(w.dir.PutCard(w.ctx, p.card))
	return p
}

func draft(owner person, readers ...person) room.Draft {
	d := room.Draft{Policy: bus.DefaultPolicy(), Name: "agent.scout", Members: []room.MemberSpec{{Card: owner.card, Role: bus.RoleOwner}}}
	for _, p := range readers {
		d.Members = append(d.Members, room.MemberSpec{Card: p.card, Role: bus.RoleReader})
	}
	return d
}

func (w *world) genesis(owner person, readers ...person) *room.Signed {
	w.Helper()
	s, err := room.Create(owner.Identity, draft(owner, readers...), w.now, rand.Reader)
	w.must(err)
	return s
}

func (w *world) next(head *room.Signed, owner person, readers ...person) *room.Signed {
	w.Helper()
	s, err := room.Next(owner.Identity, head.Record, head.Key, draft(owner, readers...), w.now, rand.Reader)
	w.must(err)
	return s
}

func upload(s *room.Signed) api.RecordUpload {
	u := api.RecordUpload{Record: s.Record.Bytes(), Members: s.Record.MembersBytes(), Sealed: []api.SealedKey{}}
	for _, k := range s.Sealed {
		u.Sealed = append(u.Sealed, api.SealedKey{ID: k.ID, Blob: k.Blob})
	}
	return u
}

func (w *world) encode(v any) []byte {
	w.Helper()
	if v == nil {
		return nil
	}
	if raw, ok := v.([]byte); ok {
		return raw
	}
	body, err := api.Encode(v)
	w.must(err)
	return body
}

// request makes an unsigned request. body is JSON, or bytes as they are.
func (w *world) request(method, path string, body any) (*http.Request, []byte) {
	w.Helper()
	raw := w.encode(body)
	r, err := http.NewRequestWithContext(w.ctx, method, w.url+path, bytes.NewReader(raw))
	w.must(err)
	return r, raw
}

func (w *world) sign(r *http.Request, body []byte, p person, at time.Time) {
	w.Helper()
	w.must(httpsig.Sign(r, body, p.transport, at, rand.Reader))
}

// do sends a request and reads its reply into v; a problem comes back as the
// error and its status.
func (w *world) do(r *http.Request, v any) (int, error) {
	w.Helper()
	resp, err := w.client.Do(r)
	w.must(err)
	defer resp.Body.Close()
	if resp.Header.Get("X-Request-Id") == "" || resp.Header.Get("Cache-Control") != "no-store" {
		w.Errorf("%s %s: headers %v", r.Method, r.URL.Path, resp.Header)
	}
	err = api.ReadReply(resp, v)
	if resp.StatusCode >= 400 {
		if media := resp.Header.Get("Content-Type"); media != api.MediaProblem && r.URL.Path != api.ReadyPath() {
			w.Errorf("%s %s: %d with %s", r.Method, r.URL.Path, resp.StatusCode, media)
		}
	}
	if _, copyErr := io.Copy(io.Discard, resp.Body); copyErr != nil {
		w.Error(copyErr)
	}
	return resp.StatusCode, err
}

// call sends a request signed by p now.
func (w *world) call(p person, method, path string, body, reply any) (int, error) {
	w.Helper()
	r, raw := w.request(method, path, body)
	w.sign(r, raw, p, w.now)
	return w.do(r, reply)
}

// want checks status and code of an answer.
func (w *world) want(what string, status int, err error, wantStatus int, wantCode bus.Code) {
	w.Helper()
	if status != wantStatus || bus.CodeOf(err) != wantCode {
		w.Errorf("%s: %d %q (%v), want %d %q", what, status, bus.CodeOf(err), err, wantStatus, wantCode)
	}
}

// failing is a store whose calls can be made to fail.
type failing struct {
	store.Store
	mu  sync.Mutex
	get func(b store.Bucket, key string) error
	set func(b store.Bucket, key string) error
}

func (s *failing) fail(get, set func(store.Bucket, string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.get, s.set = get, set
}

func (s *failing) check(which func(*failing) func(store.Bucket, string) error, b store.Bucket, key string) error {
	s.mu.Lock()
	f := which(s)
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(b, key)
}

func (s *failing) Get(ctx context.Context, b store.Bucket, key string) (store.Entry, error) {
	if err := s.check(func(s *failing) func(store.Bucket, string) error { return s.get }, b, key); err != nil {
		return store.Entry{}, err
	}
	return s.Store.Get(ctx, b, key)
}

func (s *failing) Create(ctx context.Context, b store.Bucket, key string, value []byte, ttl time.Duration) (store.Revision, error) {
	if err := s.check(func(s *failing) func(store.Bucket, string) error { return s.set }, b, key); err != nil {
		return 0, err
	}
	return s.Store.Create(ctx, b, key, value, ttl)
}

func down(store.Bucket, string) error {
	return bus.Errorf(bus.CodeUnavailable, "secret-path: the disk is on fire")
}

// lines is a log that can be read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
