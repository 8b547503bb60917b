package frame

import (
	"github.com/enmanuel/unibus/lib/bus"
)

// Window remembers which frames of a room were accepted, so that none is
// accepted twice. For the [bus.WindowSessions] sessions that were active last
// it knows the last [bus.WindowSize] seqs of each; of [bus.WindowHeights]
// older ones it knows the highest seq only. It is not safe for concurrent use.
type Window struct {
	full    sessions[*track]
	heights sessions[bus.Seq]
}

// track is the window of one session: the statement accepted under each of the
// last seqs, which tells a duplicate from equivocation and is the proof of it.
type track struct {
	floor   bus.Seq // below it nothing is accepted, since it is not known what was
	highest bus.Seq
	ring    [bus.WindowSize]*accepted // by seq modulo the size
}

type accepted struct {
	seq bus.Seq
	Statement
}

// NewWindow returns a window that accepts nothing at or below the heights,
// which are those of [Window.Heights] or [Order.Heights].
func NewWindow(heights []Height) *Window {
	w := &Window{full: newSessions[*track](), heights: newSessions[bus.Seq]()}
	for _, h := range heights {
		k := stream{h.Sender, h.Session}
		if known, ok := w.heights.get(k); ok {
			h.Seq = max(h.Seq, known)
		}
		w.heights.put(k, h.Seq)
		w.forget()
	}
	return w
}

// Heights returns the highest accepted seq of every session it remembers, the
// least recently active session first.
func (w *Window) Heights() []Height {
	out := make([]Height, 0, w.heights.len()+w.full.len())
	for k, seq := range w.heights.all() {
		out = append(out, Height{k.sender, k.session, seq})
	}
	for k, t := range w.full.all() {
		out = append(out, Height{k.sender, k.session, t.highest})
	}
	return out
}

// check returns what was accepted under this seq before, nil if nothing was.
// The error has [bus.CodeReplay] when the window no longer tells.
func (w *Window) check(k stream, seq bus.Seq) (*Statement, error) {
	t, ok := w.full.get(k)
	if !ok {
		if h, known := w.heights.get(k); known && seq <= h {
			return nil, bus.Errorf(bus.CodeReplay, "check window: seq %d is not above %d", seq, h)
		}
		return nil, nil
	}
	if low := t.low(); seq < low {
		return nil, bus.Errorf(bus.CodeReplay, "check window: seq %d is below the window, which begins at %d", seq, low)
	}
	if a := t.ring[seq%bus.WindowSize]; a != nil && a.seq == seq {
		return &a.Statement, nil
	}
	return nil, nil
}

// low returns the lowest seq that the track can tell about.
func (t *track) low() bus.Seq {
	if t.highest < bus.WindowSize {
		return t.floor
	}
	return max(t.floor, t.highest-bus.WindowSize+1)
}

// accept records a frame for which check returned neither statement nor error.
func (w *Window) accept(k stream, seq bus.Seq, st *Statement) {
	t, ok := w.full.get(k)
	if !ok {
		t = &track{}
		if h, known := w.heights.get(k); known {
			t.floor = h + 1 // seq is above h, so this does not overflow
			w.heights.remove(k)
		}
	}
	t.highest = max(t.highest, seq)
	slot := &t.ring[seq%bus.WindowSize]
	if *slot == nil {
		*slot = new(accepted)
	}
	**slot = accepted{seq, *st}
	w.full.put(k, t)
	if w.full.len() > bus.WindowSessions {
		old, t := w.full.oldest()
		w.full.remove(old)
		w.heights.put(old, t.highest)
	}
	w.forget()
}

// forget drops the height of a session when there are too many.
func (w *Window) forget() {
	if w.heights.len()+w.full.len() > maxSessions {
		k, _ := w.heights.victim()
		w.heights.remove(k)
	}
}
