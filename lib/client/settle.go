package client

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// delivered is a frame of which messages were handed out and that is not
// settled: it is once all its messages are acknowledged and, because a height
// says that everything below is, all frames before it in its session are too.
type delivered struct {
	frameKey
	place uint64
	late  bool // of no session's row
	total int  // messages in the frame
	first uint64
	last  uint64  // numbers of its first and last message; first is over last where none was handed out
	acked indexes // acknowledged
}

func (d *delivered) whole() bool { return d.acked.count >= d.total }

// indexes are a set of messages of a frame, by index.
type indexes struct {
	bits  [bus.MaxRecords / 64]uint64
	count int
}

// add reports whether i was not in the set before.
func (x *indexes) add(i int) bool {
	word, bit := i/64, uint64(1)<<(i%64)
	if x.bits[word]&bit != 0 {
		return false
	}
	x.bits[word] |= bit
	x.count++
	return true
}

func (x *indexes) has(i int) bool { return x.bits[i/64]&(1<<(i%64)) != 0 }

// cursorPart is a frame of which some messages are acknowledged.
type cursorPart struct {
	Place uint64   `json:"place"`
	Done  [][2]int `json:"done"` // ranges of indexes, first and last
}

func partOf(d *delivered) cursorPart {
	p := cursorPart{Place: d.place}
	for i := 0; i < d.total; i++ {
		if !d.acked.has(i) {
			continue
		}
		from := i
		for i+1 < d.total && d.acked.has(i+1) {
			i++
		}
		p.Done = append(p.Done, [2]int{from, i})
	}
	return p
}

// seqRange is a run of frames of a session, all of whose messages are
// acknowledged.
type seqRange struct {
	Sender  bus.ID        `json:"sender"`
	Session bus.SessionID `json:"session"`
	From    bus.Seq       `json:"from"`
	To      bus.Seq       `json:"to"`
}

func (r seqRange) key() sessionKey { return sessionKey{r.Sender, r.Session} }

// acknowledged is what an earlier iteration acknowledged behind something that
// was not, and that has not come again.
type acknowledged struct {
	done  map[sessionKey][]seqRange
	parts map[uint64]cursorPart
}

func keptOf(s *cursorState) acknowledged {
	a := acknowledged{done: map[sessionKey][]seqRange{}, parts: map[uint64]cursorPart{}}
	for _, r := range s.Done {
		a.done[r.key()] = append(a.done[r.key()], r)
	}
	for _, p := range s.Parts {
		a.parts[p.Place] = p
	}
	return a
}

// mark takes over what is kept about a frame.
func (a *acknowledged) mark(d *delivered) {
	for _, r := range a.done[d.sessionKey] {
		if r.From <= d.seq && d.seq <= r.To {
			for i := range d.total {
				d.acked.add(i)
			}
		}
	}
	if p, ok := a.parts[d.place]; ok {
		for _, r := range p.Done {
			for i := max(r[0], 0); i <= r[1] && i < d.total; i++ {
				d.acked.add(i)
			}
		}
	}
}

// deliver numbers the messages of a frame and leaves out those that were
// acknowledged before.
func (cur *Cursor) deliver(msgs []Message) []Message {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	m := &msgs[0]
	d := &delivered{
		frameKey: frameKey{sessionKey{m.Sender, m.Session}, m.Seq},
		place:    m.StreamSeq, late: m.Late, total: len(msgs), first: cur.count + 1,
	}
	cur.kept.mark(d)
	out := msgs[:0]
	for i := range msgs {
		if d.acked.has(i) {
			continue
		}
		cur.count++
		msgs[i].number, msgs[i].run = cur.count, cur.run
		out = append(out, msgs[i])
	}
	d.last = cur.count
	cur.frames[d.place] = d
	cur.order = append(cur.order, d)
	if !d.late {
		cur.rows[d.sessionKey] = append(cur.rows[d.sessionKey], d)
	}
	if d.acked.count > 0 {
		cur.behind++
		cur.settle(d)
	}
	return out
}

// crowded reports whether so much is acknowledged behind something that is not
// that the iteration is to wait.
func (cur *Cursor) crowded() bool {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	return cur.behind >= maxBehind
}

// Ack acknowledges one message, durably, before it returns. Messages before it
// that are not acknowledged come again. Acknowledging a message twice is no
// error. A message of another cursor, or of an iteration before the cursor's
// last, is [bus.CodeUsage].
func (cur *Cursor) Ack(m *Message) error {
	return cur.acknowledge(m, func() {
		if d := cur.frames[m.StreamSeq]; d != nil {
			cur.mark(d, m.Index)
		}
	})
}

// AckThrough acknowledges m and every message that the iteration handed out
// before it, durably, before it returns. Its errors are those of [Cursor.Ack].
func (cur *Cursor) AckThrough(m *Message) error {
	return cur.acknowledge(m, func() {
		for _, d := range slices.Clone(cur.order) {
			if d.first > m.number {
				break
			}
			n := d.total
			if d.last > m.number {
				n = m.Index + 1
			}
			for i := range n {
				cur.mark(d, i)
			}
		}
	})
}

// acknowledge lets mark change the iteration and has the outcome in the file
// when it returns. Calls that come while the file is written share the next
// write.
func (cur *Cursor) acknowledge(m *Message, mark func()) error {
	cur.mu.Lock()
	if err := cur.owns(m); err != nil {
		cur.mu.Unlock()
		return err
	}
	mark()
	mine := cur.changes
	cur.wake()
	cur.mu.Unlock()

	cur.writing.Lock()
	defer cur.writing.Unlock()
	cur.mu.Lock()
	if cur.written >= mine {
		cur.mu.Unlock()
		return nil
	}
	if err := cur.owns(m); err != nil {
		cur.mu.Unlock()
		return err
	}
	state, upTo := cur.state(), cur.changes
	cur.mu.Unlock()
	if err := cur.write(state); err != nil {
		return err
	}
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.saved, cur.written = state, upTo
	return nil
}

// owns returns why a message cannot be acknowledged or retried, if so. The
// caller holds cur.mu.
func (cur *Cursor) owns(m *Message) error {
	switch {
	case cur.closed:
		return bus.Errorf(bus.CodeClosed, "acknowledge message: the cursor was closed")
	case m.Room != cur.room.id || m.number == 0 || m.number > cur.count || m.run != cur.run:
		return bus.Errorf(bus.CodeUsage, "acknowledge message: it is not of the cursor's iteration")
	}
	return nil
}

// mark acknowledges one message of a frame. The caller holds cur.mu.
func (cur *Cursor) mark(d *delivered, index int) {
	if !d.acked.add(index) {
		return
	}
	cur.changes++
	if d.acked.count == 1 {
		cur.behind++
	}
	cur.settle(d)
}

// settle takes in that all of a frame may be acknowledged.
func (cur *Cursor) settle(d *delivered) {
	if d.late {
		if d.whole() {
			cur.missing = slices.DeleteFunc(cur.missing, func(k frameKey) bool { return k == d.frameKey })
			cur.settled(d)
		}
		return
	}
	row := cur.rows[d.sessionKey]
	for len(row) > 0 && row[0].whole() {
		cur.rise(row[0])
		cur.settled(row[0])
		row = row[1:]
	}
	if cur.rows[d.sessionKey] = row; len(row) == 0 {
		delete(cur.rows, d.sessionKey)
	}
}

// settled is done with a frame.
func (cur *Cursor) settled(d *delivered) {
	cur.behind--
	cur.places.close(d.place)
	delete(cur.frames, d.place)
	delete(cur.kept.parts, d.place)
	for len(cur.order) > 0 && !cur.unsettled(cur.order[0]) {
		cur.order = cur.order[1:]
	}
	if len(cur.order) > 2*len(cur.frames)+compactAbove {
		cur.order = slices.DeleteFunc(slices.Clone(cur.order), func(d *delivered) bool { return !cur.unsettled(d) })
	}
}

func (cur *Cursor) unsettled(d *delivered) bool { return cur.frames[d.place] == d }

// rise makes a frame the height of its session.
func (cur *Cursor) rise(d *delivered) {
	cur.heights[d.sessionKey] = cursorHeight{d.seq, d.last}
	if len(cur.heights) <= maxHeights {
		return
	}
	var oldest sessionKey
	at := d.last
	for k, h := range cur.heights {
		if h.at < at {
			oldest, at = k, h.at
		}
	}
	delete(cur.heights, oldest)
}

// state returns what the file is to hold. The caller holds cur.mu.
func (cur *Cursor) state() cursorState {
	s := cursorState{
		V: 1, Room: cur.room.id, Next: cur.places.first(cur.next), Seen: max(cur.saved.Seen, cur.next-1), Since: cur.saved.Since,
		Heights: heightList(cur.heights), Missing: seqList(cur.missing),
	}
	for k, ranges := range cur.kept.done {
		height, ok := cur.heights[k]
		ranges = slices.DeleteFunc(ranges, func(r seqRange) bool { return ok && height.seq >= r.To })
		if cur.kept.done[k] = ranges; len(ranges) == 0 {
			delete(cur.kept.done, k)
		}
		s.Done = append(s.Done, ranges...)
	}
	for k, row := range cur.rows {
		for _, d := range row {
			if d.whole() {
				s.Done = append(s.Done, seqRange{k.sender, k.session, d.seq, d.seq})
			}
		}
	}
	s.Done = mergeRanges(s.Done)
	for place, p := range cur.kept.parts {
		if _, back := cur.frames[place]; !back && (place >= cur.next || cur.places.open[place]) {
			s.Parts = append(s.Parts, p)
		}
	}
	for _, d := range cur.frames {
		if d.acked.count > 0 && !d.whole() {
			s.Parts = append(s.Parts, partOf(d))
		}
	}
	slices.SortFunc(s.Parts, func(a, b cursorPart) int { return cmp.Compare(a.Place, b.Place) })
	return s
}

// mergeRanges sorts ranges and joins those that touch.
func mergeRanges(list []seqRange) []seqRange {
	slices.SortFunc(list, func(a, b seqRange) int {
		return cmp.Or(slices.Compare(a.Sender[:], b.Sender[:]), slices.Compare(a.Session[:], b.Session[:]), cmp.Compare(a.From, b.From))
	})
	var out []seqRange
	for _, r := range list {
		if n := len(out); n > 0 && out[n-1].key() == r.key() && r.From <= out[n-1].To+1 {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}

func heightList(heights map[sessionKey]cursorHeight) []frame.Height {
	out := make([]frame.Height, 0, len(heights))
	for _, k := range slices.SortedFunc(maps.Keys(heights), compareSessions) {
		out = append(out, frame.Height{Sender: k.sender, Session: k.session, Seq: heights[k].seq})
	}
	return out
}

func seqList(keys []frameKey) []frame.Height {
	out := make([]frame.Height, 0, len(keys))
	for _, k := range keys {
		out = append(out, frame.Height{Sender: k.sender, Session: k.session, Seq: k.seq})
	}
	return out
}

func compareSessions(a, b sessionKey) int {
	return cmp.Or(slices.Compare(a.sender[:], b.sender[:]), slices.Compare(a.session[:], b.session[:]))
}

// retry is a message that is to be handed out again.
type retry struct {
	at time.Time
	m  *Message
}

// Retry has a message handed out again by the same iteration, as a message of
// its own whose Attempt is one higher, not before wait has passed. It stays
// unacknowledged; if it is acknowledged before, it is not handed out again.
// Errors are those of [Cursor.Ack], and [bus.CodeClosed] once the iteration has
// ended: the next one hands it out anyway.
func (cur *Cursor) Retry(m *Message, wait time.Duration) error {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	if err := cur.owns(m); err != nil {
		return err
	}
	if !cur.reading {
		return bus.Errorf(bus.CodeClosed, "retry message: the iteration has ended")
	}
	next := *m
	next.Attempt++
	r := retry{time.Now().Add(wait), &next}
	i := slices.IndexFunc(cur.again, func(have retry) bool { return have.m.number == m.number })
	if i < 0 {
		cur.again = append(cur.again, r)
	} else {
		cur.again[i] = r
	}
	cur.wake()
	return nil
}

// due takes the messages that are to be handed out again at now. next is when
// there will be more, if waits is true.
func (cur *Cursor) due(now time.Time) (msgs []*Message, next time.Time, waits bool) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.again = slices.DeleteFunc(cur.again, func(r retry) bool {
		d := cur.frames[r.m.StreamSeq]
		switch {
		case d == nil || d.acked.has(r.m.Index):
			return true
		case r.at.After(now):
			if !waits || r.at.Before(next) {
				next, waits = r.at, true
			}
			return false
		}
		msgs = append(msgs, r.m)
		return true
	})
	return msgs, next, waits
}
