package client

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// What was seen is what was noted, as far as the window tells.
func TestSeenIsWhatWasNoted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s seenFrames
		noted := map[bus.Seq]bool{}
		highest := bus.Seq(0)
		seqs := rapid.SliceOfN(rapid.Uint64Range(0, 3*bus.WindowSize), 1, 200).Draw(t, "seqs")
		for _, n := range seqs {
			s.note(&frame.Header{Seq: bus.Seq(n)})
			noted[bus.Seq(n)] = true
			highest = max(highest, bus.Seq(n))
		}
		session := s.snapshot()[sessionKey{}]
		if session.highest != highest {
			t.Fatalf("highest %d, want %d", session.highest, highest)
		}
		for n := range bus.Seq(4 * bus.WindowSize) {
			tooOld := n < highest && highest-n >= bus.WindowSize
			if session.has(n) != (noted[n] || tooOld) {
				t.Fatalf("seq %d of %d: has %t, noted %t", n, highest, session.has(n), noted[n])
			}
		}
	})
}

// Sessions without end push out their sender's own and nobody else's.
func TestSeenForgetsTheSenderWithMost(t *testing.T) {
	var s seenFrames
	quiet, loud := bus.ID{1}, bus.ID{2}
	s.note(&frame.Header{Sender: quiet, Seq: 7})
	for i := range maxHeights + 10 {
		s.note(&frame.Header{Sender: loud, Session: bus.SessionID{byte(i), byte(i >> 8)}, Seq: bus.Seq(i)})
	}
	if len(s.sessions) != maxHeights {
		t.Errorf("%d sessions are kept", len(s.sessions))
	}
	if h := s.heights(map[bus.ID]bool{quiet: true}); len(h) != 1 || h[0].Seq != 7 {
		t.Errorf("heights of the quiet one: %v", h)
	}
	h := s.heights(map[bus.ID]bool{loud: true})
	if len(h) != maxHeights-1 || h[0].Seq != 11 || h[len(h)-1].Seq != maxHeights+9 {
		t.Errorf("%d heights, %v to %v", len(h), h[0], h[len(h)-1])
	}
}
