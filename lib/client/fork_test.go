package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// otherFace is the second face of a server: it takes the records of some members
// itself, answers as a node does, and shows them a branch of their own.
type otherFace struct {
	t    *testing.T
	node *url.URL

	mu      sync.Mutex
	on      bool
	room    bus.RoomID
	uploads []api.RecordUpload // its branch
	epochs  []bus.Epoch        // of uploads
}

func newOtherFace(t *testing.T, w *world) *otherFace {
	t.Helper()
	node, err := url.Parse(w.node.URL())
	if err != nil {
		t.Fatal(err)
	}
	return &otherFace{t: t, node: node}
}

// begin has it lie about a room, and end shows everybody what the node has.
func (f *otherFace) begin(id bus.RoomID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.room = true, id
}

func (f *otherFace) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = false
}

// to returns the address where somebody finds it.
func (f *otherFace) to(who bus.ID) string {
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(f.node)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: f.show,
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case f.on && req.Method == http.MethodPost && req.URL.Path == api.RecordsPath(f.room):
			f.take(rw, req)
		case f.on && f.key(rw, req, who):
		default:
			f.mu.Unlock()
			proxy.ServeHTTP(rw, req)
			f.mu.Lock()
		}
	}))
	f.t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	return server.URL
}

func (f *otherFace) take(rw http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		f.t.Error(err)
	}
	upload, err := api.Decode[api.RecordUpload](body)
	if err != nil {
		f.t.Error(err)
	}
	rec, err := room.ParseRecord(upload.Record, upload.Members)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.uploads, f.epochs = append(f.uploads, upload), append(f.epochs, rec.Epoch)
	rw.Header().Set("Content-Type", api.MediaJSON)
	rw.WriteHeader(http.StatusCreated)
	out, err := api.Encode(api.Head{Room: rec.Room, Epoch: rec.Epoch, Hash: rec.Hash()})
	if err != nil {
		f.t.Error(err)
	}
	_, _ = rw.Write(out) // the client may be gone
}

// key answers for a key of the branch.
func (f *otherFace) key(rw http.ResponseWriter, req *http.Request, who bus.ID) bool {
	for i, e := range f.epochs {
		if req.URL.Path != api.KeyPath(f.room, e) {
			continue
		}
		for _, k := range f.uploads[i].Sealed {
			if k.ID == who {
				out, err := api.Encode(k)
				if err != nil {
					f.t.Error(err)
				}
				rw.Header().Set("Content-Type", api.MediaJSON)
				_, _ = rw.Write(out)
				return true
			}
		}
	}
	return false
}

// show replaces what the node has of the room from the fork on.
func (f *otherFace) show(resp *http.Response) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	req := resp.Request
	if !f.on || len(f.uploads) == 0 || req.Method != http.MethodGet || req.URL.Path != api.RecordsPath(f.room) {
		return nil
	}
	from, err := strconv.Atoi(req.URL.Query().Get("from"))
	if err != nil {
		from = 0
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	body = edit(f.t, body, func(l *api.RecordList) {
		l.Records = l.Records[:min(len(l.Records), max(0, int(f.epochs[0])-from))]
		for i, e := range f.epochs {
			if e >= bus.Epoch(from) {
				l.Records = append(l.Records, api.RecordItem{Record: f.uploads[i].Record, Members: f.uploads[i].Members})
			}
		}
		l.Head, l.Hash, l.More = f.epochs[len(f.epochs)-1], bus.RecordHash{}, false
	})
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// eventLog collects the events of a kind.
type eventLog struct {
	mu     sync.Mutex
	events []client.Event
}

func (l *eventLog) add(e client.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *eventLog) of(kind client.EventKind) (details []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == kind {
			details = append(details, e.Detail)
		}
	}
	return details
}

// forkedRoom is a room of alice with bob as another owner, carol and dave, whom
// a server shows two branches: alice and dave the true one, bob and carol another.
type forkedRoom struct {
	w                       *world
	face                    *otherFace
	alice, bob, carol, dave *client.Client
	atAlice, atBob, atCarol *client.Room
	atDave                  *client.Room
	bobID                   *identity.Identity
	bobConfig               func(*client.Config)
	bobHeard                eventLog
}

func newForkedRoom(t *testing.T) *forkedRoom {
	t.Helper()
	w := newWorld(t)
	f := &forkedRoom{w: w, face: newOtherFace(t, w), bobID: w.addUser("bob")}
	dir, carol := t.TempDir(), w.addUser("carol")
	bobURL, carolURL := f.face.to(f.bobID.ID()), f.face.to(carol.ID())
	f.bobConfig = func(c *client.Config) { c.URLs, c.StateDir, c.OnEvent = []string{bobURL}, dir, f.bobHeard.add }
	f.alice, f.dave = w.user("alice"), w.user("dave")
	f.bob = w.dial(f.bobID, f.bobConfig)
	f.carol = w.dial(carol, func(c *client.Config) { c.URLs = []string{carolURL} })
	var theirs []*client.Room
	f.atAlice, theirs = w.room(f.alice, "team", f.bob, f.carol, f.dave)
	f.atBob, f.atCarol, f.atDave = theirs[0], theirs[1], theirs[2]
	if err := f.atAlice.Invite(w.ctx(), f.bob.ID().String(), bus.RoleOwner); err != nil {
		t.Fatal(err)
	}
	f.refresh(t, f.atBob, f.atCarol, f.atDave)
	return f
}

func (f *forkedRoom) refresh(t *testing.T, rooms ...*client.Room) {
	t.Helper()
	for _, r := range rooms {
		if err := r.Refresh(f.w.ctx()); err != nil {
			t.Fatal(err)
		}
	}
}

// split has either side make n records of its own.
func (f *forkedRoom) split(t *testing.T, alice, bob int) {
	t.Helper()
	f.face.begin(f.atAlice.ID())
	for range bob {
		if err := f.atBob.Rotate(f.w.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	for range alice {
		if err := f.atAlice.Rotate(f.w.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	f.refresh(t, f.atCarol, f.atDave)
}

// readable returns the bodies that a room's stored messages have, and how many
// frames failed as of another branch.
func readable(t *testing.T, w *world, r *client.Room) (bodies []string, lost int) {
	t.Helper()
	for m, err := range r.Messages(w.ctx(), client.Stored) {
		switch {
		case err == nil:
			bodies = append(bodies, string(m.Body))
		case errors.Is(err, bus.ErrFork):
			lost++
		case errors.Is(err, bus.ErrGap):
		default:
			t.Fatal(err)
		}
	}
	slices.Sort(bodies)
	return bodies, lost
}

// work handles up to n messages by a cursor, acknowledging each, and returns their
// bodies and what ended it.
func work(w *world, r *client.Room, cursor *client.Cursor, n int) (bodies []string, ended error) {
	for m, err := range r.Messages(w.ctx(), cursor) {
		var failed *client.FrameError
		if errors.As(err, &failed) || errors.Is(err, bus.ErrGap) {
			continue
		}
		if err != nil {
			return bodies, err
		}
		bodies = append(bodies, string(m.Body))
		if err := cursor.Ack(m); err != nil {
			return bodies, err
		}
		if len(bodies) == n {
			return bodies, nil
		}
	}
	return bodies, nil
}

// A server shows two owners, who act at once, a branch each. When both branches
// are seen everybody on the one that the server then hides stops, until an owner
// has decided; what was acknowledged on the branch kept is read by all.
func TestOwnerResolvesAFork(t *testing.T) {
	f := newForkedRoom(t)
	w := f.w
	publish(t, w, f.atAlice, "before")
	cursor, err := f.atCarol.OpenCursor(w.ctx(), "worker", client.Start)
	if err != nil {
		t.Fatal(err)
	}
	defer cursor.Close()
	f.split(t, 2, 3)
	publish(t, w, f.atAlice, "kept")
	publish(t, w, f.atBob, "lost one", "lost two")
	f.face.end()
	// Carol reads what both branches have, and stops at the first of the other.
	if have, err := work(w, f.atCarol, cursor, 9); !errors.Is(err, bus.ErrFork) || !slices.Equal(have, []string{"before"}) {
		t.Errorf("carol works on %q: %v", have, err)
	}
	for name, r := range map[string]*client.Room{"bob": f.atBob, "carol": f.atCarol} {
		if err := r.Refresh(w.ctx()); !errors.Is(err, bus.ErrFork) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Publish(w.ctx(), []byte("x")); !errors.Is(err, bus.ErrFork) {
			t.Errorf("%s publishes: %v", name, err)
		}
	}
	proofs, err := f.bob.Proofs(f.atBob.ID())
	if err != nil || len(proofs) != 1 || proofs[0].Fork.Equivocation() {
		t.Fatalf("bob keeps %v, %v", proofs, err)
	}

	// Alice never saw the other branch; bob shows her the proof.
	fork, err := f.alice.ReviewFork(w.ctx(), f.atAlice.ID(), proofs[0].Fork)
	if err != nil || fork.Resolved() || len(fork.Lost) != 1 || fork.Lost[0].First != proofs[0].Fork.Known.Hash() || len(fork.Blames()) != 0 {
		t.Fatalf("%+v, %v", fork, err)
	}
	if err := fork.Resolve(w.ctx(), client.Resolution{Past: f.atBob.Epoch()}); err != nil {
		t.Fatal(err)
	}
	if again, err := f.alice.ReviewFork(w.ctx(), f.atAlice.ID(), proofs[0].Fork); err != nil || !again.Resolved() {
		t.Errorf("reviewed again: %+v, %v", again, err)
	}
	f.refresh(t, f.atBob, f.atCarol, f.atDave)
	publish(t, w, f.atBob, "after bob")
	publish(t, w, f.atCarol, "after carol")
	if have, err := work(w, f.atCarol, cursor, 2); err != nil || len(have) != 2 || have[0] != "kept" {
		t.Errorf("carol goes on with %q: %v", have, err)
	}
	want := []string{"after bob", "after carol", "before", "kept"}
	for name, r := range map[string]*client.Room{"alice": f.atAlice, "bob": f.atBob, "carol": f.atCarol, "dave": f.atDave} {
		have, lost := readable(t, w, r)
		if diff := cmp.Diff(want, have); diff != "" || lost == 0 || r.Epoch() != f.atAlice.Epoch() {
			t.Errorf("%s, epoch %d, %d frames lost:\n%s", name, r.Epoch(), lost, diff)
		}
	}
	w.close(f.bob)
	if said := f.bobHeard.of(client.EventResolved); len(said) != 1 || !strings.Contains(said[0], "from epoch 5 on") || !strings.HasSuffix(said[0], "; 2 messages that this process had sent on it are void") {
		t.Errorf("bob heard %q", said)
	}
}

// A process that starts after the fork has none of the records of the branch that
// the one before it had accepted, only the way to its pin.
func TestProcessWithoutRecordsLeavesALostBranch(t *testing.T) {
	f := newForkedRoom(t)
	w := f.w
	f.split(t, 1, 3)
	w.close(f.bob)
	f.face.end()
	again := w.dial(f.bobID, f.bobConfig)
	if _, err := again.Room(w.ctx(), "team"); !errors.Is(err, bus.ErrFork) {
		t.Errorf("opened: %v", err)
	}
	// Bob is an owner too, and has no record of what he gives up.
	fork, err := again.ReviewFork(w.ctx(), f.atAlice.ID())
	if err != nil || len(fork.Lost) != 1 || fork.Lost[0].Head != nil || fork.Lost[0].Last != 7 || fork.Head().Epoch != 5 {
		t.Fatalf("%+v, %v", fork, err)
	}
	if err := fork.Resolve(w.ctx(), client.Resolution{TakeMembers: true}); !errors.Is(err, bus.ErrUsage) {
		t.Errorf("unknown members: %v", err)
	}
	if err := fork.Resolve(w.ctx(), client.Resolution{}); err != nil {
		t.Fatal(err)
	}
	r, err := again.Room(w.ctx(), "team")
	if err != nil || r.Epoch() != 8 {
		t.Fatalf("after: %v, %v", r, err)
	}
	publish(t, w, r, "hello")
	// Carol has the records, but resolves nothing: it is done.
	f.refresh(t, f.atCarol, f.atAlice)
	publish(t, w, f.atCarol, "hello")
	if _, err := f.carol.Room(w.ctx(), "team"); err != nil {
		t.Error(err)
	}
	third, err := f.carol.ReviewFork(w.ctx(), f.atAlice.ID())
	if err != nil || !third.Resolved() {
		t.Errorf("%+v, %v", third, err)
	}
	if err := third.Resolve(w.ctx(), client.Resolution{}); !errors.Is(err, bus.ErrNotAuthority) {
		t.Errorf("carol resolves: %v", err)
	}
}

// The members of the branch that is given up are taken over in the very record that
// gives it up, so that nobody else gets its key.
func TestResolutionTakesTheMembersOfTheLostBranch(t *testing.T) {
	f := newForkedRoom(t)
	w := f.w
	publish(t, w, f.atDave, "from dave")
	f.face.begin(f.atAlice.ID())
	if err := f.atBob.Remove(w.ctx(), f.dave.ID().String()); err != nil {
		t.Fatal(err)
	}
	if err := f.atAlice.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	f.face.end()
	if err := f.atBob.Refresh(w.ctx()); !errors.Is(err, bus.ErrFork) {
		t.Fatal(err)
	}
	fork, err := f.bob.ReviewFork(w.ctx(), f.atBob.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := fork.Resolve(w.ctx(), client.Resolution{TakeMembers: true}); err != nil {
		t.Fatal(err)
	}
	f.refresh(t, f.atAlice, f.atDave)
	if f.atDave.Role().Valid() || len(f.atBob.Members()) != 3 || f.atBob.Epoch() != 6 {
		t.Errorf("epoch %d, members %v, dave is %s", f.atBob.Epoch(), f.atBob.Members(), f.atDave.Role())
	}
	if have, _ := readable(t, w, f.atAlice); !slices.Equal(have, []string{"from dave"}) {
		t.Errorf("what dave had stored: %v", have)
	}
}

// Who was removed as an owner on a branch cannot give that branch up: those on it
// would not follow.
func TestOwnerRemovedOnABranchCannotGiveItUp(t *testing.T) {
	f := newForkedRoom(t)
	w := f.w
	f.face.begin(f.atAlice.ID())
	if err := f.atBob.Invite(w.ctx(), f.alice.ID().String(), bus.RoleWriter); err != nil {
		t.Fatal(err)
	}
	if err := f.atAlice.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	f.face.end()
	if err := f.atBob.Refresh(w.ctx()); !errors.Is(err, bus.ErrFork) {
		t.Fatal(err)
	}
	proofs, err := f.bob.Proofs(f.atBob.ID())
	if err != nil || len(proofs) != 1 {
		t.Fatal(proofs, err)
	}
	fork, err := f.alice.ReviewFork(w.ctx(), f.atAlice.ID(), proofs[0].Fork)
	if err != nil {
		t.Fatal(err)
	}
	if err := fork.Resolve(w.ctx(), client.Resolution{}); !errors.Is(err, bus.ErrNotAuthority) || f.atAlice.Epoch() != 5 {
		t.Errorf("epoch %d: %v", f.atAlice.Epoch(), err)
	}
	// Bob may.
	if fork, err = f.bob.ReviewFork(w.ctx(), f.atBob.ID()); err == nil {
		err = fork.Resolve(w.ctx(), client.Resolution{})
	}
	if err != nil || f.atBob.Epoch() != 6 {
		t.Errorf("epoch %d: %v", f.atBob.Epoch(), err)
	}
}

// A proof of another room, or of a history that nobody else has, moves no owner.
func TestForeignProofsAreRefused(t *testing.T) {
	f := newForkedRoom(t)
	w := f.w
	f.split(t, 1, 1)
	f.face.end()
	if err := f.atBob.Refresh(w.ctx()); !errors.Is(err, bus.ErrFork) {
		t.Fatal(err)
	}
	proofs, err := f.bob.Proofs(f.atBob.ID())
	if err != nil || len(proofs) != 1 {
		t.Fatal(proofs, err)
	}
	other, _ := w.room(f.alice, "other")
	if _, err := f.alice.ReviewFork(w.ctx(), other.ID(), proofs[0].Fork); !errors.Is(err, bus.ErrMisrouted) {
		t.Errorf("of another room: %v", err)
	}
	if fork, err := f.alice.ReviewFork(w.ctx(), f.atAlice.ID()); err != nil || !fork.Resolved() || len(fork.Lost) != 0 {
		t.Errorf("without it: %+v, %v", fork, err)
	}
}

// Restored from a backup, a node has lost records that members have accepted. An
// owner who says so continues from what is left.
func TestOwnerGivesUpWhatABackupLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "team", bob)
	w.stop()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(w.cfg.DataDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(backup, "unibus.db"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	for range 2 {
		if err := r.Rotate(w.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	if err := theirs[0].Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.cfg.DataDir = backup
	w.start()
	if err := r.Refresh(w.ctx()); !errors.Is(err, bus.ErrRollback) {
		t.Fatal(err)
	}
	fork, err := alice.ReviewFork(w.ctx(), r.ID())
	if err != nil || len(fork.Lost) != 1 || !fork.Lost[0].Behind || fork.Resolved() {
		t.Fatalf("%+v, %v", fork, err)
	}
	if err := fork.Resolve(w.ctx(), client.Resolution{}); !errors.Is(err, bus.ErrUsage) {
		t.Errorf("servers may only be behind: %v", err)
	}
	if err := fork.Resolve(w.ctx(), client.Resolution{Rewind: true}); err != nil {
		t.Fatal(err)
	}
	if err := theirs[0].Refresh(w.ctx()); err != nil || r.Epoch() != 4 || theirs[0].Epoch() != 4 {
		t.Errorf("epochs %d and %d: %v", r.Epoch(), theirs[0].Epoch(), err)
	}
	publish(t, w, theirs[0], "on we go")
	proofs, err := bob.Proofs(r.ID())
	if err != nil || len(proofs) != 1 || proofs[0].Fork.Equivocation() {
		t.Errorf("bob blames %v, %v", proofs, err)
	}
}
