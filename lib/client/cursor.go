package client

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const (
	// cursorLockWait is how long OpenCursor waits for another process to let go.
	cursorLockWait = 200 * time.Millisecond
	// maxMissing bounds the seqs that a cursor waits for after their gap.
	maxMissing = bus.WindowSize
	// maxHeights bounds the sessions that a cursor remembers, as a window does.
	maxHeights = bus.WindowSessions + bus.WindowHeights
)

// Cursor is a place in a persisted room that survives restarts: a file in the
// client's state. Reading with it ([Room.Messages]) begins after the last
// message acknowledged with [Cursor.Ack]. What was acknowledged does not come
// again, and what was not comes again in the next iteration; together with
// handling a message before acknowledging it that is at least once.
//
// It may be used from several goroutines at once, by one iteration at a time.
type Cursor struct {
	room   *Room
	path   string
	unlock func()

	mu      sync.Mutex
	saved   cursorState
	reading bool
	closed  bool

	// The rest is of the current iteration.
	open     map[uint64]bool // places taken from the stream and not done with
	next     uint64          // place after the last taken
	unacked  []delivered     // in the order of delivery
	count    uint64          // messages delivered
	heights  map[sessionKey]cursorHeight
	missing  []frameKey // given up and not acknowledged since
	old      []frameKey // of missing, those that an earlier iteration gave up
	replayed uint64     // places up to here were read before
}

// cursorHeight is the highest seq acknowledged of a session, and when: the
// number of the message that was.
type cursorHeight struct {
	seq bus.Seq
	at  uint64
}

// frameKey names a frame of a room.
type frameKey struct {
	sessionKey
	seq bus.Seq
}

func keyOf(h *frame.Header) frameKey {
	return frameKey{sessionKey{h.Sender, h.Session}, h.Seq}
}

// delivered is a frame whose messages were handed out, the last of them being
// message number last.
type delivered struct {
	frameKey
	place uint64
	last  uint64
	late  bool
}

// cursorState is the file.
type cursorState struct {
	V       int            `json:"v"`
	Room    bus.RoomID     `json:"room"`
	Next    uint64         `json:"next"`            // place in the shard's stream to read from; 0 is not decided yet
	Seen    uint64         `json:"seen"`            // places up to here were read before
	Since   int64          `json:"since,omitempty"` // when it began, in Unix seconds, if that was at Now
	Heights []frame.Height `json:"heights,omitempty"`
	// Missing are seqs below their session's height that have not come.
	Missing []frame.Height `json:"missing,omitempty"`
	// Part is a frame of which some messages are acknowledged.
	Part *cursorPart `json:"part,omitempty"`
}

type cursorPart struct {
	Place uint64 `json:"place"`
	Next  int    `json:"next"` // index of the first message to hand out
}

func (*Cursor) isFrom() {}

// OpenCursor opens a cursor by its name, which follows the rules of handles, or
// makes it at begin ([Now] or [Start]). One that another process or iteration
// uses is [bus.CodeConflict]. It is to be closed.
func (r *Room) OpenCursor(ctx context.Context, name string, begin Origin) (*Cursor, error) {
	if _, err := bus.ParseHandle(name); err != nil {
		return nil, bus.Errorf(bus.CodeUsage, "open cursor %.80q: %w", name, err)
	}
	if begin != Now && begin != Start {
		return nil, bus.Errorf(bus.CodeUsage, "open cursor %s: it begins now or at the start", name)
	}
	dir := r.client.state.path("cursors", r.id.Token())
	if err := os.MkdirAll(dir, stateDirMode); err != nil {
		return nil, fmt.Errorf("open cursor: %w", err)
	}
	cur := &Cursor{room: r, path: r.client.state.path("cursors", r.id.Token(), name+".json")}
	lockCtx, cancel := context.WithTimeout(ctx, cursorLockWait)
	defer cancel()
	unlock, err := durable.Lock(lockCtx, cur.path+".lock")
	if err != nil {
		return nil, bus.Errorf(bus.CodeConflict, "open cursor %s: somebody else uses it: %w", name, err)
	}
	cur.unlock = unlock
	if cur.saved, err = cur.file().read(); err != nil {
		unlock()
		return nil, err
	}
	if cur.saved.V == 0 {
		cur.saved = cursorState{V: 1, Room: r.id}
		if begin == Start {
			cur.saved.Next = 1
		}
	}
	if cur.saved.Room != r.id {
		unlock()
		return nil, bus.Errorf(bus.CodeMalformed, "open cursor %s: %s is of room %s", name, cur.path, cur.saved.Room)
	}
	return cur, nil
}

func (cur *Cursor) file() stateFile[cursorState] { return stateFile[cursorState]{cur.path} }

// Close lets go of the cursor. Messages not acknowledged come again.
func (cur *Cursor) Close() error {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	if !cur.closed {
		cur.closed = true
		cur.unlock()
	}
	return nil
}

// begin starts an iteration.
func (cur *Cursor) begin() (after uint64, heights []frame.Height, now bool, err error) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	switch {
	case cur.closed:
		return 0, nil, false, bus.Errorf(bus.CodeClosed, "read by cursor: it was closed")
	case cur.reading:
		return 0, nil, false, bus.Errorf(bus.CodeConflict, "read by cursor: another iteration uses it")
	}
	cur.reading = true
	cur.open, cur.unacked, cur.count = map[uint64]bool{}, nil, 0
	cur.heights, cur.missing = map[sessionKey]cursorHeight{}, nil
	cur.next, cur.replayed = cur.saved.Next, cur.saved.Seen
	for _, h := range cur.saved.Heights {
		cur.heights[sessionKey{h.Sender, h.Session}] = cursorHeight{seq: h.Seq}
	}
	for _, h := range cur.saved.Missing {
		cur.missing = append(cur.missing, frameKey{sessionKey{h.Sender, h.Session}, h.Seq})
	}
	cur.old = slices.Clone(cur.missing)
	if cur.saved.Next == 0 {
		cur.saved.Since = cur.room.client.config.Now().Unix()
		return 0, nil, true, nil
	}
	return cur.saved.Next - 1, cur.saved.Heights, false, nil
}

// since returns when the cursor began, where that was at [Now].
func (cur *Cursor) since() (at time.Time, ok bool) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	return time.Unix(cur.saved.Since, 0), cur.saved.Since != 0
}

// placed fixes where a cursor that begins now begins.
func (cur *Cursor) placed(after uint64) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.next = after + 1
}

// end ends an iteration.
func (cur *Cursor) end() {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.reading = false
	cur.unacked = nil
}

// take notes that a frame was taken from the stream.
func (cur *Cursor) take(place uint64) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.open[place] = true
	cur.next = max(cur.next, place+1)
}

// skip notes that nothing of a frame will be delivered.
func (cur *Cursor) skip(place uint64) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	delete(cur.open, place)
}

// expects reports whether a failure only says that a frame was read before, in
// an earlier iteration.
func (cur *Cursor) expects(place uint64, err error) bool {
	return place <= cur.replayed && bus.CodeOf(err) == bus.CodeReplay
}

// misses reports whether a frame was given up in an earlier iteration and has
// not come in this one.
func (cur *Cursor) misses(h *frame.Header) bool {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	return slices.Contains(cur.old, keyOf(h))
}

// found notes that a frame came, and reports whether an earlier iteration had
// given it up, so that the order of this one knows nothing of it.
func (cur *Cursor) found(h *frame.Header) bool {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	n := len(cur.old)
	cur.old = slices.DeleteFunc(cur.old, func(k frameKey) bool { return k == keyOf(h) })
	return len(cur.old) < n
}

// miss notes what a gap gave up.
func (cur *Cursor) miss(gap *frame.Gap) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	from := gap.From
	if gap.To-gap.From >= maxMissing {
		from = gap.To - maxMissing + 1
	}
	for n := range uint64(gap.To - from + 1) {
		cur.missing = append(cur.missing, frameKey{sessionKey{gap.Sender, gap.Session}, from + bus.Seq(n)})
	}
	if over := len(cur.missing) - maxMissing; over > 0 {
		cur.missing = slices.Delete(cur.missing, 0, over)
	}
}

// deliver numbers the messages of a frame and leaves out those that were
// acknowledged before.
func (cur *Cursor) deliver(msgs []Message) []Message {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	first := &msgs[0]
	d := delivered{
		frameKey: frameKey{sessionKey{first.Sender, first.Session}, first.Seq},
		place:    first.StreamSeq,
		late:     first.Late,
	}
	if part := cur.saved.Part; part != nil && part.Place == d.place && part.Next < len(msgs) {
		msgs = msgs[part.Next:]
	}
	for i := range msgs {
		cur.count++
		msgs[i].delivery = cur.count
	}
	d.last = cur.count
	cur.unacked = append(cur.unacked, d)
	return msgs
}

// Ack acknowledges m and every message that the iteration handed out before
// it, durably, before it returns. A message of another cursor or of an earlier
// iteration is [bus.CodeUsage].
func (cur *Cursor) Ack(m *Message) error {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	switch {
	case cur.closed:
		return bus.Errorf(bus.CodeClosed, "acknowledge message: the cursor was closed")
	case !cur.reading || m.Room != cur.room.id || m.delivery == 0 || m.delivery > cur.count:
		return bus.Errorf(bus.CodeUsage, "acknowledge message: it is not of the cursor's iteration")
	}
	n := 0
	for ; n < len(cur.unacked) && cur.unacked[n].last <= m.delivery; n++ {
		cur.done(cur.unacked[n])
	}
	if n == 0 && (len(cur.unacked) == 0 || cur.unacked[0].place != m.StreamSeq) {
		return nil // acknowledged already
	}
	cur.unacked = slices.Delete(cur.unacked, 0, n)
	next := cur.next
	for place := range cur.open {
		next = min(next, place)
	}
	state := cursorState{
		V: 1, Room: cur.room.id, Next: next, Seen: max(cur.saved.Seen, cur.next-1), Since: cur.saved.Since,
		Heights: heightList(cur.heights), Missing: seqList(cur.missing),
	}
	if !m.Last {
		state.Part = &cursorPart{Place: m.StreamSeq, Next: m.Index + 1}
	}
	if err := cur.file().write(state); err != nil {
		return err
	}
	cur.saved = state
	return nil
}

// done takes in that a frame is acknowledged as a whole.
func (cur *Cursor) done(d delivered) {
	delete(cur.open, d.place)
	if d.late {
		cur.missing = slices.DeleteFunc(cur.missing, func(k frameKey) bool { return k == d.frameKey })
		return
	}
	cur.heights[d.sessionKey] = cursorHeight{d.seq, d.last}
	if len(cur.heights) > maxHeights {
		var oldest sessionKey
		at := d.last
		for k, h := range cur.heights {
			if h.at < at {
				oldest, at = k, h.at
			}
		}
		delete(cur.heights, oldest)
	}
}

func heightList(heights map[sessionKey]cursorHeight) []frame.Height {
	out := make([]frame.Height, 0, len(heights))
	for k, h := range heights {
		out = append(out, frame.Height{Sender: k.sender, Session: k.session, Seq: h.seq})
	}
	sortHeights(out)
	return out
}

func seqList(keys []frameKey) []frame.Height {
	out := make([]frame.Height, 0, len(keys))
	for _, k := range keys {
		out = append(out, frame.Height{Sender: k.sender, Session: k.session, Seq: k.seq})
	}
	return out
}

func sortHeights(list []frame.Height) {
	slices.SortFunc(list, func(a, b frame.Height) int {
		return cmp.Or(slices.Compare(a.Sender[:], b.Sender[:]), slices.Compare(a.Session[:], b.Session[:]))
	})
}
