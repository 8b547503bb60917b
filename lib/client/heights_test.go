package client

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// What a sender has signed counts, and nothing else.
func TestOnlySignedFramesAreCounted(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.bob.signers.Store(p.alice.id, p.alice.identity().SignPub())
	rd, err := p.theirs.newCounter(t.Context(), map[bus.ID]bool{p.alice.id: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rd.release)
	session := bus.SessionID{1}
	for _, c := range []struct {
		name  string
		seq   bus.Seq
		touch func(raw *rawFrame)
		want  error
	}{
		{"signed", 4, func(*rawFrame) {}, nil},
		{"signature", 5, func(raw *rawFrame) { raw.data[len(raw.data)-1] ^= 1 }, bus.ErrBadSignature},
		{"ciphertext", 6, func(raw *rawFrame) { raw.data[frame.HeaderSize] ^= 1 }, bus.ErrBadSignature},
		{"seq", 7, func(raw *rawFrame) { raw.data[6+32+8+8+32+16] ^= 1 }, bus.ErrBadSignature},
		{"the subject of another", 8, func(raw *rawFrame) { raw.sender = p.bob.id.Token() }, nil}, // not looked at
		{"earlier", 3, func(*rawFrame) {}, nil},
	} {
		raw := p.sealed(t, session, c.seq, time.Now(), c.name)
		c.touch(&raw)
		if bodies, err := rd.give(raw); !errors.Is(err, c.want) || len(bodies) > 0 {
			t.Errorf("%s: read %q, %v", c.name, bodies, err)
		}
	}
	want := []frame.Height{{Sender: p.alice.id, Session: session, Seq: 4}}
	if diff := cmp.Diff(want, rd.counted.heights(map[bus.ID]bool{p.alice.id: true})); diff != "" {
		t.Error(diff)
	}
}
