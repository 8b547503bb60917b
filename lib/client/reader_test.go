package client

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// sealed makes a frame of alice's in the room's head, sent at a time, and
// returns it as it would come.
func (p *pair) sealed(t *testing.T, session bus.SessionID, seq bus.Seq, sent time.Time, body string) rawFrame {
	t.Helper()
	head, key, _ := p.room.model.current()
	s, err := frame.NewSealer(p.alice.identity(), head, key, session, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := s.Seal(nil, seq, sent, []frame.Record{{Body: []byte(body)}})
	if err != nil {
		t.Fatal(err)
	}
	return rawFrame{sender: p.alice.id.Token(), data: data, streamSeq: 1}
}

// reader begins to read bob's room without a loop. Alice's key is known.
func (p *pair) reader(t *testing.T, from From) *reader {
	t.Helper()
	p.bob.signers.Store(p.alice.id, p.alice.identity().SignPub())
	rd, err := p.theirs.newReader(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.release)
	return rd
}

// give has a reader accept a frame and returns what it hands out at once.
func (rd *reader) give(raw rawFrame) (bodies []string, err error) {
	rd.accept(raw, func(m *Message, failure error) bool {
		if failure == nil {
			bodies = append(bodies, string(m.Body))
		}
		err = errors.Join(err, failure)
		return true
	})
	return bodies, err
}

// A frame that names an epoch that nobody knows, and is not what its subject
// says, is refused at once: nothing is fetched for it, and nobody waits.
func TestMisdirectedFrameHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	const (
		suiteAt  = 4
		roomAt   = 6
		epochAt  = roomAt + 32
		senderAt = epochAt + 8 + 8
	)
	for i, c := range []struct {
		name  string
		touch func(raw *rawFrame)
		want  error
	}{
		{"another room", func(raw *rawFrame) { raw.data[roomAt] ^= 1 }, bus.ErrMisrouted},
		{"another sender", func(raw *rawFrame) { raw.data[senderAt] ^= 1 }, bus.ErrMisrouted},
		{"the subject of another", func(raw *rawFrame) { raw.sender = p.bob.id.Token() }, bus.ErrMisrouted},
		{"another suite", func(raw *rawFrame) { raw.data[suiteAt] ^= 3 }, bus.ErrPolicy},
	} {
		t.Run(c.name, func(t *testing.T) {
			rd := p.reader(t, Now)
			session := bus.SessionID{byte(i + 1)}
			lie := p.sealed(t, session, 0, time.Now(), "lie")
			lie.data[epochAt] = 1
			c.touch(&lie)
			if bodies, err := rd.give(lie); !errors.Is(err, c.want) || len(bodies) > 0 {
				t.Errorf("read %q, %v", bodies, err)
			}
			if rd.fetched != nil || rd.waiting.Len() > 0 || len(rd.waits) > 0 {
				t.Errorf("%d frames wait", rd.waiting.Len())
			}
			bodies, err := rd.give(p.sealed(t, session, 0, time.Now(), "truth"))
			if err != nil || len(bodies) != 1 || bodies[0] != "truth" {
				t.Errorf("then read %q, %v", bodies, err)
			}
		})
	}
}

// A reader that begins now takes nothing for new that another one has had, nor
// what was signed long before: a server can store or send both again.
func TestNowRefusesWhatIsOld(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	old, now := p.later()
	cur := p.cursor(t)
	session := bus.SessionID{1}
	first := p.reader(t, Now)
	early := p.sealed(t, session, 5, now, "pay 100")
	copies := [][]byte{slices.Clone(early.data), slices.Clone(early.data), slices.Clone(early.data)}
	if bodies, err := first.give(early); err != nil || len(bodies) != 1 {
		t.Fatalf("read %q, %v", bodies, err)
	}
	if bodies, err := first.give(rawFrame{sender: early.sender, data: copies[2], streamSeq: 2}); err != nil || len(bodies) != 0 {
		t.Errorf("twice in one iteration: %q, %v", bodies, err)
	}
	for i, from := range []From{Now, cur} {
		rd := p.reader(t, from)
		if bodies, err := rd.give(rawFrame{sender: early.sender, data: copies[i], streamSeq: 2}); !errors.Is(err, bus.ErrReplay) || len(bodies) != 0 {
			t.Errorf("%T: what another iteration had: %q, %v", from, bodies, err)
		}
		stale := p.sealed(t, bus.SessionID{2, byte(i)}, 0, old, "pay 200")
		if bodies, err := rd.give(stale); !errors.Is(err, bus.ErrReplay) || len(bodies) != 0 {
			t.Errorf("%T: what was sent long before: %q, %v", from, bodies, err)
		}
		next := p.sealed(t, session, bus.Seq(6+i), now, "next")
		if bodies, err := rd.give(next); err != nil || len(bodies) != 1 {
			t.Errorf("%T: what follows: %q, %v", from, bodies, err)
		}
		// What was missing of a session and comes late is new all the same.
		late := p.sealed(t, session, bus.Seq(3+i), now, "late")
		if bodies, err := rd.give(late); err != nil || len(bodies) != 1 {
			t.Errorf("%T: what nobody had: %q, %v", from, bodies, err)
		}
	}
	// The past is read by those who ask for it.
	stored := p.sealed(t, bus.SessionID{3}, 0, old, "stored")
	if bodies, err := p.reader(t, Start).give(stored); err != nil || len(bodies) != 1 {
		t.Errorf("from the start: %q, %v", bodies, err)
	}
}

// later has bob's clock, as far as it is about reading, go ahead so much that
// what is sent at old is of a time before he begins, which is now.
func (p *pair) later() (old, now time.Time) {
	old = time.Now()
	now = old.Add(sentBefore + time.Minute)
	p.bob.config.Now = func() time.Time { return now }
	return old, now
}

// cursor opens a cursor of bob's that begins now.
func (p *pair) cursor(t *testing.T) *Cursor {
	t.Helper()
	cur, err := p.theirs.OpenCursor(t.Context(), "now", Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cur.Close(); err != nil {
			t.Error(err)
		}
	})
	return cur
}

// A cursor that began now knows when that was, whoever opens it.
func TestCursorRemembersWhenItBegan(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	old, now := p.later()
	cur := p.cursor(t)
	rd := p.reader(t, cur)
	raw := p.sealed(t, bus.SessionID{1}, 0, now, "new")
	raw.streamSeq = cur.next
	rd.accept(raw, func(m *Message, err error) bool {
		if err == nil {
			err = cur.Ack(m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
	rd.release()
	if err := cur.Close(); err != nil {
		t.Fatal(err)
	}
	again := p.cursor(t)
	rd = p.reader(t, again)
	stale := p.sealed(t, bus.SessionID{2}, 0, old, "old")
	stale.streamSeq = again.next
	if bodies, err := rd.give(stale); !errors.Is(err, bus.ErrReplay) || len(bodies) != 0 {
		t.Errorf("read %q, %v", bodies, err)
	}
}
