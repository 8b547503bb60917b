package frame

import (
	"container/list"
	"iter"

	"github.com/enmanuel/unibus/lib/bus"
)

// Height is the highest seq of one sender's session, as kept with the cursor of
// a durable reader.
type Height struct {
	Sender  bus.ID        `json:"sender"`
	Session bus.SessionID `json:"session"`
	Seq     bus.Seq       `json:"seq"`
}

// maxSessions is how many sessions of a room anything is remembered about.
const maxSessions = bus.WindowSessions + bus.WindowHeights

// stream names what has one row of seqs.
type stream struct {
	sender  bus.ID
	session bus.SessionID
}

func (h *Header) stream() stream { return stream{h.Sender, h.Session} }

// sessions keeps a value for each of a bounded number of streams and knows
// which were used most recently.
type sessions[V any] struct {
	index    map[stream]*list.Element
	recent   *list.List // of *sessionEntry[V], the most recent in front
	bySender map[bus.ID]int
}

type sessionEntry[V any] struct {
	key   stream
	value V
}

func newSessions[V any]() sessions[V] {
	return sessions[V]{index: map[stream]*list.Element{}, recent: list.New(), bySender: map[bus.ID]int{}}
}

func (s *sessions[V]) len() int { return len(s.index) }

// get leaves the order of use as it is.
func (s *sessions[V]) get(k stream) (v V, ok bool) {
	if e, ok := s.index[k]; ok {
		return e.Value.(*sessionEntry[V]).value, true
	}
	return v, false
}

// put stores the value and makes the stream the most recent one.
func (s *sessions[V]) put(k stream, v V) {
	if e, ok := s.index[k]; ok {
		e.Value.(*sessionEntry[V]).value = v
		s.recent.MoveToFront(e)
		return
	}
	s.index[k] = s.recent.PushFront(&sessionEntry[V]{k, v})
	s.bySender[k.sender]++
}

// remove forgets a stream that is there.
func (s *sessions[V]) remove(k stream) {
	s.recent.Remove(s.index[k])
	delete(s.index, k)
	if s.bySender[k.sender]--; s.bySender[k.sender] == 0 {
		delete(s.bySender, k.sender)
	}
}

// all goes from the least to the most recent.
func (s *sessions[V]) all() iter.Seq2[stream, V] {
	return func(yield func(stream, V) bool) {
		for e := s.recent.Back(); e != nil; e = e.Prev() {
			entry := e.Value.(*sessionEntry[V])
			if !yield(entry.key, entry.value) {
				return
			}
		}
	}
}

// oldest returns the stream that was used least recently.
func (s *sessions[V]) oldest() (stream, V) {
	entry := s.recent.Back().Value.(*sessionEntry[V])
	return entry.key, entry.value
}

// victim returns the stream to forget when there are too many: the least recent
// one of the sender that has most. A member that opens sessions without end
// thus makes its own forgotten and nobody else's, whose old frames could
// otherwise be replayed.
func (s *sessions[V]) victim() (stream, V) {
	most := 0
	for _, n := range s.bySender {
		most = max(most, n)
	}
	for k, v := range s.all() {
		if s.bySender[k.sender] == most {
			return k, v
		}
	}
	panic("frame: no session to forget") // callers have just found too many
}
