package client

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// seenFrames remembers which frames of a room were taken from its senders, for
// readers that begin later, and for those who remove a sender. Of each session
// it knows the last [bus.WindowSize] seqs; of all of them, the most recent
// maxHeights. Its zero value is empty.
type seenFrames struct {
	mu       sync.Mutex
	sessions map[sessionKey]seenSession
	notes    uint64
}

// seenSession is what was seen of one session.
type seenSession struct {
	highest bus.Seq
	window  [bus.WindowSize / 64]uint64 // a bit a seq, by seq modulo the size
	at      uint64                      // the number of the last note
}

// note remembers a frame.
func (s *seenFrames) note(h *frame.Header) {
	key := sessionKey{h.Sender, h.Session}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		s.sessions = map[sessionKey]seenSession{}
	}
	session, known := s.sessions[key]
	if !known {
		session.highest = h.Seq
		if len(s.sessions) >= maxHeights {
			s.forget()
		}
	}
	session.note(h.Seq)
	s.notes++
	session.at = s.notes
	s.sessions[key] = session
}

// forget drops a session to make room for another: the least recent one of the
// sender that has most, so that whoever opens sessions without end makes its own
// forgotten and nobody else's.
func (s *seenFrames) forget() {
	count := map[bus.ID]int{}
	most := 0
	for k := range s.sessions {
		count[k.sender]++
		most = max(most, count[k.sender])
	}
	var victim sessionKey
	oldest := s.notes + 1
	for k, session := range s.sessions {
		if count[k.sender] == most && session.at < oldest {
			victim, oldest = k, session.at
		}
	}
	delete(s.sessions, victim)
}

func (s *seenSession) note(seq bus.Seq) {
	if s.highest >= seq && s.highest-seq >= bus.WindowSize {
		return
	}
	if seq > s.highest {
		for n := range min(seq-s.highest, bus.WindowSize) {
			word, bit := seenBit(seq - n)
			s.window[word] &^= bit
		}
		s.highest = seq
	}
	word, bit := seenBit(seq)
	s.window[word] |= bit
}

// has reports whether a frame was seen, or is too old to tell.
func (s *seenSession) has(seq bus.Seq) bool {
	if seq > s.highest {
		return false
	}
	word, bit := seenBit(seq)
	return s.highest-seq >= bus.WindowSize || s.window[word]&bit != 0
}

func seenBit(seq bus.Seq) (word int, bit uint64) {
	at := seq % bus.WindowSize
	return int(at / 64), 1 << (at % 64)
}

// snapshot returns what was seen so far.
func (s *seenFrames) snapshot() map[sessionKey]seenSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[sessionKey]seenSession, len(s.sessions))
	for k, session := range s.sessions {
		out[k] = session
	}
	return out
}

// heights returns how far the sessions of these senders have come, the least
// recent session first.
func (s *seenFrames) heights(senders map[bus.ID]bool) []frame.Height {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []sessionKey
	for k := range s.sessions {
		if senders[k.sender] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b sessionKey) int { return cmp.Compare(s.sessions[a].at, s.sessions[b].at) })
	var out []frame.Height
	for _, k := range keys {
		out = append(out, frame.Height{Sender: k.sender, Session: k.session, Seq: s.sessions[k].highest})
	}
	return out
}

// sentBefore is how long before a reader begins a frame that is new to it may
// say that it was sent: so long clocks differ, and so long it is sent again.
const sentBefore = bus.ClockSkew + bus.PublishTimeout

// beginning is when a reader that reads nothing from the past began, and what
// had been seen of the room by then. A server could give it any of that again.
type beginning struct {
	at   time.Time
	seen map[sessionKey]seenSession
}

// check refuses a frame, which passed every other check, that is of the time
// before. On a nil beginning it refuses nothing.
func (b *beginning) check(f *frame.Opened) error {
	if b == nil {
		return nil
	}
	h := &f.Header
	if session, ok := b.seen[sessionKey{h.Sender, h.Session}]; ok && session.has(h.Seq) {
		return bus.Errorf(bus.CodeReplay, "it came before reading began")
	}
	if b.at.Sub(f.Sent) > sentBefore {
		return bus.Errorf(bus.CodeReplay, "it was sent at %s, reading began at %s", f.Sent, b.at)
	}
	return nil
}
