package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
)

// counted is what a meter or a filter saw, in words.
type counted []string

func (c *counted) frame(persisted bool, size int) {
	*c = append(*c, fmt.Sprintf("%t %d", persisted, size))
}

const fromServer = "INFO {}\r\nPING\r\n+OK\r\n" +
	"MSG ub.l.0.r.s 1 2\r\nhi\r\n" +
	"MSG ub.d.0.r.s 1 $JS.ACK.x 13\r\nMSG ub.l.a 1 1\r\n" +
	"HMSG ub.d.0.r.s 1 _INBOX.x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n" +
	"MSG _INBOX.x 1 5\r\nub.d.\r\n-ERR 'MSG ub.d.x 1 5'\r\nMSG ub.l.1.r.s 9 0\r\n\r\n"

func TestMeterCountsFramesHoweverTheyAreCut(t *testing.T) {
	want := "[false 2 true 13 true 14 false 0]"
	for size := 1; size <= len(fromServer); size++ {
		var seen counted
		m := meter{count: seen.frame}
		for rest := fromServer; rest != ""; {
			n := min(size, len(rest))
			m.pass([]byte(rest[:n]))
			rest = rest[n:]
		}
		if have := fmt.Sprint(seen); have != want {
			t.Fatalf("in pieces of %d: %s, want %s", size, have, want)
		}
	}
}

func TestMeterGivesUpOnWhatItDoesNotKnow(t *testing.T) {
	for _, line := range []string{"MSG ub.l.x 1 two\r\n", "MSG ub.l.x\r\n", "HMSG ub.l.x 1 -4\r\n", strings.Repeat("x", maxOwnPayload+1)} {
		var seen counted
		m := meter{count: seen.frame}
		m.pass([]byte(line))
		m.pass([]byte("\r\nMSG ub.l.0.r.s 1 2\r\nhi\r\n"))
		if len(seen) > 0 || !m.lost {
			t.Errorf("%.20q: went on to count %v", line, seen)
		}
	}
}

func FuzzMeter(f *testing.F) {
	f.Add([]byte(fromServer), uint8(7))
	f.Add([]byte("MSG ub.d.a 1 99999999999\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, cut uint8) {
		var whole, pieces counted
		one, two := meter{count: whole.frame}, meter{count: pieces.frame}
		one.pass(raw)
		for rest := raw; len(rest) > 0; {
			n := min(int(cut)+1, len(rest))
			two.pass(rest[:n])
			rest = rest[n:]
		}
		if fmt.Sprint(whole) != fmt.Sprint(pieces) || one.lost != two.lost {
			t.Errorf("whole %v %t, in pieces %v %t", whole, one.lost, pieces, two.lost)
		}
	})
}

func TestTrafficIsCounted(t *testing.T) {
	cfg := testConfig(t)
	cfg.Metrics = metrics.New("")
	b := open(t, cfg)
	live := bus.RoomID{1}
	reader, writer := member(t, b), member(t, b)
	sub, err := reader.SubscribeSync(bus.RoomSubject(live, false))
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := writer.Publish(bus.DataSubject(live, bus.ID{2}, false), []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Publish(bus.DataSubject(live, bus.ID{2}, true), []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := writer.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := sub.NextMsg(nats.DefaultTimeout); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the stored frame", func() bool {
		uses, err := b.Streams()
		if err != nil {
			t.Fatal(err)
		}
		use := uses[bus.Shard(live)]
		return len(uses) == bus.Shards && use.Messages == 1 && use.Bytes > 4 && use.MaxBytes == 0
	})
	want := `
		# HELP unibus_frames_total Frames of rooms that members sent (in) and were sent (out), by whether the room is persisted or live.
		# TYPE unibus_frames_total counter
		unibus_frames_total{direction="in",room="live"} 3
		unibus_frames_total{direction="in",room="persisted"} 1
		unibus_frames_total{direction="out",room="live"} 3
		unibus_frames_total{direction="out",room="persisted"} 0
		# HELP unibus_frame_bytes_total Bytes of those frames, NATS headers included.
		# TYPE unibus_frame_bytes_total counter
		unibus_frame_bytes_total{direction="in",room="live"} 15
		unibus_frame_bytes_total{direction="in",room="persisted"} 4
		unibus_frame_bytes_total{direction="out",room="live"} 15
		unibus_frame_bytes_total{direction="out",room="persisted"} 0
	`
	// The last frame is written to the reader before it is counted.
	var diff error
	await(t, "the counters", func() bool {
		diff = testutil.CollectAndCompare(cfg.Metrics, strings.NewReader(want), "unibus_frames_total", "unibus_frame_bytes_total")
		return diff == nil
	})
}

// await asks every 5 ms until done says so, for half a minute at most.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
