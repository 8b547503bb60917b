package broker

import (
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestPurgeDeletesWhatIsPastItsTimeAndNothingElse(t *testing.T) {
	b := start(t, testConfig(t))
	js := store(t, b)
	old, kept := bus.RoomID{0x0b, 1}, bus.RoomID{0x0b, 2} // of one shard
	put := func(room bus.RoomID, sender byte) {
		t.Helper()
		if _, err := js.Publish(t.Context(), bus.DataSubject(room, bus.ID{sender}, true), []byte("frame")); err != nil {
			t.Fatal(err)
		}
	}
	counts := func() map[string]uint64 {
		t.Helper()
		stream, err := js.Stream(t.Context(), bus.Stream(bus.Shard(old)))
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]uint64{}
		for name, room := range map[string]bus.RoomID{"old": old, "kept": kept} {
			for _, sender := range []byte{1, 2} {
				subject := bus.DataSubject(room, bus.ID{sender}, true)
				if msg, err := stream.GetLastMsgForSubject(t.Context(), subject); err == nil {
					found[name] = max(found[name], msg.Sequence)
				}
			}
		}
		return found
	}
	put(old, 1)
	put(kept, 1)
	put(old, 2)
	cutoff := time.Now()
	if err := b.Purge(t.Context(), []Expiry{{old, cutoff.Add(-time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if got := counts(); got["old"] != 3 {
		t.Fatalf("an hour before the first message: %v", got)
	}
	put(old, 1)
	if err := b.Purge(t.Context(), []Expiry{{old, cutoff}}); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), bus.Stream(bus.Shard(old)))
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 2 {
		t.Errorf("%d messages are left, want the later one of the room and that of the other room", n)
	}
	if got := counts(); got["old"] != 4 || got["kept"] != 2 {
		t.Errorf("last messages %v", got)
	}
	if err := b.Purge(t.Context(), []Expiry{{old, time.Now().Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if got := counts(); got["old"] != 0 || got["kept"] != 2 {
		t.Errorf("after everything is past its time: %v", got)
	}
}
