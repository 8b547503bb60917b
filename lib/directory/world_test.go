package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
	"github.com/enmanuel/unibus/lib/store/sqlite"
)

func TestMain(m *testing.M) {
	// Each check of a property opens a store of its own; -rapid.checks has more.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// world is a directory over a real store whose writes can be made to fail,
// with a clock that stands still until it is moved.
type world struct {
	*testing.T
	ctx    context.Context
	faults *faults
	dir    *Directory
	bus    bus.BusID
	root   *identity.Root

	mu    sync.Mutex
	clock time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "unibus.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, ctx: ctx, faults: &faults{Store: s}, bus: root.BusID(), root: root,
		clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.dir = New(w.faults, w.bus, w.now)
	return w
}

// restarted returns a second directory over the same store, as a process that
// starts after a crash has it.
func (w *world) restarted() *Directory { return New(w.faults, w.bus, w.now) }

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

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// want checks the code of an error.
func want(t *testing.T, err error, code bus.Code) {
	t.Helper()
	if bus.CodeOf(err) != code {
		t.Fatalf("error is %v (%s), want %s", err, bus.CodeOf(err), code)
	}
}

// person is an identity with a card.
type person struct {
	*identity.Identity
	card *identity.Card
}

func (w *world) stranger() person {
	w.Helper()
	id, err := identity.Generate(rand.Reader)
	w.must(err)
	return person{id, w.newCard(id)}
}

func (w *world) newCard(id *identity.Identity) *identity.Card {
	w.Helper()
	c, err := identity.NewCard(id, w.bus, w.now(), w.now().Add(bus.MaxCardLife))
	w.must(err)
	return c
}

// member adds a user and its card.
func (w *world) member(handle bus.Handle) person {
	w.Helper()
	p := w.stranger()
	_, err := w.dir.AddUser(w.ctx, p.SignPub(), handle, bus.UserMember)
	w.must(err)
	w.must(w.dir.PutCard(w.ctx, p.card))
	return p
}

func specs(role bus.Role, people ...person) []room.MemberSpec {
	var list []room.MemberSpec
	for _, p := range people {
		list = append(list, room.MemberSpec{Card: p.card, Role: role})
	}
	return list
}

func draft(owner person, others ...room.MemberSpec) room.Draft {
	return room.Draft{Policy: bus.DefaultPolicy(), Name: "agent.scout", Members: append(specs(bus.RoleOwner, owner), others...)}
}

func (w *world) genesis(owner person, others ...room.MemberSpec) *room.Signed {
	w.Helper()
	s, err := room.Create(owner.Identity, draft(owner, others...), w.now(), rand.Reader)
	w.must(err)
	return s
}

func (w *world) create(owner person, others ...room.MemberSpec) *room.Signed {
	w.Helper()
	s := w.genesis(owner, others...)
	w.must(w.dir.CreateRoom(w.ctx, owner.ID(), s.Record, s.Sealed))
	return s
}

func (w *world) next(head *room.Signed, owner person, others ...room.MemberSpec) *room.Signed {
	w.Helper()
	s, err := room.Next(owner.Identity, head.Record, head.Key, draft(owner, others...), w.now(), rand.Reader)
	w.must(err)
	return s
}

func (w *world) append(head *room.Signed, owner person, others ...room.MemberSpec) *room.Signed {
	w.Helper()
	s := w.next(head, owner, others...)
	w.must(w.dir.AppendRecord(w.ctx, s.Record, s.Sealed))
	return s
}

// fault is what happens to a write.
type fault int

const (
	none    fault = iota
	refused       // it did not happen, and the store says so
	lostNo        // it did not happen, and nobody knows
	lostYes       // it happened, and nobody knows
)

func (f fault) String() string { return [...]string{"none", "refused", "lost before", "lost after"}[f] }

// faults passes everything to a real store, except where it was told otherwise.
type faults struct {
	store.Store

	mu     sync.Mutex
	writes int                                         // since the plan was made
	onGet  func(b store.Bucket, key string) error      // before each read
	on     func(n int, b store.Bucket, k string) fault // before the n-th write, from 1
	watch  []*breakable
}

func (s *faults) plan(f func(n int, b store.Bucket, key string) fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes, s.on = 0, f
}

func (s *faults) failReads(f func(b store.Bucket, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onGet = f
}

func (s *faults) write(b store.Bucket, key string, do func() error) error {
	s.mu.Lock()
	s.writes++
	n, on := s.writes, s.on
	s.mu.Unlock()
	f := none
	if on != nil {
		f = on(n, b, key)
	}
	unknown := bus.Errorf(bus.CodeUnknownOutcome, "write %s: the answer was lost", key)
	switch f {
	case refused:
		return bus.Errorf(bus.CodeUnavailable, "write %s: refused", key)
	case lostNo:
		return unknown
	case lostYes:
		if err := do(); err != nil {
			return err
		}
		return unknown
	}
	return do()
}

func (s *faults) Create(ctx context.Context, b store.Bucket, key string, value []byte, ttl time.Duration) (rev store.Revision, err error) {
	err = s.write(b, key, func() error { rev, err = s.Store.Create(ctx, b, key, value, ttl); return err })
	return rev, err
}

func (s *faults) Update(ctx context.Context, b store.Bucket, key string, value []byte, last store.Revision) (rev store.Revision, err error) {
	err = s.write(b, key, func() error { rev, err = s.Store.Update(ctx, b, key, value, last); return err })
	return rev, err
}

func (s *faults) Delete(ctx context.Context, b store.Bucket, key string, last store.Revision) error {
	return s.write(b, key, func() error { return s.Store.Delete(ctx, b, key, last) })
}

func (s *faults) Get(ctx context.Context, b store.Bucket, key string) (store.Entry, error) {
	s.mu.Lock()
	f := s.onGet
	s.mu.Unlock()
	if f != nil {
		if err := f(b, key); err != nil {
			return store.Entry{}, err
		}
	}
	return s.Store.Get(ctx, b, key)
}

// breakable is a watch that a test can end.
type breakable struct {
	store.Watcher
	mu  sync.Mutex
	err error
}

func (b *breakable) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	return b.Watcher.Err()
}

func (s *faults) Watch(ctx context.Context, b store.Bucket, prefix string) (store.Watcher, error) {
	w, err := s.Store.Watch(ctx, b, prefix)
	if err != nil {
		return nil, err
	}
	broken := &breakable{Watcher: w}
	s.mu.Lock()
	s.watch = append(s.watch, broken)
	s.mu.Unlock()
	return broken, nil
}

// breakWatches ends every watch there is.
func (s *faults) breakWatches() {
	s.mu.Lock()
	watches := s.watch
	s.watch = nil
	s.mu.Unlock()
	for _, w := range watches {
		w.mu.Lock()
		w.err = bus.Errorf(bus.CodeUnavailable, "watch: connection lost")
		w.mu.Unlock()
		w.Stop()
	}
}

// contents returns every key of a bucket.
func (w *world) contents(b store.Bucket) []string {
	w.Helper()
	entries, err := w.faults.List(w.ctx, b, "")
	w.must(err)
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
	}
	return keys
}

// until waits for a condition that another goroutine brings about.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.Fatalf("%s did not come about", what)
		}
	}
}

// parallel runs n functions at once and returns their errors.
func parallel(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	return errs
}

// oneWon checks that exactly one of several succeeded and the others failed with a code.
func oneWon(t *testing.T, errs []error, code bus.Code) (winner int) {
	t.Helper()
	winner = -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("%d and %d both won", winner, i)
		case err == nil:
			winner = i
		case bus.CodeOf(err) != code:
			t.Fatalf("loser %d: %v (%s), want %s", i, err, bus.CodeOf(err), code)
		}
	}
	if winner < 0 {
		t.Fatalf("nobody won: %v", errors.Join(errs...))
	}
	return winner
}

func handleOf(i int) bus.Handle { return bus.Handle(fmt.Sprintf("user-%d", i)) }
