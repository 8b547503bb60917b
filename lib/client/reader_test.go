package client

import (
	"crypto/rand"
	"errors"
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
	return rawFrame{sender: p.alice.id.Token(), data: data}
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
