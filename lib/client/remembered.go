package client

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

// OwnCard is the card that clients of an identity which kept their state in
// stateDir, see [Config.StateDir], have made last for a bus. The error has
// [bus.CodeNotFound] where they have made none.
func OwnCard(stateDir string, b bus.BusID, id bus.ID) (*identity.Card, error) {
	raw, err := os.ReadFile(filepath.Join(stateDir, b.Token(), id.Token(), "card"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, bus.Errorf(bus.CodeNotFound, "read own card: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read own card: %w", err)
	}
	card, err := identity.ParseCard(raw)
	if err == nil && (card.ID() != id || card.BusID != b) {
		err = bus.Errorf(bus.CodeCardMismatch, "it is of %s on bus %s", card.ID(), card.BusID)
	}
	if err != nil {
		return nil, fmt.Errorf("read own card: %w", err)
	}
	return card, nil
}

// Remembered is what clients that kept their state in stateDir, see
// [Config.StateDir], know of a bus by name: the rooms made or accepted, and the
// handles pinned, each sorted. With a zero id it is what all identities know
// together. Nobody is asked and nothing is locked, so this suits proposals, not
// decisions.
func Remembered(stateDir string, b bus.BusID, id bus.ID) (rooms []bus.RoomName, handles []bus.Handle, err error) {
	dirs := []string{filepath.Join(stateDir, b.Token(), id.Token())}
	if id.IsZero() {
		entries, err := os.ReadDir(filepath.Dir(dirs[0]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		dirs = nil
		for _, e := range entries {
			dirs = append(dirs, filepath.Join(stateDir, b.Token(), e.Name()))
		}
	}
	names, pinned := map[bus.RoomName]bool{}, map[bus.Handle]bool{}
	for _, dir := range dirs {
		accepted, err := stateFile[acceptedRooms]{filepath.Join(dir, roomsFile)}.read()
		if err != nil {
			return nil, nil, err
		}
		for _, r := range accepted.Rooms {
			names[r.Name] = true
		}
		pins, err := stateFile[handlePins]{filepath.Join(dir, handlesFile)}.read()
		if err != nil {
			return nil, nil, err
		}
		for handle := range pins.Handles {
			pinned[handle] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(pinned)), nil
}
