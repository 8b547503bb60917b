package room

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const (
	pinFileMode fs.FileMode = 0o600
	pinSize                 = 8 + 32
)

// Pin is how far somebody has come in the history of a room: the newest record
// that was accepted.
type Pin struct {
	Epoch bus.Epoch
	Hash  bus.RecordHash
}

// PinOf returns the pin that a record is to have once it was accepted.
func PinOf(r *Record) Pin { return Pin{Epoch: r.Epoch, Hash: r.hash} }

// Pins keeps the pins of one identity on one bus, a file a room, for all
// processes that share the directory. They move forward only, and a pin that
// has moved survives a crash. It may be used from several goroutines at once.
type Pins struct{ dir string }

// OpenPins returns the pins kept in dir, which is made when the first one is
// written.
func OpenPins(dir string) *Pins { return &Pins{dir: dir} }

// Get returns the pin of a room, and false if there is none yet. A file that is
// no pin is [bus.CodeMalformed], never no pin.
func (p *Pins) Get(ctx context.Context, room bus.RoomID) (Pin, bool, error) {
	if err := ctx.Err(); err != nil {
		return Pin{}, false, bus.Errorf(bus.CodeTimeout, "read head pin: %w", err)
	}
	raw, err := os.ReadFile(p.path(room))
	if errors.Is(err, fs.ErrNotExist) {
		return Pin{}, false, nil
	}
	if err != nil {
		return Pin{}, false, fmt.Errorf("read head pin: %w", err)
	}
	pin, err := parsePin(raw)
	if err != nil {
		return Pin{}, false, fmt.Errorf("read head pin of %s: %w", room, err)
	}
	return pin, true, nil
}

// Move sets the pin of a room, durably, before it returns. It never goes back:
// a lower epoch than the pin's is [bus.CodeRollback], its epoch with another
// hash is [bus.CodeFork], the same pin again is no change. Before it goes on from
// an older pin it asks allow whether next comes after that one, whose error is
// then its own: a higher epoch alone may be that of another branch. Nobody moves
// the pin between the question and the move. Somebody whom another process has
// overtaken accepts records up to the pin first and then moves it.
func (p *Pins) Move(ctx context.Context, room bus.RoomID, next Pin, allow func(old Pin) error) error {
	if err := durable.MkdirAll(p.dir); err != nil {
		return fmt.Errorf("move head pin: %w", err)
	}
	unlock, err := durable.Lock(ctx, filepath.Join(p.dir, "pins.lock"))
	if err != nil {
		return fmt.Errorf("move head pin: %w", err)
	}
	defer unlock()
	old, ok, err := p.Get(ctx, room)
	if err != nil {
		return fmt.Errorf("move head pin: %w", err)
	}
	switch {
	case !ok:
	case next.Epoch > old.Epoch:
		if err := allow(old); err != nil {
			return fmt.Errorf("move head pin of %s: %w", room, err)
		}
	case next.Epoch < old.Epoch:
		return bus.Errorf(bus.CodeRollback, "move head pin of %s: epoch %d was accepted, %d is older", room, old.Epoch, next.Epoch)
	case next.Hash != old.Hash:
		return bus.Errorf(bus.CodeFork, "move head pin of %s: epoch %d was accepted as %s, not %s", room, old.Epoch, old.Hash, next.Hash)
	default:
		return nil
	}
	if err := durable.WriteFile(p.path(room), next.encode(), pinFileMode); err != nil {
		return fmt.Errorf("move head pin: %w", err)
	}
	return nil
}

// Forget removes the pin of a room, durably: whatever is shown next is believed. It is
// no error if there is none.
func (p *Pins) Forget(ctx context.Context, room bus.RoomID) error {
	if err := durable.MkdirAll(p.dir); err != nil {
		return fmt.Errorf("forget head pin: %w", err)
	}
	unlock, err := durable.Lock(ctx, filepath.Join(p.dir, "pins.lock"))
	if err != nil {
		return fmt.Errorf("forget head pin: %w", err)
	}
	defer unlock()
	if err := os.Remove(p.path(room)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget head pin: %w", err)
	}
	return durable.SyncDir(p.dir)
}

func (p *Pins) path(room bus.RoomID) string { return filepath.Join(p.dir, room.String()) }

// encode returns u64 epoch || RH.
func (p Pin) encode() []byte {
	b := cryptobyte.NewFixedBuilder(make([]byte, 0, pinSize))
	b.AddUint64(uint64(p.Epoch))
	b.AddBytes(p.Hash[:])
	return b.BytesOrPanic()
}

func parsePin(raw []byte) (Pin, error) {
	var p Pin
	s := cryptobyte.String(raw)
	if !s.ReadUint64((*uint64)(&p.Epoch)) || !s.CopyBytes(p.Hash[:]) || !s.Empty() {
		return Pin{}, bus.Errorf(bus.CodeMalformed, "parse head pin: want %d bytes, have %d", pinSize, len(raw))
	}
	return p, nil
}
