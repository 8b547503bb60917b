package client

import (
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
	// maxBehind bounds the frames with acknowledged messages that a cursor keeps
	// in mind because an earlier one of their session is not done.
	maxBehind = 4096
	// compactAbove is how many rows of what is over are put up with, beside as many
	// as there are of what is not.
	compactAbove = 1024
	// maxHeights bounds the sessions that a cursor remembers, as a window does.
	maxHeights = bus.WindowSessions + bus.WindowHeights
)

// Cursor is a place in a persisted room that survives restarts: a file in the
// client's state. Reading with it ([Room.Messages]) begins with the first
// message that was not acknowledged; together with handling a message before
// acknowledging it that is at least once.
//
//   - [Cursor.Ack] acknowledges one message, in any order and from any goroutine:
//     an earlier one that is still being handled stays unacknowledged.
//   - [Cursor.AckThrough] acknowledges a message and all that came before it.
//   - [Cursor.Retry] has a message handed out again by the same iteration.
//
// What is neither comes again in the next iteration, in this process or another.
// What was acknowledged does not, as long as the cursor's file is what it was.
// [Room.Work] does all of this for programs that handle messages with several
// goroutines.
//
// Where one message stays unacknowledged while those behind it are acknowledged
// one by one, the iteration pauses after 4,096 frames of them until it is dealt
// with.
//
// A Cursor may be used from several goroutines at once, by one iteration at a
// time. Closing its client closes it.
type Cursor struct {
	room   *Room
	path   string
	unlock func()
	write  func(cursorState) error // to the file

	writing sync.Mutex // held while the file is written; before mu

	mu      sync.Mutex
	saved   cursorState
	changes uint64 // acknowledgements taken so far
	written uint64 // of them, those in the file
	reading bool
	closed  bool
	wake    func() // tells the iteration that there is something to do

	iteration
}

// iteration is what a cursor knows of the current iteration, or of the last.
type iteration struct {
	run      uint64 // counts iterations
	next     uint64 // place after the last taken
	replayed uint64 // places up to here were read before
	places   places // taken from the stream and not done with
	count    uint64 // messages delivered

	frames map[uint64]*delivered       // not settled, by place
	order  []*delivered                // the same as they were delivered; settled ones go when they are first
	rows   map[sessionKey][]*delivered // those that were not late, by session
	behind int                         // frames with messages acknowledged that are not settled
	again  []retry

	heights map[sessionKey]cursorHeight
	missing []frameKey // given up and not acknowledged since
	old     []frameKey // of missing, those that an earlier iteration gave up
	kept    acknowledged
}

// cursorHeight is the highest seq of a session up to which all is acknowledged,
// and when: the number of the message that was.
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
	// Done and Parts are acknowledged, and lie behind something that is not.
	Done  []seqRange   `json:"done,omitempty"`
	Parts []cursorPart `json:"parts,omitempty"`
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
	cur.unlock, cur.write = unlock, cur.file().write
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
	if err := r.client.keepCursor(cur); err != nil {
		unlock()
		return nil, err
	}
	return cur, nil
}

func (cur *Cursor) file() stateFile[cursorState] { return stateFile[cursorState]{cur.path} }

// Close lets go of the cursor. Messages not acknowledged come again.
func (cur *Cursor) Close() error {
	cur.writing.Lock()
	defer cur.writing.Unlock()
	cur.mu.Lock()
	defer cur.mu.Unlock()
	if !cur.closed {
		cur.closed = true
		cur.unlock()
		cur.room.client.dropCursor(cur)
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
	cur.wake = func() {}
	cur.iteration = iteration{
		run:  cur.run + 1,
		next: cur.saved.Next, replayed: cur.saved.Seen, places: places{open: map[uint64]bool{}},
		frames: map[uint64]*delivered{}, rows: map[sessionKey][]*delivered{},
		heights: map[sessionKey]cursorHeight{},
		kept:    keptOf(&cur.saved),
	}
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

// attend has wake called when there is something for the iteration to do.
func (cur *Cursor) attend(wake func()) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.wake = wake
}

// end ends an iteration. What it handed out may still be acknowledged until the
// next one begins.
func (cur *Cursor) end() {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.reading = false
	cur.again = nil
}

// take notes that a frame was taken from the stream.
func (cur *Cursor) take(place uint64) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.places.take(place)
	cur.next = max(cur.next, place+1)
}

// skip notes that nothing of a frame will be delivered.
func (cur *Cursor) skip(place uint64) {
	cur.mu.Lock()
	defer cur.mu.Unlock()
	cur.places.close(place)
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

// places are places of the stream, of which some are closed again.
type places struct {
	open  map[uint64]bool
	taken []uint64 // ascending, all that are open and perhaps others
}

func (p *places) take(place uint64) {
	if len(p.taken) == 0 || place > p.taken[len(p.taken)-1] {
		p.taken = append(p.taken, place)
	} else if i, ok := slices.BinarySearch(p.taken, place); !ok {
		p.taken = slices.Insert(p.taken, i, place)
	}
	p.open[place] = true
}

func (p *places) close(place uint64) {
	delete(p.open, place)
	for len(p.taken) > 0 && !p.open[p.taken[0]] {
		p.taken = p.taken[1:]
	}
	if len(p.taken) > 2*len(p.open)+compactAbove {
		p.taken = slices.DeleteFunc(slices.Clone(p.taken), func(at uint64) bool { return !p.open[at] })
	}
}

// first returns the lowest open place, or end where none is.
func (p *places) first(end uint64) uint64 {
	if len(p.taken) > 0 {
		return p.taken[0]
	}
	return end
}
