package client_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
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
)

// watched is a client behind a proxy, and the lies it noticed.
type watched struct {
	*client.Client
	control *controlProxy
	data    *dataProxy

	mu   sync.Mutex
	lies []error
}

func (w *world) watched(id *identity.Identity, change func(*client.Config)) *watched {
	w.t.Helper()
	v := &watched{control: newControlProxy(w.t, w.node.URL()), data: newDataProxy(w.t, w.node.ServerURL())}
	v.Client = w.dial(id, func(c *client.Config) {
		c.URLs, c.Servers = []string{v.control.URL}, []string{v.data.URL}
		c.OnEvent = func(e client.Event) {
			if e.Kind == client.EventSecurity {
				v.mu.Lock()
				v.lies = append(v.lies, e.Err)
				v.mu.Unlock()
			}
		}
		if change != nil {
			change(c)
		}
	})
	return v
}

// edit changes the JSON of an answer.
func edit[T any](t *testing.T, body []byte, change func(*T)) []byte {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		t.Errorf("answer %.200q: %v", body, err)
		return body
	}
	change(&v)
	out, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return out
}

func TestSwappedCardIsNotSealedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.watched(w.addUser("alice"), nil)
	bob := w.user("bob")
	r, _ := w.room(alice.Client, "team")
	alice.control.set(func(req *http.Request, body []byte) []byte {
		if req.Method != http.MethodGet || req.URL.Path != api.CardPath(bob.ID()) {
			return body
		}
		card, err := identity.NewCard(malloryIdentity(t), w.root.BusID(), nowSecond(), nowSecond().Add(bus.MaxCardLife))
		if err != nil {
			t.Error(err)
			return body
		}
		return edit(t, body, func(c *api.Card) { c.Card = card.Bytes() })
	})
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleWriter); !errors.Is(err, bus.ErrCardMismatch) {
		t.Errorf("invite: %v", err)
	}
	if r.Epoch() != 0 || len(r.Members()) != 1 {
		t.Errorf("epoch %d, members %v", r.Epoch(), r.Members())
	}
	alice.control.set(nil)
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleWriter); err != nil {
		t.Error(err)
	}
}

func TestOlderCardIsARollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.addUser("bob")
	first, err := identity.NewCard(id, w.root.BusID(), nowSecond(), nowSecond().Add(bus.MaxCardLife))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := id.AddKEM(rand.Reader); err != nil {
		t.Fatal(err)
	}
	bob := w.dial(id, nil) // shows card 2
	alice, dir := w.addUser("alice"), t.TempDir()
	for _, old := range []bool{false, true} {
		// Each has no card in memory, and both have the same state.
		c := w.watched(alice, func(c *client.Config) { c.StateDir = dir })
		r, _ := w.room(c.Client, "team")
		if old {
			c.control.set(func(req *http.Request, body []byte) []byte {
				if req.URL.Path != api.CardPath(bob.ID()) {
					return body
				}
				return edit(t, body, func(c *api.Card) { c.Card = first.Bytes() })
			})
		}
		err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleWriter)
		if old && !errors.Is(err, bus.ErrRollback) || !old && err != nil {
			t.Errorf("old card %t: %v", old, err)
		}
	}
}

func TestSwappedSealedKeyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	r, theirs := w.room(alice, "team", bob.Client)
	in := w.read(theirs[0], client.Now)
	publish(t, w, r, "one")
	in.bodies(1)
	bob.control.set(func(req *http.Request, body []byte) []byte {
		if !strings.Contains(req.URL.Path, "/keys/") {
			return body
		}
		return edit(t, body, func(k *api.SealedKey) { k.Blob[len(k.Blob)-1] ^= 1 })
	})
	if err := r.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	publish(t, w, r, "two")
	in.failure(bus.ErrSealedMismatch)
	if err := theirs[0].Refresh(w.ctx()); !errors.Is(err, bus.ErrSealedMismatch) {
		t.Errorf("refresh: %v", err)
	}
	if theirs[0].Epoch() != 1 {
		t.Errorf("epoch %d", theirs[0].Epoch())
	}
	// A record that may have removed somebody is there: nothing goes out under
	// the key of the one before.
	if _, err := theirs[0].Publish(w.ctx(), []byte("secret")); !errors.Is(err, bus.ErrSealedMismatch) {
		t.Errorf("publish: %v", err)
	}
	var stored []string
	for m, err := range r.Messages(w.ctx(), client.Stored) {
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, string(m.Body))
	}
	if diff := cmp.Diff([]string{"one", "two"}, stored); diff != "" {
		t.Errorf("stored meanwhile (-want +have):\n%s", diff)
	}
	in.mu.Lock()
	n := len(in.msgs)
	in.mu.Unlock()
	if n != 1 {
		t.Errorf("%d messages were released", n)
	}
	bob.control.set(nil)
	if err := theirs[0].Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, w.read(theirs[0], client.Start).bodies(2)); diff != "" {
		t.Error(diff)
	}
}

func TestGhostMemberIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	r, theirs := w.room(alice, "team", bob.Client)
	bob.control.set(func(req *http.Request, body []byte) []byte {
		if !strings.HasSuffix(req.URL.Path, "/records") {
			return body
		}
		return edit(t, body, func(l *api.RecordList) {
			for i := range l.Records {
				ghost := slices.Clone(l.Records[i].Members[4:][:97])
				ghost[0], ghost[64] = 0xff, byte(bus.RoleReader) // so that no other check helps
				m := append(slices.Clone(l.Records[i].Members), ghost...)
				m[2], m[3] = byte((len(m)-4)>>8), byte(len(m)-4)
				l.Records[i].Members = m
			}
		})
	})
	if err := r.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := theirs[0].Refresh(w.ctx()); !errors.Is(err, bus.ErrMembersMismatch) {
		t.Errorf("refresh: %v", err)
	}
	if theirs[0].Epoch() != 1 || len(theirs[0].Members()) != 2 {
		t.Errorf("epoch %d, members %v", theirs[0].Epoch(), theirs[0].Members())
	}
}

func TestRolledBackRoomIsRefusedAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, dir := w.addUser("bob"), t.TempDir()
	bob := w.dial(id, func(c *client.Config) { c.StateDir = dir })
	r, _ := w.room(alice, "team", bob)
	if err := r.Rotate(w.ctx()); err != nil {
		t.Fatal(err)
	}
	theirs, err := bob.Room(w.ctx(), "team")
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Refresh(w.ctx()); err != nil || theirs.Epoch() != 2 {
		t.Fatalf("epoch %d, %v", theirs.Epoch(), err)
	}
	w.close(bob)
	again := w.watched(id, func(c *client.Config) { c.StateDir = dir })
	again.control.set(func(req *http.Request, body []byte) []byte {
		if !strings.HasSuffix(req.URL.Path, "/records") {
			return body
		}
		from, err := strconv.Atoi(req.URL.Query().Get("from"))
		if err != nil {
			t.Error(err)
		}
		return edit(t, body, func(l *api.RecordList) { l.Records, l.Head = l.Records[:max(0, 2-from)], 1 })
	})
	if _, err := again.Room(w.ctx(), "team"); !errors.Is(err, bus.ErrRollback) {
		t.Errorf("rolled back: %v", err)
	}
	again.control.set(nil)
	if _, err := again.Room(w.ctx(), "team"); err != nil {
		t.Error(err)
	}
}

// The data plane changes, doubles and misattributes frames of a live room.
func TestFramesThatWereTouchedAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	carol := w.user("carol")
	policy := bus.DefaultPolicy()
	policy.Flags &^= bus.FlagPersist
	r, err := alice.CreateRoom(w.ctx(), "live", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	theirs := w.invite(r, bob.Client, carol)
	in := w.read(theirs[0], client.Now)
	bob.data.set(func(d delivery) []delivery { return []delivery{d, d, d} })
	publish(t, w, r, "first", "doubled", "last")
	if diff := cmp.Diff([]string{"first", "doubled", "last"}, in.bodies(3)); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		name string
		lie  func(d delivery) []delivery
		want error
	}{
		{"another sender", func(d delivery) []delivery {
			d.subject = strings.Replace(d.subject, alice.ID().Token(), carol.ID().Token(), 1)
			return []delivery{d}
		}, bus.ErrMisrouted},
		{"ciphertext", func(d delivery) []delivery {
			d.payload[len(d.payload)-70] ^= 1
			return []delivery{d}
		}, bus.ErrDecrypt},
		{"signature", func(d delivery) []delivery {
			d.payload[len(d.payload)-1] ^= 1
			return []delivery{d}
		}, bus.ErrBadSignature},
		{"cut short", func(d delivery) []delivery {
			d.payload = d.payload[:len(d.payload)-1]
			return []delivery{d}
		}, bus.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			bob.data.set(func(d delivery) []delivery {
				if !strings.HasPrefix(d.subject, "ub.l.") {
					return []delivery{d}
				}
				return c.lie(d)
			})
			publish(t, w, r, c.name)
			in.failure(c.want)
		})
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.msgs) != 3 {
		t.Errorf("%d messages were released", len(in.msgs))
	}
}

func TestRetriesKeepBytesAndID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.watched(w.addUser("alice"), nil)
	r, _ := w.room(alice.Client, "log")
	publish(t, w, r, "zero")
	var mu sync.Mutex
	var attempts []sent
	alice.data.watch(func(s sent) {
		if strings.HasPrefix(s.subject, "ub.d.") {
			mu.Lock()
			defer mu.Unlock()
			attempts = append(attempts, s)
		}
	})
	lost := 0
	alice.data.set(func(d delivery) []delivery {
		if strings.Contains(d.subject, ".a.") {
			mu.Lock()
			defer mu.Unlock()
			if lost++; lost <= 2 {
				return nil
			}
		}
		return []delivery{d}
	})
	receipt, err := r.Publish(w.ctx(), []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(attempts) < 3 {
		t.Fatalf("%d attempts", len(attempts))
	}
	for _, a := range attempts[1:] {
		if diff := cmp.Diff(attempts[0], a, cmp.AllowUnexported(sent{})); diff != "" {
			t.Errorf("a retry differs: %s", diff)
		}
	}
	if receipt.StreamSeq != 2 {
		t.Errorf("stored at %d", receipt.StreamSeq)
	}
	alice.data.set(nil)
	if diff := cmp.Diff([]string{"zero", "one"}, w.read(r, client.Start).bodies(2)); diff != "" {
		t.Error(diff)
	}
}

func TestPoisonedDedupIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.watched(w.addUser("alice"), nil)
	r, _ := w.room(alice.Client, "log")
	alice.data.set(func(d delivery) []delivery {
		if strings.Contains(d.subject, ".a.") {
			d.payload = []byte(`{"stream":"` + bus.Stream(bus.Shard(r.ID())) + `","seq":1,"duplicate":true}`)
		}
		return []delivery{d}
	})
	if _, err := r.Publish(w.ctx(), []byte("one")); !errors.Is(err, bus.ErrDedupPoisoned) {
		t.Errorf("publish: %v", err)
	}
}

// A frame that the connection loses between server and reader is fetched again.
func TestHoleInAConsumerIsFilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	r, theirs := w.room(alice, "log", bob.Client)
	in := w.read(theirs[0], client.Now)
	n := 0
	bob.data.set(func(d delivery) []delivery {
		if strings.HasPrefix(d.subject, "ub.d.") {
			if n++; n == 2 {
				return nil
			}
		}
		return []delivery{d}
	})
	publish(t, w, r, "one", "two", "three")
	if diff := cmp.Diff([]string{"one", "two", "three"}, in.bodies(3)); diff != "" {
		t.Error(diff)
	}
}

func TestBrokenConnectionLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.watched(w.addUser("alice"), nil)
	bob := w.watched(w.addUser("bob"), nil)
	r, theirs := w.room(alice.Client, "log", bob.Client)
	in := w.read(theirs[0], client.Now)
	var want []string
	for i := range 30 {
		want = append(want, strings.Repeat("x", i))
		publish(t, w, r, want[i])
		switch i % 10 {
		case 3:
			alice.data.Cut()
		case 7:
			bob.data.Cut()
		}
	}
	if diff := cmp.Diff(want, in.bodies(len(want))); diff != "" {
		t.Error(diff)
	}
}

// swapHandle has a server say that a handle is somebody else.
func swapHandle(t *testing.T, handle bus.Handle, other *client.Client) func(*http.Request, []byte) []byte {
	return func(req *http.Request, body []byte) []byte {
		if req.URL.Path != api.HandlePath(handle) {
			return body
		}
		return edit(t, body, func(i *api.HandleInfo) { i.ID, i.SignPub = other.ID(), other.SignPub() })
	}
}
