package directory

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

// operation is something that writes: prepare brings about what it needs, do
// does it, done checks that it is done.
type operation struct {
	name    string
	prepare func(w *world) (do func() error, done func() error)
}

func operations() []operation {
	return []operation{
		{"add user", func(w *world) (do, done func() error) {
			p := w.stranger()
			return func() error { _, err := w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember); return err },
				func() error { _, err := w.dir.Lookup(w.ctx, "alice"); return err }
		}},
		{"revoke user", func(w *world) (do, done func() error) {
			p := w.member("alice")
			return func() error { _, err := w.dir.RevokeUser(w.ctx, p.SignPub()); return err },
				func() error {
					u, err := w.dir.User(w.ctx, p.SignPub())
					if err == nil && u.Active() {
						err = fmt.Errorf("still active")
					}
					return err
				}
		}},
		{"bootstrap admin", func(w *world) (do, done func() error) {
			p := w.stranger()
			return func() error {
					created, err := w.dir.BootstrapAdmin(w.ctx, p.SignPub(), "root")
					if err == nil && !created {
						err = fmt.Errorf("not created")
					}
					return err
				}, func() error {
					u, err := w.dir.User(w.ctx, p.SignPub())
					if err == nil && !u.IsAdmin() {
						err = fmt.Errorf("no admin")
					}
					return err
				}
		}},
		{"put entry", func(w *world) (do, done func() error) {
			p := w.member("alice")
			raw, err := w.root.SignEntry(identity.Entry{BusID: w.bus, Handle: "alice", ID: p.ID(), Seq: 1, NotAfter: w.now().Add(time.Hour)})
			w.must(err)
			return func() error { return w.dir.PutEntry(w.ctx, "alice", raw) },
				func() error {
					n, err := w.dir.Lookup(w.ctx, "alice")
					if err == nil && string(n.Entry) != string(raw) {
						err = fmt.Errorf("entry is %x", n.Entry)
					}
					return err
				}
		}},
		{"put first card", func(w *world) (do, done func() error) {
			p := w.stranger()
			_, err := w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember)
			w.must(err)
			return func() error { return w.dir.PutCard(w.ctx, p.card) }, func() error { return w.hasCard(p.card) }
		}},
		{"put next card", func(w *world) (do, done func() error) {
			p := w.member("alice")
			_, err := p.AddKEM(rand.Reader)
			w.must(err)
			next := w.newCard(p.Identity)
			return func() error { return w.dir.PutCard(w.ctx, next) }, func() error { return w.hasCard(next) }
		}},
		{"create room", func(w *world) (do, done func() error) {
			p := w.member("alice")
			s := w.genesis(p)
			return func() error { return w.dir.CreateRoom(w.ctx, p.ID(), s.Record, s.Sealed) },
				func() error { return w.hasHead(s, p) }
		}},
		{"append record", func(w *world) (do, done func() error) {
			p := w.member("alice")
			s := w.next(w.create(p), p)
			return func() error { return w.dir.AppendRecord(w.ctx, s.Record, s.Sealed) },
				func() error { return w.hasHead(s, p) }
		}},
		{"spend nonce", func(w *world) (do, done func() error) {
			return func() error { return w.dir.SpendNonce(w.ctx, bus.TransportPub{1}, [16]byte{2}) },
				func() error {
					if err := w.dir.SpendNonce(w.ctx, bus.TransportPub{1}, [16]byte{2}); bus.CodeOf(err) != bus.CodeNonceSpent {
						return fmt.Errorf("spent again: %v", err)
					}
					return nil
				}
		}},
		{"renew lease", func(w *world) (do, done func() error) {
			return func() error { return w.dir.RenewLease(w.ctx, "n1") },
				func() error { _, err := w.faults.Get(w.ctx, store.Control, nodeKey("n1")); return err }
		}},
		{"renew lease again", func(w *world) (do, done func() error) {
			w.must(w.dir.RenewLease(w.ctx, "n1"))
			before, err := w.faults.Get(w.ctx, store.Control, nodeKey("n1"))
			w.must(err)
			return func() error { return w.dir.RenewLease(w.ctx, "n1") },
				func() error {
					after, err := w.faults.Get(w.ctx, store.Control, nodeKey("n1"))
					if err == nil && after.Revision == before.Revision {
						err = fmt.Errorf("not renewed")
					}
					return err
				}
		}},
	}
}

func (w *world) hasCard(c *identity.Card) error {
	latest, err := w.dir.Card(w.ctx, c.ID())
	if err == nil && latest.Hash() != c.Hash() {
		err = fmt.Errorf("latest card is %d", latest.Seq)
	}
	return err
}

func (w *world) hasHead(s *room.Signed, member person) error {
	head, err := w.dir.Head(w.ctx, s.Record.Room)
	if err != nil {
		return err
	}
	if head.Hash != s.Record.Hash() {
		return fmt.Errorf("head is %d %s", head.Epoch, head.Hash)
	}
	blob, err := w.dir.SealedKey(w.ctx, s.Record.Room, s.Record.Epoch, member.ID(), bus.CardHash{})
	if err != nil {
		return err
	}
	_, err = s.Record.OpenKey(member.Identity, blob.Blob)
	return err
}

// Every write of every operation has an unknown outcome once, and once it took
// place and once it did not: the operation succeeds and says so.
func TestUnknownOutcomesAreFoundOut(t *testing.T) {
	for _, op := range operations() {
		for _, f := range []fault{lostNo, lostYes} {
			tried := 0
			for at := 1; ; at++ {
				w := newWorld(t)
				do, done := op.prepare(w)
				hit := false
				w.faults.plan(func(n int, _ store.Bucket, _ string) fault {
					if n == at {
						hit = true
						return f
					}
					return none
				})
				if err := do(); err != nil {
					t.Errorf("%s, write %d %s: %v", op.name, at, f, err)
				}
				w.faults.plan(nil)
				if err := done(); err != nil {
					t.Errorf("%s, write %d %s: not done: %v", op.name, at, f, err)
				}
				if !hit {
					break
				}
				tried++
			}
			if tried == 0 {
				t.Errorf("%s makes no write", op.name)
			}
		}
	}
}

// A crash before every write of every operation: doing it again in a new
// process brings it about.
func TestOperationsGoOnAfterACrash(t *testing.T) {
	for _, op := range operations() {
		for at := 1; ; at++ {
			w := newWorld(t)
			do, done := op.prepare(w)
			w.faults.plan(func(n int, _ store.Bucket, _ string) fault {
				if n >= at {
					return refused
				}
				return none
			})
			err := do()
			w.faults.plan(nil)
			if err == nil {
				break
			}
			if bus.CodeOf(err) != bus.CodeUnavailable {
				t.Errorf("%s, crash before write %d: %v", op.name, at, err)
			}
			w.dir = w.restarted()
			if err := do(); err != nil {
				t.Errorf("%s, again after a crash before write %d: %v", op.name, at, err)
			}
			if err := done(); err != nil {
				t.Errorf("%s, again after a crash before write %d: not done: %v", op.name, at, err)
			}
		}
	}
}

// When neither the write nor the read after it is answered, the outcome is
// unknown to the caller too.
func TestUnknownOutcomesAreNotGuessed(t *testing.T) {
	for _, op := range operations() {
		if op.name == "spend nonce" {
			continue // denies; see below
		}
		w := newWorld(t)
		do, _ := op.prepare(w)
		w.faults.plan(func(int, store.Bucket, string) fault {
			w.faults.failReads(func(store.Bucket, string) error {
				return bus.Errorf(bus.CodeUnavailable, "read: no answer")
			})
			return lostYes
		})
		if err := do(); bus.CodeOf(err) != bus.CodeUnknownOutcome {
			t.Errorf("%s: %v (%s)", op.name, err, bus.CodeOf(err))
		}
	}
}

func TestNonceIsNotSpentWithoutTheStore(t *testing.T) {
	for _, f := range []fault{refused, lostNo} {
		w := newWorld(t)
		w.faults.plan(func(int, store.Bucket, string) fault { return f })
		want(t, w.dir.SpendNonce(w.ctx, bus.TransportPub{1}, [16]byte{2}), bus.CodeUnavailable)
	}
}
