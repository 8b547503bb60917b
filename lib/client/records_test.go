package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

func plainPolicy() *bus.Policy {
	return &bus.Policy{Suite: bus.SuitePlain, Flags: bus.FlagPersist}
}

// branch makes records after head, in a room without encryption, and nobody is
// told. The last names what resolves.
func branch(t *testing.T, w *world, owner *identity.Identity, head *room.Record, n int, members []*identity.Identity, resolves ...bus.RecordHash) []*room.Record {
	t.Helper()
	d := room.Draft{Policy: *plainPolicy(), Name: "team"}
	for i, id := range append([]*identity.Identity{owner}, members...) {
		card, err := identity.NewCard(id, w.root.BusID(), nowSecond(), nowSecond().Add(bus.MaxCardLife))
		if err != nil {
			t.Fatal(err)
		}
		d.Members = append(d.Members, room.MemberSpec{Card: card, Role: []bus.Role{bus.RoleOwner, bus.RoleWriter}[min(i, 1)]})
	}
	var recs []*room.Record
	for i := range n {
		if i == n-1 {
			d.Resolves = resolves
		}
		signed, err := room.Next(owner, head, room.Key{}, d, time.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		head = signed.Record
		recs = append(recs, head)
	}
	return recs
}

// shows has a server show these records of a room and no others.
func shows(t *testing.T, id bus.RoomID, recs []*room.Record) func(*http.Request, []byte) []byte {
	return func(req *http.Request, body []byte) []byte {
		if req.Method != http.MethodGet || req.URL.Path != api.RecordsPath(id) {
			return body
		}
		from, err := strconv.Atoi(req.URL.Query().Get("from"))
		if err != nil {
			t.Error(err)
		}
		l := api.RecordList{Records: []api.RecordItem{}, Head: bus.Epoch(len(recs) - 1)}
		for _, rec := range recs[min(from, len(recs)):] {
			l.Records = append(l.Records, api.RecordItem{Record: rec.Bytes(), Members: rec.MembersBytes()})
		}
		out, err := api.Encode(l)
		if err != nil {
			t.Error(err)
		}
		return out
	}
}

// twoProcesses are two clients of bob that share their state, of which the
// first is honestly served, in a room of alice without encryption.
type twoProcesses struct {
	alice, bob       *identity.Identity
	first            *client.Client
	second           *watched
	room             *client.Room // alice's
	atFirst, atOther *client.Room
	dir              string
}

func newTwoProcesses(t *testing.T, w *world) *twoProcesses {
	t.Helper()
	p := &twoProcesses{alice: w.addUser("alice"), bob: w.addUser("bob"), dir: t.TempDir()}
	state := func(c *client.Config) { c.StateDir = p.dir }
	p.first = w.dial(p.bob, state)
	var err error
	if p.room, err = w.dial(p.alice, nil).CreateRoom(w.ctx(), "team", client.RoomOptions{Policy: plainPolicy()}); err != nil {
		t.Fatal(err)
	}
	p.atFirst = w.invite(p.room, p.first)[0]
	p.second = w.watched(p.bob, state)
	if p.atOther, err = p.second.Room(w.ctx(), "team"); err != nil {
		t.Fatal(err)
	}
	return p
}

func history(t *testing.T, w *world, r *client.Room) []*room.Record {
	t.Helper()
	recs, err := r.Log(w.ctx())
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

// A server holds one process back at a record that another process of the same
// identity has left behind: what it sends could be read by who was removed.
func TestProcessHeldBackSendsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := newTwoProcesses(t, w)
	carol := w.user("carol")
	w.invite(p.room, carol)
	if err := p.atOther.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	old := history(t, w, p.room)
	p.second.control.set(shows(t, p.room.ID(), old))
	if err := p.room.Remove(w.ctx(), carol.ID().String()); err != nil {
		t.Fatal(err)
	}
	if err := p.atFirst.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := p.atOther.Refresh(w.ctx()); !errors.Is(err, bus.ErrRollback) {
		t.Errorf("refresh: %v", err)
	}
	if _, err := p.atOther.Publish(w.ctx(), []byte("secret")); !errors.Is(err, bus.ErrRollback) {
		t.Errorf("publish: %v", err)
	}
	for m, err := range p.atFirst.Messages(w.ctx(), client.Stored) {
		t.Errorf("stored: %v, %v", m, err)
	}
	p.second.control.set(nil)
	if _, err := p.atOther.Publish(w.ctx(), []byte("later")); err != nil || p.atOther.Epoch() != 3 {
		t.Errorf("epoch %d: %v", p.atOther.Epoch(), err)
	}
}

// A server shows each of two processes another branch, the second a longer one.
func TestForkBetweenProcessesIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := newTwoProcesses(t, w)
	before := history(t, w, p.room)
	hidden := append(before, branch(t, w, p.alice, before[1], 2, []*identity.Identity{p.bob})...)
	// The second process must see neither branch before the pin is on the true one.
	p.second.control.set(shows(t, p.room.ID(), before))
	if err := p.room.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := p.atFirst.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	p.second.control.set(shows(t, p.room.ID(), hidden))
	for range 2 { // the second time is no better
		if err := p.atOther.Refresh(w.ctx()); !errors.Is(err, bus.ErrFork) || p.atOther.Epoch() != 1 {
			t.Errorf("epoch %d: %v", p.atOther.Epoch(), err)
		}
	}
	if _, err := p.atOther.Publish(w.ctx(), []byte("x")); !errors.Is(err, bus.ErrFork) {
		t.Errorf("publish: %v", err)
	}
	// The branch that was refused is not remembered: the true one is found.
	p.second.control.set(nil)
	if err := p.atOther.Refresh(w.ctx()); err != nil || p.atOther.Epoch() != 2 {
		t.Errorf("epoch %d: %v", p.atOther.Epoch(), err)
	}
	if _, err := p.atOther.Publish(w.ctx(), []byte("x")); err != nil {
		t.Error(err)
	}
}

// An owner's word ends a fork for both processes, also for the one that the
// other has overtaken, and the proof of the fork can be read again.
func TestResolvedForkIsFollowedByEveryProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := newTwoProcesses(t, w)
	before := history(t, w, p.room)
	if err := p.room.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*client.Room{p.atFirst, p.atOther} {
		if err := r.Refresh(w.ctx()); err != nil || r.Epoch() != 2 {
			t.Fatalf("epoch %d: %v", r.Epoch(), err)
		}
	}
	lost := history(t, w, p.room)[2]
	p.second.control.set(shows(t, p.room.ID(), append(before, branch(t, w, p.alice, before[1], 2, []*identity.Identity{p.bob})...)))
	if err := p.atOther.Refresh(w.ctx()); !errors.Is(err, bus.ErrEquivocation) {
		t.Errorf("not resolved: %v", err)
	}
	if _, err := p.atOther.Publish(w.ctx(), []byte("x")); !errors.Is(err, bus.ErrEquivocation) && !errors.Is(err, bus.ErrFork) {
		t.Errorf("publish: %v", err)
	}
	p.second.control.set(shows(t, p.room.ID(), append(before, branch(t, w, p.alice, before[1], 2, []*identity.Identity{p.bob}, lost.Hash())...)))
	if err := p.atOther.Refresh(w.ctx()); err != nil || p.atOther.Epoch() != 3 {
		t.Errorf("resolved: epoch %d, %v", p.atOther.Epoch(), err)
	}
	// The honest server of the first process has the lost branch only.
	if err := p.atFirst.Refresh(w.ctx()); !errors.Is(err, bus.ErrFork) {
		t.Errorf("the first: %v", err)
	}
	proofs, err := filepath.Glob(filepath.Join(p.dir, "*", "*", "proofs", "fork-*"))
	if err != nil || len(proofs) == 0 {
		t.Fatalf("proofs %v, %v", proofs, err)
	}
	for _, name := range proofs {
		f, err := room.ParseFork(mustRead(t, name))
		if err != nil || f.Known.Hash() != lost.Hash() || f.Other.Epoch == 0 || f.Other.MemberCount() != 2 {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

// A page that comes again for ever, of a room of any size.
func TestRepeatedPagesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	r, theirs := w.room(alice, "team", bob.Client)
	if err := r.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	var pages atomic.Int32
	var first atomic.Pointer[[]byte]
	bob.control.set(func(req *http.Request, body []byte) []byte {
		if req.Method != http.MethodGet || req.URL.Path != api.RecordsPath(r.ID()) {
			return body
		}
		pages.Add(1)
		page := edit(t, body, func(l *api.RecordList) { l.More = true })
		first.CompareAndSwap(nil, &page)
		return *first.Load()
	})
	if err := theirs[0].Refresh(w.ctx()); !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("refresh: %v", err)
	}
	if n := pages.Load(); n > 2 {
		t.Errorf("%d pages were read", n)
	}
}

// Records are read in as many pages as there are; what cannot be read can be later.
func TestRecordsComeInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	r, theirs := w.room(alice, "team", bob.Client)
	var whole atomic.Bool
	bob.control.set(func(req *http.Request, body []byte) []byte {
		if req.Method != http.MethodGet || req.URL.Path != api.RecordsPath(r.ID()) {
			return body
		}
		from, err := strconv.Atoi(req.URL.Query().Get("from"))
		if err != nil {
			t.Error(err)
		}
		return edit(t, body, func(l *api.RecordList) {
			if len(l.Records) > 2 {
				l.Records, l.More = l.Records[:2], true
			}
			if at := 4 - from; !whole.Load() && at >= 0 && at < len(l.Records) {
				l.Records[at].Record[100] ^= 1
				l.Records = l.Records[:at+1]
			}
		})
	})
	for range 5 {
		if err := r.Rotate(w.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	if err := theirs[0].Refresh(w.ctx()); err == nil || theirs[0].Epoch() > 3 {
		t.Errorf("epoch %d: %v", theirs[0].Epoch(), err)
	}
	whole.Store(true)
	if err := theirs[0].Refresh(w.ctx()); err != nil || theirs[0].Epoch() != 6 {
		t.Errorf("epoch %d: %v", theirs[0].Epoch(), err)
	}
	if diff := cmp.Diff([]bus.Epoch{0, 1, 2, 3, 4, 5, 6}, epochs(history(t, w, theirs[0]))); diff != "" {
		t.Error(diff)
	}
}

func epochs(recs []*room.Record) []bus.Epoch {
	var list []bus.Epoch
	for _, rec := range recs {
		list = append(list, rec.Epoch)
	}
	return list
}

// refusals answer uploads of records in the place of a node, which never sees
// them, and keep what was sent.
type refusals struct {
	url string

	mu   sync.Mutex
	code bus.Code // "" lets them through
	sent []string
}

func newRefusals(t *testing.T, target string) *refusals {
	t.Helper()
	node, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	f, transport := &refusals{}, &http.Transport{}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(node)
		r.Out.Host = r.In.Host // it is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/records") {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Error(err)
			}
			req.Body = io.NopCloser(bytes.NewReader(body))
			f.mu.Lock()
			f.sent = append(f.sent, string(body))
			code := f.code
			f.mu.Unlock()
			if code != "" {
				_ = api.WriteProblem(rw, api.NewProblem(bus.Errorf(code, "no"), "r1")) // the client may be gone
				return
			}
		}
		proxy.ServeHTTP(rw, req)
	}))
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	f.url = server.URL
	return f
}

func (f *refusals) answer(code bus.Code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.code, f.sent = code, nil
}

// records returns how many uploads there were, and how many different ones.
func (f *refusals) records() (sent, different int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]bool{}
	for _, s := range f.sent {
		all[s] = true
	}
	return len(f.sent), len(all)
}

// Whatever a server says, nobody gets two records after one head from it.
func TestOneRecordIsSignedForAHead(t *testing.T) {
	for _, code := range []bus.Code{bus.CodeConflict, bus.CodeUnavailable} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f, id, dir := newRefusals(t, w.node.URL()), w.addUser("alice"), t.TempDir()
			config := func(c *client.Config) {
				c.URLs, c.StateDir, c.ControlTimeout = []string{f.url}, dir, 500*time.Millisecond
			}
			alice := w.dial(id, config)
			bob := w.user("bob")
			r, _ := w.room(alice, "team", bob)
			f.answer(code)
			if err := r.Rotate(w.ctx()); !errors.Is(err, bus.ErrUnknownOutcome) {
				t.Errorf("rotate: %v", err)
			}
			if err := r.Remove(w.ctx(), bob.ID().String()); !errors.Is(err, bus.ErrUnknownOutcome) {
				t.Errorf("remove: %v", err)
			}
			// Another process, of the same identity.
			other := w.dial(id, config)
			again, err := other.Room(w.ctx(), "team")
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Rotate(w.ctx()); !errors.Is(err, bus.ErrUnknownOutcome) {
				t.Errorf("another process: %v", err)
			}
			if sent, different := f.records(); different != 1 || sent < 3 {
				t.Errorf("sent %d times, %d different records", sent, different)
			}
			f.answer("")
			if err := again.Remove(w.ctx(), bob.ID().String()); err != nil {
				t.Fatal(err)
			}
			if err := r.Refresh(w.ctx()); err != nil {
				t.Fatal(err)
			}
			// The record that was kept, and then the one that removes bob.
			if r.Epoch() != 3 || len(r.Members()) != 1 {
				t.Errorf("epoch %d, members %v", r.Epoch(), r.Members())
			}
			left, err := filepath.Glob(filepath.Join(dir, "*", "*", "unsettled", "*.json"))
			if err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

// What somebody asked for and a server refused does not stand in the way of what
// somebody asks for next.
func TestRefusedRecordIsGivenUpOnRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := newRefusals(t, w.node.URL())
	alice := w.dial(w.addUser("alice"), func(c *client.Config) { c.URLs = []string{f.url} })
	bob := w.user("bob")
	r, _ := w.room(alice, "team")
	f.answer(bus.CodePolicy)
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleWriter); !errors.Is(err, bus.ErrPolicy) {
		t.Errorf("invite: %v", err)
	}
	if sent, _ := f.records(); sent != 1 {
		t.Errorf("sent %d times", sent)
	}
	f.answer("")
	if err := r.Rotate(w.ctx()); err != nil || r.Epoch() != 1 || len(r.Members()) != 1 {
		t.Errorf("epoch %d, members %v: %v", r.Epoch(), r.Members(), err)
	}
}

// Somebody who waits for records that another reads gives up with the context.
func TestWaitingForRecordsEndsWithTheContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	r, theirs := w.room(alice, "team", bob.Client)
	held, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	bob.control.set(func(req *http.Request, body []byte) []byte {
		if req.URL.Path == api.RecordsPath(r.ID()) {
			once.Do(func() { close(held); <-free })
		}
		return body
	})
	done := make(chan error, 1)
	go func() { done <- theirs[0].Refresh(w.ctx()) }()
	<-held
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := theirs[0].Refresh(ctx); !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Errorf("refresh: %v", err)
	}
	close(free)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
