package frame

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
)

func orderFrame(session byte, seq bus.Seq, size int) *Opened {
	return &Opened{Header: Header{Sender: bus.ID{session}, Session: bus.SessionID{session}, Seq: seq}, Size: size}
}

// show writes deliveries as "a1 a2 a[3-4] a5 a3*": frames, a gap, a late frame.
func show(ds []Delivery) string {
	var out []string
	for _, d := range ds {
		switch {
		case d.Gap != nil:
			out = append(out, fmt.Sprintf("%c[%d-%d]", d.Gap.Session[0], d.Gap.From, d.Gap.To))
		case d.Late:
			out = append(out, fmt.Sprintf("%c%d*", d.Frame.Header.Session[0], d.Frame.Header.Seq))
		default:
			out = append(out, fmt.Sprintf("%c%d", d.Frame.Header.Session[0], d.Frame.Header.Seq))
		}
	}
	return strings.Join(out, " ")
}

func TestOrder(t *testing.T) {
	const quarter = bus.ReorderBytes / 4
	for _, v := range []struct {
		name    string
		heights []Height
		// steps: "a1" pushes a frame of 100 bytes, "A1" one of a quarter of what
		// may be held, "+5s" lets time pass and ticks, "flush" flushes.
		steps []string
		want  []string
	}{
		{"in order", nil, []string{"a0", "a1", "a2"}, []string{"a0", "a1", "a2"}},
		{"begins where it is first seen", nil, []string{"a7", "a8"}, []string{"a7", "a8"}},
		{"before the beginning is late", nil, []string{"a7", "a6"}, []string{"a7", "a6*"}},
		{"goes on after its height", []Height{{bus.ID{'a'}, bus.SessionID{'a'}, 4}}, []string{"a6", "a5", "a4"}, []string{"", "a5 a6", "a4*"}},
		{"swapped", nil, []string{"a0", "a2", "a1"}, []string{"a0", "", "a1 a2"}},
		{"reversed", nil, []string{"a0", "a4", "a3", "a2", "a1"}, []string{"a0", "", "", "", "a1 a2 a3 a4"}},
		{"sessions do not wait for each other", nil, []string{"a0", "b0", "a2", "b1", "a1"}, []string{"a0", "b0", "", "b1", "a1 a2"}},
		{"gap after the wait", nil, []string{"a0", "a2", "+9s", "+1s", "a3"}, []string{"a0", "", "", "a[1-1] a2", "a3"}},
		{"late after the gap", nil, []string{"a0", "a3", "+10s", "a2", "a4", "a1"}, []string{"a0", "", "a[1-2] a3", "a2*", "a4", "a1*"}},
		{"one hole gives way, the next waits", nil, []string{"a0", "a2", "+4s", "a4", "+6s", "+4s"}, []string{"a0", "", "", "", "a[1-1] a2", "a[3-3] a4"}},
		{"what came early behind two holes takes both", nil, []string{"a0", "a4", "+4s", "a2", "+6s"}, []string{"a0", "", "", "", "a[1-1] a2 a[3-3] a4"}},
		{"a filled hole starts the wait of the next anew", nil, []string{"a0", "a2", "+5s", "a4", "a1", "+5s", "+5s"}, []string{"a0", "", "", "", "a1 a2", "", "a[3-3] a4"}},
		{"gap after too many bytes", nil, []string{"a0", "A2", "A3", "A4", "A5", "A6"}, []string{"a0", "", "", "", "", "a[1-1] a2 a3 a4 a5 a6"}},
		{"the session that holds most gives way", nil, []string{"a0", "b0", "a2", "B2", "B3", "B4", "B6"}, []string{"a0", "b0", "", "", "", "", "b[1-1] b2 b3 b4"}},
		{"several gaps", nil, []string{"a0", "a2", "a4", "a9", "flush"}, []string{"a0", "", "", "", "a[1-1] a2 a[3-3] a4 a[5-8] a9"}},
		{"flush of sessions, who waits longest first", nil, []string{"a0", "b0", "b2", "+1s", "a2", "flush"}, []string{"a0", "b0", "", "", "", "b[1-1] b2 a[1-1] a2"}},
		{"a frame given twice while it waits", nil, []string{"a0", "a2", "a2", "a1"}, []string{"a0", "", "", "a1 a2"}},
		{"a frame given twice after it was delivered", nil, []string{"a0", "a1", "a1", "a2"}, []string{"a0", "a1", "a1*", "a2"}},
		{"the last seq there is", nil, []string{"a18446744073709551613", "a18446744073709551615", "a18446744073709551614", "a0"}, []string{"a18446744073709551613", "", "a18446744073709551614 a18446744073709551615", "a0*"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			o, now := NewOrder(v.heights), start
			var got []string
			for _, step := range v.steps {
				if d, err := time.ParseDuration(step); err == nil {
					now = now.Add(d)
					got = append(got, show(o.Tick(now)))
					continue
				}
				if step == "flush" {
					got = append(got, show(o.Flush()))
					continue
				}
				var name byte
				var seq bus.Seq
				if _, err := fmt.Sscanf(step, "%c%d", &name, &seq); err != nil {
					t.Fatal(err)
				}
				size := 100
				if name < 'a' {
					name, size = name+'a'-'A', quarter
				}
				got = append(got, show(o.Push(orderFrame(name, seq, size), now)))
			}
			if diff := cmp.Diff(v.want, got); diff != "" {
				t.Errorf("deliveries (-want +have):\n%s", diff)
			}
		})
	}
}

func TestDeadlineIsWhenTheNextTickDelivers(t *testing.T) {
	o, now := NewOrder(nil), start
	if _, ok := o.Deadline(); ok {
		t.Error("a deadline while nothing waits")
	}
	o.Push(orderFrame('a', 0, 1), now)
	o.Push(orderFrame('b', 0, 1), now)
	o.Push(orderFrame('a', 2, 1), now.Add(2*time.Second))
	o.Push(orderFrame('b', 2, 1), now.Add(time.Second))
	for _, want := range []string{"b[1-1] b2", "a[1-1] a2"} {
		at, ok := o.Deadline()
		if !ok {
			t.Fatal("no deadline while frames wait")
		}
		if got := show(o.Tick(at.Add(-1))); got != "" {
			t.Errorf("delivered %s before the deadline", got)
		}
		if got := show(o.Tick(at)); got != want {
			t.Errorf("delivered %q at the deadline, want %q", got, want)
		}
	}
	if _, ok := o.Deadline(); ok {
		t.Error("a deadline after everything was delivered")
	}
}

// modelOrder is what an Order does, without sorting or counting ahead.
type modelOrder struct {
	last map[byte]bus.Seq
	held map[byte]map[bus.Seq]modelHeld
}

type modelHeld struct {
	size int
	at   time.Time
}

func (m *modelOrder) since(s byte) (at time.Time) {
	for _, h := range m.held[s] {
		if at.IsZero() || h.at.Before(at) {
			at = h.at
		}
	}
	return at
}

func (m *modelOrder) bytes(s byte) (n int) {
	for _, h := range m.held[s] {
		n += h.size
	}
	return n
}

// run delivers what follows without a hole.
func (m *modelOrder) run(s byte) (out []string) {
	for {
		next := m.last[s] + 1
		if _, ok := m.held[s][next]; !ok {
			return out
		}
		delete(m.held[s], next)
		m.last[s] = next
		out = append(out, fmt.Sprintf("%c%d", s, next))
	}
}

// skip gives up the first hole and delivers what follows it.
func (m *modelOrder) skip(s byte) []string {
	lowest := bus.Seq(1<<64 - 1)
	for seq := range m.held[s] {
		lowest = min(lowest, seq)
	}
	gap := fmt.Sprintf("%c[%d-%d]", s, m.last[s]+1, lowest-1)
	m.last[s] = lowest - 1
	return append([]string{gap}, m.run(s)...)
}

// waiting lists the sessions that hold frames, who waits longest first.
func (m *modelOrder) waiting() (out []byte) {
	for s := range byte(128) {
		if len(m.held[s]) > 0 {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b byte) int { return m.since(a).Compare(m.since(b)) })
	return out
}

func (m *modelOrder) push(s byte, seq bus.Seq, size int, now time.Time) (out []string) {
	if m.held[s] == nil {
		m.held[s] = map[bus.Seq]modelHeld{}
		m.last[s] = seq
		return []string{fmt.Sprintf("%c%d", s, seq)}
	}
	if seq <= m.last[s] {
		return []string{fmt.Sprintf("%c%d*", s, seq)}
	}
	m.held[s][seq] = modelHeld{size, now}
	out = m.run(s)
	for {
		total, most := 0, byte(0)
		for _, s := range m.waiting() {
			total += m.bytes(s)
			if most == 0 || m.bytes(s) > m.bytes(most) {
				most = s
			}
		}
		if total <= bus.ReorderBytes {
			return out
		}
		out = append(out, m.skip(most)...)
	}
}

func (m *modelOrder) tick(now time.Time) (out []string) {
	for _, s := range m.waiting() {
		for len(m.held[s]) > 0 && now.Sub(m.since(s)) >= bus.ReorderWait {
			out = append(out, m.skip(s)...)
		}
	}
	return out
}

func TestOrderDoesWhatItsModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, m := NewOrder(nil), &modelOrder{map[byte]bus.Seq{}, map[byte]map[bus.Seq]modelHeld{}}
		now := start
		pushed := map[string]bool{}
		delivered := map[string]bool{}
		collect := func(got, want string) {
			if got != want {
				t.Fatalf("delivered %q, want %q", got, want)
			}
			for f := range strings.FieldsSeq(got) {
				if strings.Contains(f, "[") {
					continue
				}
				f = strings.TrimSuffix(f, "*")
				if delivered[f] {
					t.Fatalf("%s is delivered twice", f)
				}
				delivered[f] = true
			}
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
				now = now.Add(time.Duration(rapid.IntRange(0, 12_000).Draw(t, "ms")) * time.Millisecond)
				collect(show(o.Tick(now)), strings.Join(m.tick(now), " "))
				if at, ok := o.Deadline(); ok && !at.After(now) {
					t.Fatalf("something is due at %s, after the tick at %s", at, now)
				}
				continue
			}
			s := "abc"[rapid.IntRange(0, 2).Draw(t, "session")]
			seq := m.last[s] + bus.Seq(rapid.IntRange(0, 8).Draw(t, "ahead"))
			if back := bus.Seq(rapid.SampledFrom([]int{0, 0, 0, 3}).Draw(t, "behind")); back <= seq {
				seq -= back
			}
			name := fmt.Sprintf("%c%d", s, seq)
			if pushed[name] {
				continue
			}
			pushed[name] = true
			size := rapid.SampledFrom([]int{300, 256 << 10, 1 << 20}).Draw(t, "size")
			collect(show(o.Push(orderFrame(s, seq, size), now)), strings.Join(m.push(s, seq, size, now), " "))
			if o.bytes > bus.ReorderBytes {
				t.Fatalf("%d bytes are held", o.bytes)
			}
		}
		for _, d := range o.Flush() {
			if d.Frame != nil {
				delivered[fmt.Sprintf("%c%d", d.Frame.Header.Session[0], d.Frame.Header.Seq)] = true
			}
		}
		if diff := cmp.Diff(pushed, delivered); diff != "" {
			t.Errorf("delivered in all (-pushed +delivered):\n%s", diff)
		}
		if o.bytes != 0 || len(o.waiting) != 0 {
			t.Errorf("%d bytes of %d sessions are left", o.bytes, len(o.waiting))
		}
	})
}

func TestOrderForgetsTheSessionsOfWhoHasMost(t *testing.T) {
	o := NewOrder(nil)
	o.Push(orderFrame('a', 5, 1), start)
	out := o.Push(orderFrame('m', 0, 1), start)
	out = append(out, o.Push(orderFrame('m', 2, 1), start)...)
	if got := show(out); got != "m0" {
		t.Fatalf("delivered %s", got)
	}
	var lost []Delivery
	for i := range maxSessions {
		f := &Opened{Header: Header{Sender: bus.ID{'m'}, Session: bus.SessionID{'x', byte(i), byte(i >> 8)}}}
		lost = append(lost, o.Push(f, start)[1:]...)
	}
	if got := show(lost); got != "m[1-1] m2" {
		t.Errorf("forgotten sessions delivered %q", got)
	}
	if got := len(o.Heights()); got != maxSessions {
		t.Errorf("%d sessions are remembered, want %d", got, maxSessions)
	}
	if got := show(o.Push(orderFrame('a', 4, 1), start)); got != "a4*" {
		t.Errorf("another sender's session was forgotten: %s", got)
	}
}

func TestOrderHeightsAreWhatWasDelivered(t *testing.T) {
	o := NewOrder(nil)
	for _, seq := range []bus.Seq{0, 1, 4, 5} {
		o.Push(orderFrame('a', seq, 1), start)
	}
	a := Height{bus.ID{'a'}, bus.SessionID{'a'}, 1}
	if diff := cmp.Diff([]Height{a}, o.Heights()); diff != "" {
		t.Errorf("while two wait (-want +have):\n%s", diff)
	}
	o.Flush()
	a.Seq = 5
	if diff := cmp.Diff([]Height{a}, o.Heights()); diff != "" {
		t.Errorf("after the gap (-want +have):\n%s", diff)
	}
}

func TestFetchQueueIsBounded(t *testing.T) {
	var q FetchQueue[int]
	for i := range bus.FetchQueueFrames {
		if !q.Add(i, 1) {
			t.Fatalf("no room for frame %d", i)
		}
	}
	if q.Add(-1, 1) {
		t.Error("room for one more frame than there may be")
	}
	if n := q.Len(); n != bus.FetchQueueFrames {
		t.Errorf("%d frames wait", n)
	}
	if got := q.Take(); len(got) != bus.FetchQueueFrames || got[0] != 0 || got[len(got)-1] != bus.FetchQueueFrames-1 {
		t.Errorf("took %d frames in another order", len(got))
	}
	for i := range bus.FetchQueueBytes / bus.MaxFrameSize {
		if !q.Add(i, bus.MaxFrameSize) {
			t.Fatalf("no room for frame %d of %d bytes", i, bus.MaxFrameSize)
		}
	}
	if q.Add(0, 1) {
		t.Error("room for a byte more than there may be")
	}
}
