package frame

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
)

// modelWindow is what a Window does, written down without thought for speed.
type modelWindow struct {
	full    []*modelSession // least recent first
	heights []modelHeight   // least recent first
}

type modelSession struct {
	key      stream
	floor    bus.Seq
	accepted map[bus.Seq]byte
}

type modelHeight struct {
	key stream
	seq bus.Seq
}

func (s *modelSession) highest() (top bus.Seq) {
	for seq := range s.accepted {
		top = max(top, seq)
	}
	return top
}

func (m *modelWindow) check(k stream, seq bus.Seq) string {
	for _, s := range m.full {
		if s.key != k {
			continue
		}
		mark, seen := s.accepted[seq]
		switch top := s.highest(); {
		case seq < s.floor || seq+bus.WindowSize <= top:
			return "replay"
		case seen:
			return fmt.Sprint("seen ", mark)
		}
		return "new"
	}
	for _, h := range m.heights {
		if h.key == k && seq <= h.seq {
			return "replay"
		}
	}
	return "new"
}

func (m *modelWindow) accept(k stream, seq bus.Seq, mark byte) {
	s := &modelSession{key: k, accepted: map[bus.Seq]byte{}}
	m.heights = slices.DeleteFunc(m.heights, func(h modelHeight) bool {
		if h.key == k {
			s.floor = h.seq + 1
		}
		return h.key == k
	})
	m.full = slices.DeleteFunc(m.full, func(old *modelSession) bool {
		if old.key == k {
			s = old
		}
		return old.key == k
	})
	s.accepted[seq] = mark
	m.full = append(m.full, s)
	if len(m.full) > bus.WindowSessions {
		m.heights = append(m.heights, modelHeight{m.full[0].key, m.full[0].highest()})
		m.full = m.full[1:]
	}
}

func (m *modelWindow) restart() {
	for _, s := range m.full {
		m.heights = append(m.heights, modelHeight{s.key, s.highest()})
	}
	m.full = nil
}

func (m *modelWindow) list() (out []Height) {
	for _, h := range m.heights {
		out = append(out, Height{h.key.sender, h.key.session, h.seq})
	}
	for _, s := range m.full {
		out = append(out, Height{s.key.sender, s.key.session, s.highest()})
	}
	return out
}

func TestWindowDoesWhatItsModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, m := NewWindow(nil), &modelWindow{}
		sessions := rapid.SampledFrom([]int{1, 3, 80}).Draw(t, "sessions")
		base := map[stream]bus.Seq{} // seqs are drawn around where a session is
		mark := byte(0)
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			if rapid.IntRange(0, 100).Draw(t, "restart") == 0 {
				w = NewWindow(w.Heights())
				m.restart()
			}
			n := rapid.IntRange(0, sessions-1).Draw(t, "session")
			k := stream{bus.ID{byte(n % 7)}, bus.SessionID{byte(n)}}
			if rapid.IntRange(0, 20).Draw(t, "jump") == 0 {
				base[k] += bus.Seq(rapid.SampledFrom([]int{1, 100, 1023, 1024, 1025, 5000}).Draw(t, "by"))
			}
			seq := base[k] + bus.Seq(rapid.IntRange(0, 6).Draw(t, "ahead"))
			if back := bus.Seq(rapid.SampledFrom([]int{0, 0, 0, 5, 1020, 1023, 1024}).Draw(t, "behind")); back <= seq {
				seq -= back
			}
			want := m.check(k, seq)
			var got string
			switch st, err := w.check(k, seq); {
			case bus.CodeOf(err) == bus.CodeReplay:
				got = "replay"
			case err != nil:
				t.Fatal(err)
			case st != nil:
				got = fmt.Sprint("seen ", st.Digest[0])
			default:
				got = "new"
			}
			if got != want {
				t.Fatalf("session %d, seq %d is %s, want %s", n, seq, got, want)
			}
			if want == "new" {
				mark++
				st := Statement{Digest: [32]byte{mark}}
				w.accept(k, seq, &st)
				m.accept(k, seq, mark)
			}
			if want, got := m.list(), w.Heights(); !slices.Equal(want, got) {
				t.Fatalf("heights (-model +window):\n%s", cmp.Diff(want, got))
			}
		}
	})
}

func TestWindowAtTheEndOfSeqs(t *testing.T) {
	const last = bus.Seq(1<<64 - 1)
	w, k := NewWindow(nil), stream{}
	var st Statement
	for _, seq := range []bus.Seq{last - 1, last} {
		if seen, err := w.check(k, seq); seen != nil || err != nil {
			t.Fatalf("seq %d: %v, %v", seq, seen, err)
		}
		w.accept(k, seq, &st)
	}
	if seen, err := w.check(k, last); seen == nil || err != nil {
		t.Errorf("the last seq again: %v, %v", seen, err)
	}
	w = NewWindow(w.Heights())
	for _, seq := range []bus.Seq{0, last} {
		if _, err := w.check(k, seq); bus.CodeOf(err) != bus.CodeReplay {
			t.Errorf("seq %d after a restart: %v", seq, err)
		}
	}
}

// Whoever opens sessions without end makes its own forgotten.
func TestSessionsWithoutEndForgetOnlyTheirSender(t *testing.T) {
	w := NewWindow(nil)
	alice := stream{bus.ID{1}, bus.SessionID{1}}
	mallory := func(i int) stream { return stream{bus.ID{2}, bus.SessionID{byte(i), byte(i >> 8)}} }
	var st Statement
	w.accept(alice, 41, &st)
	for i := range 2 * maxSessions {
		w.accept(mallory(i), 7, &st)
	}
	for name, w := range map[string]*Window{"before": w, "after a restart": NewWindow(w.Heights())} {
		if n := len(w.Heights()); n != maxSessions {
			t.Errorf("%s: %d sessions are remembered, want %d", name, n, maxSessions)
		}
		if _, err := w.check(alice, 41); bus.CodeOf(err) != bus.CodeReplay {
			t.Errorf("%s: the old frame of another sender is accepted again: %v", name, err)
		}
		if _, err := w.check(mallory(2*maxSessions-200), 7); bus.CodeOf(err) != bus.CodeReplay {
			t.Errorf("%s: a recent session was forgotten: %v", name, err)
		}
	}
}

func TestHeightsGivenTwiceCountOnceAndHighest(t *testing.T) {
	a := Height{Sender: bus.ID{1}, Seq: 9}
	b := Height{Sender: bus.ID{2}, Seq: 3}
	lower := a
	lower.Seq = 4
	want := []Height{b, a}
	if diff := cmp.Diff(want, NewWindow([]Height{a, b, lower}).Heights()); diff != "" {
		t.Errorf("window (-want +have):\n%s", diff)
	}
	if diff := cmp.Diff(want, NewOrder([]Height{a, b, lower}).Heights()); diff != "" {
		t.Errorf("order (-want +have):\n%s", diff)
	}
}
