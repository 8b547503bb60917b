package frame

import (
	"cmp"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// Delivery is what an [Order] hands on: a frame or a gap.
type Delivery struct {
	Frame *Opened // nil for a gap
	Late  bool    // the frame comes after the gap that it was missing in
	Gap   *Gap    // nil for a frame
}

// Gap says that frames did not come in time. They may still come, late.
type Gap struct {
	Sender   bus.ID
	Session  bus.SessionID
	From, To bus.Seq // first and last missing
}

// Order delivers the frames of a room by seq within each session, which frames
// of different sessions are not. Frames behind a missing one wait until it
// comes, until one of them has waited for [bus.ReorderWait], or until those of
// all sessions together hold more than [bus.ReorderBytes]; then the session
// that holds most gives way. It is not safe for concurrent use.
//
// The first frame seen of a session that has no height is taken for its
// beginning, so what is missing before it is not noticed.
type Order struct {
	rows    sessions[*row]
	waiting map[stream]*row // the rows that hold frames
	bytes   int             // of the frames held
}

// row is what one session has delivered and what of it waits.
type row struct {
	stream
	last  bus.Seq // highest delivered or given up
	held  []heldFrame
	bytes int
	since time.Time // when the frame came that has waited longest
}

type heldFrame struct {
	*Opened
	at time.Time
}

// NewOrder returns an order in which each session of heights goes on after its
// height.
func NewOrder(heights []Height) *Order {
	o := &Order{rows: newSessions[*row](), waiting: map[stream]*row{}}
	for _, h := range heights {
		k := stream{h.Sender, h.Session}
		if known, ok := o.rows.get(k); ok {
			h.Seq = max(h.Seq, known.last)
		}
		o.rows.put(k, &row{stream: k, last: h.Seq})
		o.forget(nil)
	}
	return o
}

// Push takes a frame that came at now and returns what can be delivered: in
// order, the frame itself unless it has to wait, what waited for it, and what
// has to give way to it. Each frame is to be pushed once, as an [Opener] opens
// each once.
func (o *Order) Push(f *Opened, now time.Time) []Delivery {
	k := f.Header.stream()
	r, ok := o.rows.get(k)
	switch {
	case !ok:
		o.rows.put(k, &row{stream: k, last: f.Header.Seq})
		return o.forget([]Delivery{{Frame: f}})
	case f.Header.Seq <= r.last:
		o.rows.put(k, r)
		return []Delivery{{Frame: f, Late: true}}
	case f.Header.Seq-r.last == 1:
		o.rows.put(k, r)
		r.last++
		return o.advance(r, []Delivery{{Frame: f}})
	}
	o.rows.put(k, r)
	o.hold(r, f, now)
	var out []Delivery
	for o.bytes > bus.ReorderBytes {
		out = o.giveUp(o.largest(), 1, out)
	}
	return out
}

// Tick returns what has waited long enough at now. [Order.Deadline] says when
// to call it.
func (o *Order) Tick(now time.Time) []Delivery {
	var due []*row
	for _, r := range o.waiting {
		if now.Sub(r.since) >= bus.ReorderWait {
			due = append(due, r)
		}
	}
	slices.SortFunc(due, compareRows)
	var out []Delivery
	for _, r := range due {
		n := 0
		for i, h := range r.held {
			if now.Sub(h.at) >= bus.ReorderWait {
				n = i + 1
			}
		}
		out = o.giveUp(r, n, out)
	}
	return out
}

// Deadline returns when the next [Order.Tick] has something to deliver if
// nothing is pushed before. ok is false while nothing waits.
func (o *Order) Deadline() (at time.Time, ok bool) {
	for _, r := range o.waiting {
		if due := r.since.Add(bus.ReorderWait); !ok || due.Before(at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// Flush delivers everything that waits, with its gaps: for a reader that has
// reached its end.
func (o *Order) Flush() []Delivery {
	rows := make([]*row, 0, len(o.waiting))
	for _, r := range o.waiting {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, compareRows)
	var out []Delivery
	for _, r := range rows {
		out = o.giveUp(r, len(r.held), out)
	}
	return out
}

// Heights returns the highest seq of each session that was delivered or given
// up, the least recently active session first. With the place in the stream
// after the last frame delivered, it is where a durable reader goes on.
func (o *Order) Heights() []Height {
	out := make([]Height, 0, o.rows.len())
	for k, r := range o.rows.all() {
		out = append(out, Height{k.sender, k.session, r.last})
	}
	return out
}

// hold keeps a frame in its place by seq.
func (o *Order) hold(r *row, f *Opened, now time.Time) {
	at, found := slices.BinarySearchFunc(r.held, f.Header.Seq, func(h heldFrame, seq bus.Seq) int {
		return cmp.Compare(h.Header.Seq, seq)
	})
	if found {
		return
	}
	r.held = slices.Insert(r.held, at, heldFrame{f, now})
	o.count(r, f.Size)
	if len(r.held) == 1 || now.Before(r.since) {
		r.since = now
	}
	o.waiting[r.stream] = r
}

// advance delivers the held frames that now follow without a hole.
func (o *Order) advance(r *row, out []Delivery) []Delivery {
	return o.giveUp(r, 0, out)
}

// giveUp delivers at least the first n held frames of a row, each hole before
// them as a gap, and what follows them without one.
func (o *Order) giveUp(r *row, n int, out []Delivery) []Delivery {
	done := 0
	for done < len(r.held) {
		f := r.held[done].Opened
		if seq := f.Header.Seq; seq-r.last > 1 {
			if done >= n {
				break
			}
			out = append(out, Delivery{Gap: &Gap{Sender: r.sender, Session: r.session, From: r.last + 1, To: seq - 1}})
		}
		out = append(out, Delivery{Frame: f})
		r.last = f.Header.Seq
		o.count(r, -f.Size)
		done++
	}
	if done == 0 {
		return out
	}
	r.held = slices.Delete(r.held, 0, done)
	if len(r.held) == 0 {
		r.held = nil // a burst's memory is not kept for a session that may be over
		delete(o.waiting, r.stream)
		return out
	}
	r.since = r.held[0].at
	for _, h := range r.held {
		if h.at.Before(r.since) {
			r.since = h.at
		}
	}
	return out
}

func (o *Order) count(r *row, bytes int) {
	r.bytes += bytes
	o.bytes += bytes
}

// largest returns the row that holds the most bytes.
func (o *Order) largest() *row {
	var most *row
	for _, r := range o.waiting {
		if most == nil || r.bytes > most.bytes || r.bytes == most.bytes && compareRows(r, most) < 0 {
			most = r
		}
	}
	return most
}

// forget drops a row when there are too many, and delivers what it held.
func (o *Order) forget(out []Delivery) []Delivery {
	if o.rows.len() <= maxSessions {
		return out
	}
	k, r := o.rows.victim()
	o.rows.remove(k)
	return o.giveUp(r, len(r.held), out)
}

// compareRows makes what maps hold come out in one order: who waits longest
// first, then by name.
func compareRows(a, b *row) int {
	return cmp.Or(a.since.Compare(b.since), slices.Compare(a.sender[:], b.sender[:]), slices.Compare(a.session[:], b.session[:]))
}
