package client

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// EventKind says what an [Event] is about.
type EventKind string

// The kinds of events.
const (
	EventConnected    EventKind = "connected"    // to the server in Detail, for the first time or again
	EventDisconnected EventKind = "disconnected" // Err is why, nil when it was asked for
	EventDenied       EventKind = "denied"       // a server refused a subject or the connection; Err says which
	EventSecurity     EventKind = "security"     // a server or a member said what cannot be true; Err has the code
	EventEpoch        EventKind = "epoch"        // a room's next record was accepted; Detail is its epoch
	EventInvited      EventKind = "invited"      // a server says that there is a room which was not opened here; AcceptRoom finds out
	EventRemoved      EventKind = "removed"      // the client is no longer a member of the room
	EventRevoked      EventKind = "revoked"      // a member of a room that this client may change was revoked; Err names it, Detail says who says so
	EventCard         EventKind = "card"         // a card was renewed, or is old; Err is nil or why it was not renewed
	EventResolved     EventKind = "resolved"     // a room went over to the branch that an owner has chosen; Detail says what that costs
	EventUpkeep       EventKind = "upkeep"       // renewing or rotating a room failed; it is tried again
	EventLost         EventKind = "lost"         // events came faster than OnEvent took them; Detail says how many it was not told of
)

// Event is something that happened apart from any call.
type Event struct {
	Kind   EventKind
	Time   time.Time
	Room   bus.RoomID // zero where no room is concerned
	Err    error      // nil where nothing failed
	Detail string     // for people
}

// maxWaiting is how many events of one kind wait for OnEvent. Servers can cause
// any number of some kinds; these do not push out the others.
const maxWaiting = 256

// events hands events to OnEvent one by one, so that whoever raises one never
// waits for it and OnEvent may call back into the client. An event that says the
// same as the last one of its room that waits is not told twice, and where too
// many of a kind wait the oldest go.
type events struct {
	log     *slog.Logger
	now     func() time.Time
	onEvent func(Event)
	refused func(error) // counts lies

	mu      sync.Mutex
	queue   []Event
	waiting map[EventKind]int // in queue
	lost    int               // since OnEvent was last told
	running bool
	closed  bool
	idle    sync.Cond // !running
}

func newEvents(log *slog.Logger, now func() time.Time, onEvent func(Event), refused func(error)) *events {
	e := &events{log: log, now: now, onEvent: onEvent, refused: refused, waiting: map[EventKind]int{}}
	e.idle.L = &e.mu
	return e
}

func (e *events) raise(kind EventKind, room bus.RoomID, err error, detail string) {
	attrs := []any{"event", string(kind)}
	if !room.IsZero() {
		attrs = append(attrs, "room", room.String())
	}
	if detail != "" {
		attrs = append(attrs, "detail", detail)
	}
	switch {
	case kind == EventSecurity:
		e.refused(err)
		e.log.Error("client", append(attrs, "code", string(bus.CodeOf(err)), "err", err)...)
	case err != nil:
		e.log.Warn("client", append(attrs, "code", string(bus.CodeOf(err)), "err", err)...)
	default:
		e.log.Info("client", attrs...)
	}
	if e.onEvent == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.add(Event{Kind: kind, Time: e.now(), Room: room, Err: err, Detail: detail})
	if !e.running {
		e.running = true
		go e.run()
	}
}

// add puts an event into the queue.
func (e *events) add(ev Event) {
	for _, last := range slices.Backward(e.queue) {
		if last.Room == ev.Room {
			if last.says() == ev.says() {
				return
			}
			break
		}
	}
	if e.waiting[ev.Kind] >= maxWaiting {
		oldest := slices.IndexFunc(e.queue, func(q Event) bool { return q.Kind == ev.Kind })
		e.queue = slices.Delete(e.queue, oldest, oldest+1)
		e.waiting[ev.Kind]--
		e.lost++
	}
	e.queue = append(e.queue, ev)
	e.waiting[ev.Kind]++
}

// said is what an event tells, apart from when.
type said struct {
	kind   EventKind
	err    string
	detail string
}

func (ev Event) says() said {
	s := said{kind: ev.Kind, detail: ev.Detail}
	if ev.Err != nil {
		s.err = ev.Err.Error()
	}
	return s
}

// take removes the event that is told next from the queue.
func (e *events) take() Event {
	if e.lost > 0 {
		ev := Event{Kind: EventLost, Time: e.now(), Detail: fmt.Sprintf("%d events", e.lost)}
		e.lost = 0
		return ev
	}
	ev := e.queue[0]
	e.queue = slices.Delete(e.queue, 0, 1)
	e.waiting[ev.Kind]--
	return ev
}

func (e *events) run() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) > 0 {
		next := e.take()
		e.mu.Unlock()
		e.onEvent(next)
		e.mu.Lock()
	}
	e.running = false
	e.idle.Broadcast()
}

// close waits until what was raised has been told; later events are only
// logged.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for e.running {
		e.idle.Wait()
	}
}
