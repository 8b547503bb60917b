package room

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

// onward is for pins that have no chain behind them.
func onward(Pin) error { return nil }

func TestPinsMoveForwardOnly(t *testing.T) {
	ctx, dir, id := context.Background(), filepath.Join(t.TempDir(), "a", "rooms"), bus.RoomID{1}
	if pin, ok, err := OpenPins(dir).Get(ctx, id); ok || err != nil {
		t.Fatalf("a pin before the first: %v, %v", pin, err)
	}
	a, b := bus.RecordHash{0xa}, bus.RecordHash{0xb}
	for _, step := range []struct {
		name string
		move Pin
		want bus.Code
		pin  Pin
	}{
		{"first use", Pin{3, a}, "", Pin{3, a}},
		{"the same again", Pin{3, a}, "", Pin{3, a}},
		{"another record of that epoch", Pin{3, b}, bus.CodeFork, Pin{3, a}},
		{"back", Pin{2, a}, bus.CodeRollback, Pin{3, a}},
		{"to the beginning", Pin{0, a}, bus.CodeRollback, Pin{3, a}},
		{"on", Pin{4, b}, "", Pin{4, b}},
		{"far on", Pin{1 << 40, a}, "", Pin{1 << 40, a}},
		{"back again", Pin{4, b}, bus.CodeRollback, Pin{1 << 40, a}},
	} {
		// Opened anew each time: what counts is on the disk.
		wantCode(t, step.name, OpenPins(dir).Move(ctx, id, step.move, onward), step.want)
		if got, ok, err := OpenPins(dir).Get(ctx, id); err != nil || !ok || got != step.pin {
			t.Errorf("%s: the pin is %v, %v", step.name, got, err)
		}
	}
	if _, ok, err := OpenPins(dir).Get(ctx, bus.RoomID{2}); ok || err != nil {
		t.Errorf("another room has a pin: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, id.String()))
	if err != nil || info.Mode() != 0o600 || info.Size() != pinSize {
		t.Errorf("pin file: %v, %v", info, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("pin directory: %v, %v", info, err)
	}
}

// Whether the way from the old pin leads to the new one is not for Pins to say,
// and nobody else moves the pin while it is asked.
func TestPinsMoveOnOnlyWhereTheOldOneIsKnown(t *testing.T) {
	ctx, dir, id := context.Background(), t.TempDir(), bus.RoomID{1}
	old, next := Pin{3, bus.RecordHash{0xa}}, Pin{5, bus.RecordHash{0xb}}
	never := func(Pin) error {
		t.Error("asked although nothing is pinned")
		return nil
	}
	if err := OpenPins(dir).Move(ctx, id, old, never); err != nil {
		t.Fatal(err)
	}
	refused := OpenPins(dir).Move(ctx, id, next, func(was Pin) error {
		if was != old {
			t.Errorf("asked about %v", was)
		}
		short, cancel := context.WithCancel(ctx)
		cancel()
		wantCode(t, "another mover meanwhile", OpenPins(dir).Move(short, id, next, onward), bus.CodeTimeout)
		return bus.Errorf(bus.CodeFork, "another branch")
	})
	wantCode(t, "refused", refused, bus.CodeFork)
	if got, _, err := OpenPins(dir).Get(ctx, id); err != nil || got != old {
		t.Errorf("the pin is %v, %v", got, err)
	}
	if err := OpenPins(dir).Move(ctx, id, next, onward); err != nil {
		t.Error(err)
	}
}

func TestPinOfARecordIsItsEpochAndHash(t *testing.T) {
	first := forge(t, "alice", nil, draft(t, "alice=owner"))
	second := forge(t, "alice", first, draft(t, "alice=owner")).Record
	if got := PinOf(second); got != (Pin{1, second.Hash()}) {
		t.Errorf("pin is %v", got)
	}
}

func TestDamagedPinIsAnErrorAndNotForgotten(t *testing.T) {
	ctx, dir, id := context.Background(), t.TempDir(), bus.RoomID{1}
	pins := OpenPins(dir)
	if err := pins.Move(ctx, id, Pin{1, bus.RecordHash{1}}, onward); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, id.String()))
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"empty": {}, "cut short": whole[:pinSize-1], "too long": append(bytes.Clone(whole), 0),
	} {
		if err := os.WriteFile(filepath.Join(dir, id.String()), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, ok, err := pins.Get(ctx, id)
		wantCode(t, name+", read", err, bus.CodeMalformed)
		if ok {
			t.Errorf("%s: there is a pin", name)
		}
		wantCode(t, name+", moved", pins.Move(ctx, id, Pin{9, bus.RecordHash{9}}, onward), bus.CodeMalformed)
		if after, err := os.ReadFile(filepath.Join(dir, id.String())); err != nil || !bytes.Equal(after, damaged) {
			t.Errorf("%s: the file was replaced: %v", name, err)
		}
	}
}

func TestPinsGiveUpWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	pins := OpenPins(t.TempDir())
	wantCode(t, "move", pins.Move(ctx, bus.RoomID{1}, Pin{}, onward), bus.CodeTimeout)
	_, _, err := pins.Get(ctx, bus.RoomID{1})
	wantCode(t, "get", err, bus.CodeTimeout)
}

// Of two that go on from one pin in different ways, one is told.
func TestRacingPinsDoNotBothMove(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	for round := range 10 {
		next := Pin{Epoch: bus.Epoch(round + 1)}
		errs := make([]error, 4)
		var workers sync.WaitGroup
		for i := range errs {
			workers.Go(func() {
				mine := next
				mine.Hash[0] = byte(i + 1)
				errs[i] = OpenPins(dir).Move(ctx, bus.RoomID{1}, mine, onward)
			})
		}
		workers.Wait()
		moved := 0
		for _, err := range errs {
			switch bus.CodeOf(err) {
			case "":
				moved++
			case bus.CodeFork:
			default:
				t.Error(err)
			}
		}
		if moved != 1 {
			t.Fatalf("round %d: %d of %d moved the pin", round, moved, len(errs))
		}
	}
}
