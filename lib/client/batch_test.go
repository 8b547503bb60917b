package client

import (
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// Queueing a message takes no memory of its own.
func TestBatchAllocatesNothingARecord(t *testing.T) {
	body := make([]byte, 128)
	fill := func() {
		b := newBatch()
		for range bus.MaxRecords {
			if _, ok := b.add(frame.Record{Body: body}); !ok {
				t.Fatal("full too early")
			}
		}
		b.sealed()
	}
	fill() // the buffers grow once
	if n := testing.AllocsPerRun(20, fill); n > bus.MaxRecords/20 {
		t.Errorf("%.0f allocations for %d records", n, bus.MaxRecords)
	}
}
