package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const pinsFileMode fs.FileMode = 0o600

// CardPins remembers, across restarts and for all processes that share the
// directory, the newest card seen of every identity of one bus. It may be used
// from several goroutines at once.
type CardPins struct {
	file, lock string
}

// cardPin is the newest card seen of an identity.
type cardPin struct {
	id   bus.ID
	seq  uint64
	hash bus.CardHash
}

// OpenCardPins returns the pins kept in dir, which is made if it is missing and
// must be used for one bus only.
func OpenCardPins(dir string) (*CardPins, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open card pins: %w", err)
	}
	return &CardPins{file: filepath.Join(dir, "cards"), lock: filepath.Join(dir, "cards.lock")}, nil
}

// Observe compares cards with the newest ones seen and remembers those that are
// newer, durably, before it returns. A card with a lower number than one seen
// before is [bus.CodeRollback], another card with the same number is
// [bus.CodeCardFork]; then none of the cards is remembered. Old cards that a
// room record names by hash are not to be observed. Many cards at once cost no
// more than one.
func (p *CardPins) Observe(ctx context.Context, cards ...*Card) error {
	unlock, err := durable.Lock(ctx, p.lock)
	if err != nil {
		return fmt.Errorf("observe card: %w", err)
	}
	defer unlock()
	pins, err := p.read()
	if err != nil {
		return fmt.Errorf("observe card: %w", err)
	}
	changed := false
	for _, c := range cards {
		var moved bool
		if pins, moved, err = movePin(pins, cardPin{c.ID(), c.Seq, c.Hash()}); err != nil {
			return fmt.Errorf("observe card: %w", err)
		}
		changed = changed || moved
	}
	if !changed {
		return nil
	}
	if err := durable.WriteFile(p.file, encodePins(pins), pinsFileMode); err != nil {
		return fmt.Errorf("observe card: %w", err)
	}
	return nil
}

func (p *CardPins) read() ([]cardPin, error) {
	raw, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pins, err := parsePins(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.file, err)
	}
	return pins, nil
}

// movePin puts a pin in its place among pins in ascending order of id, and
// reports whether that changed anything.
func movePin(pins []cardPin, next cardPin) (_ []cardPin, moved bool, err error) {
	i, known := slices.BinarySearchFunc(pins, next, compareIDs)
	if !known {
		return slices.Insert(pins, i, next), true, nil
	}
	switch old := pins[i]; {
	case next.seq < old.seq:
		return nil, false, bus.Errorf(bus.CodeRollback, "card %d of %s, after card %d was seen", next.seq, next.id, old.seq)
	case next.seq > old.seq:
		pins[i] = next
		return pins, true, nil
	case next.hash != old.hash:
		return nil, false, bus.Errorf(bus.CodeCardFork, "two cards %d of %s: %s and %s", next.seq, next.id, old.hash, next.hash)
	}
	return pins, false, nil
}

func compareIDs(a, b cardPin) int { return bytes.Compare(a.id[:], b.id[:]) }

func encodePins(pins []cardPin) []byte {
	var b cryptobyte.Builder
	for _, p := range pins {
		b.AddBytes(p.id[:])
		b.AddUint64(p.seq)
		b.AddBytes(p.hash[:])
	}
	return b.BytesOrPanic()
}

func parsePins(raw []byte) ([]cardPin, error) {
	s := cryptobyte.String(raw)
	var pins []cardPin
	for !s.Empty() {
		var p cardPin
		if !s.CopyBytes(p.id[:]) || !s.ReadUint64(&p.seq) || !s.CopyBytes(p.hash[:]) {
			return nil, bus.Errorf(bus.CodeMalformed, "parse card pins: cut short")
		}
		if len(pins) > 0 && compareIDs(pins[len(pins)-1], p) >= 0 {
			return nil, bus.Errorf(bus.CodeMalformed, "parse card pins: ids do not ascend")
		}
		pins = append(pins, p)
	}
	return pins, nil
}
