package client

import (
	"bytes"
	"testing"
)

// A reader opens a frame in its own memory as soon as it gets it: nobody else's
// bytes change by that.
func TestEveryReaderHasItsOwnBytes(t *testing.T) {
	sent := bytes.Repeat([]byte("ciphertext"), 100)
	readers := []*feed{{}, {}, {}}
	got := 0
	shareFrame(rawFrame{data: bytes.Clone(sent)}, readers, func(f *feed, raw rawFrame) {
		if f != readers[got] {
			t.Errorf("offer %d is not for reader %d", got, got)
		}
		got++
		if !bytes.Equal(raw.data, sent) {
			t.Errorf("reader %d gets what another has used up", got)
		}
		clear(raw.data)
	})
	if got != len(readers) {
		t.Errorf("%d of %d readers were offered the frame", got, len(readers))
	}
}
