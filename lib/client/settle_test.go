package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
)

// file is the file of cursors without a server, or the memory of one.
type file struct{ content []byte }

// aside makes a cursor without a server.
func (f *file) aside(t rapid.TB) *Cursor {
	r := &Room{id: bus.RoomID{1}, client: &Client{config: Config{Now: time.Now}}}
	cur := &Cursor{room: r, saved: cursorState{V: 1, Room: r.id, Next: 1}}
	if f.content != nil {
		cur.saved = cursorState{}
		if err := json.Unmarshal(f.content, &cur.saved); err != nil {
			t.Fatal(err)
		}
	}
	cur.write = func(s cursorState) (err error) {
		f.content, err = json.Marshal(s)
		return err
	}
	return cur
}

// storedFrame is a frame of a stream.
type storedFrame struct {
	session bus.SessionID
	seq     bus.Seq
	total   int
}

// run is an iteration as a reader has it: what was read before is a replay.
type run struct {
	cur     *Cursor
	at      uint64
	heights map[bus.SessionID]bus.Seq
}

func (r *run) begin(t rapid.TB) {
	after, heights, _, err := r.cur.begin()
	if err != nil {
		t.Fatal(err)
	}
	r.at, r.heights = after, map[bus.SessionID]bus.Seq{}
	for _, h := range heights {
		r.heights[h.Session] = h.Seq
	}
}

func (r *run) next(stream []storedFrame) []Message {
	if int(r.at) >= len(stream) || r.cur.crowded() {
		return nil
	}
	f := stream[r.at]
	r.at++
	r.cur.take(r.at)
	if height, known := r.heights[f.session]; known && f.seq <= height {
		r.cur.skip(r.at)
		return nil
	}
	msgs := make([]Message, f.total)
	for i := range msgs {
		msgs[i] = Message{Room: r.cur.room.id, Session: f.session, Seq: f.seq, Index: i, StreamSeq: r.at, Attempt: 1}
	}
	return r.cur.deliver(msgs)
}

// However acknowledgements and new iterations follow one another: what is
// acknowledged never comes again, and what is not comes in every iteration.
func TestOnlyWhatIsAcknowledgedIsDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f file
		var stream []storedFrame
		next := map[bus.SessionID]bus.Seq{}
		for range rapid.IntRange(1, 30).Draw(t, "frames") {
			s := bus.SessionID{byte(rapid.IntRange(1, 3).Draw(t, "session"))}
			stream = append(stream, storedFrame{s, next[s], rapid.IntRange(1, 4).Draw(t, "messages")})
			next[s]++
		}
		type place struct {
			frame uint64
			index int
		}
		acked := map[place]bool{}
		r := run{cur: f.aside(t)}
		r.begin(t)
		var out []*Message
		take := func() {
			for _, m := range r.next(stream) {
				p := place{m.StreamSeq, m.Index}
				if acked[p] {
					t.Fatalf("%+v was acknowledged and comes again", p)
				}
				out = append(out, &m)
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"take", "take", "take", "ack", "ack", "through", "again"}).Draw(t, "step") {
			case "take":
				take()
			case "ack":
				if len(out) > 0 {
					m := rapid.SampledFrom(out).Draw(t, "m")
					if err := r.cur.Ack(m); err != nil {
						t.Fatal(err)
					}
					acked[place{m.StreamSeq, m.Index}] = true
				}
			case "through":
				if len(out) > 0 {
					n := rapid.IntRange(0, len(out)-1).Draw(t, "m")
					if err := r.cur.AckThrough(out[n]); err != nil {
						t.Fatal(err)
					}
					for _, m := range out[:n+1] {
						acked[place{m.StreamSeq, m.Index}] = true
					}
				}
			case "again":
				r.cur.end()
				if rapid.Bool().Draw(t, "process") {
					r.cur = f.aside(t)
				}
				r.begin(t)
				out = nil
			}
		}
		r.cur.end()
		r = run{cur: f.aside(t)}
		r.begin(t)
		out = nil
		for range stream {
			take()
		}
		total := 0
		for _, f := range stream {
			total += f.total
		}
		if len(out)+len(acked) != total {
			t.Fatalf("%d acknowledged and %d come, of %d", len(acked), len(out), total)
		}
		if len(out) == 0 {
			return
		}
		// In the end nothing is left but the heights.
		if err := r.cur.AckThrough(out[len(out)-1]); err != nil {
			t.Fatal(err)
		}
		s := r.cur.saved
		if s.Next != uint64(len(stream))+1 || len(s.Done)+len(s.Parts) > 0 || r.cur.behind != 0 || len(r.cur.frames) > 0 {
			t.Fatalf("left %+v, %d frames, %d behind", s, len(r.cur.frames), r.cur.behind)
		}
	})
}

// One message that takes for ever does not have the cursor remember without
// bound what comes after it.
func TestAStuckMessageHoldsUpTheIteration(t *testing.T) {
	stream := make([]storedFrame, 2*maxBehind)
	for i := range stream {
		stream[i] = storedFrame{bus.SessionID{1}, bus.Seq(i), 1}
	}
	var f file
	r := run{cur: f.aside(t)}
	r.begin(t)
	stuck := r.next(stream)[0]
	n := 0
	for {
		msgs := r.next(stream)
		if len(msgs) == 0 {
			break
		}
		n++
		// As Ack does, without the disk.
		r.cur.mark(r.cur.frames[msgs[0].StreamSeq], 0)
	}
	if n != maxBehind || len(r.cur.frames) != maxBehind+1 {
		t.Fatalf("%d messages behind, %d frames", n, len(r.cur.frames))
	}
	if err := r.cur.Ack(&stuck); err != nil {
		t.Fatal(err)
	}
	if len(r.next(stream)) != 1 || r.cur.behind != 0 || len(r.cur.order) > 1 || len(r.cur.places.taken) > 1 {
		t.Fatalf("%d behind, %d in order, %d places", r.cur.behind, len(r.cur.order), len(r.cur.places.taken))
	}
}

// Another session that goes on while one is stuck takes no memory.
func TestWhatIsSettledIsForgotten(t *testing.T) {
	var f file
	const n = 10 * compactAbove
	stream := []storedFrame{{bus.SessionID{1}, 0, 1}}
	for i := range n {
		stream = append(stream, storedFrame{bus.SessionID{2}, bus.Seq(i), 1})
	}
	r := run{cur: f.aside(t)}
	r.begin(t)
	r.next(stream)
	for range n {
		m := r.next(stream)[0]
		r.cur.mark(r.cur.frames[m.StreamSeq], 0)
	}
	if len(r.cur.frames) != 1 || len(r.cur.order) > 2*compactAbove || len(r.cur.places.taken) > 2*compactAbove || len(r.cur.state().Done) != 0 {
		t.Fatalf("%d frames, %d in order, %d places", len(r.cur.frames), len(r.cur.order), len(r.cur.places.taken))
	}
}

func TestAcknowledgementsBelongToTheirIteration(t *testing.T) {
	var f file
	stream := []storedFrame{{bus.SessionID{1}, 0, 2}}
	r := run{cur: f.aside(t)}
	r.begin(t)
	old := r.next(stream)
	if err := r.cur.Retry(&old[0], 0); err != nil {
		t.Fatal(err)
	}
	if again, _, waits := r.cur.due(time.Now()); waits || len(again) != 1 || again[0].Attempt != 2 || old[0].Attempt != 1 {
		t.Fatalf("again %+v", again)
	}
	if err := r.cur.Retry(&old[1], time.Hour); err != nil {
		t.Fatal(err)
	}
	if again, at, waits := r.cur.due(time.Now()); !waits || len(again) != 0 || time.Until(at) < 59*time.Minute {
		t.Fatalf("too early: %+v, %v", again, at)
	}
	if err := r.cur.Ack(&old[1]); err != nil {
		t.Fatal(err)
	}
	if again, _, waits := r.cur.due(time.Now().Add(2 * time.Hour)); waits || len(again) != 0 {
		t.Fatalf("acknowledged, and again %+v", again)
	}
	r.cur.end()
	if err := r.cur.Retry(&old[0], 0); !errors.Is(err, bus.ErrClosed) {
		t.Fatalf("retry after the end: %v", err)
	}
	r.begin(t)
	if err := r.cur.Ack(&old[0]); !errors.Is(err, bus.ErrUsage) {
		t.Fatalf("of an earlier iteration: %v", err)
	}
	if msgs := r.next(stream); len(msgs) != 1 || msgs[0].Index != 0 {
		t.Fatalf("comes again: %+v", msgs)
	}
}

func TestRangesAreMerged(t *testing.T) {
	s, u := bus.SessionID{1}, bus.SessionID{2}
	got := mergeRanges([]seqRange{
		{Session: u, From: 5, To: 5}, {Session: s, From: 3, To: 3}, {Session: s, From: 1, To: 2}, {Session: s, From: 7, To: 9}, {Session: s, From: 8, To: 8},
	})
	want := []seqRange{{Session: s, From: 1, To: 3}, {Session: s, From: 7, To: 9}, {Session: u, From: 5, To: 5}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
}
