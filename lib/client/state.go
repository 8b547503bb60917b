package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const (
	handlesFile  = "handles.json"
	roomsFile    = "rooms.json"
	revokedFile  = "revoked.json"
	resealedFile = "resealed.json"

	stateDirMode  fs.FileMode = 0o700
	stateFileMode fs.FileMode = 0o600
)

// state is the directory of one identity on one bus:
//
//	rooms/            head pins (room.Pins)
//	cards, card       newest cards seen (identity.CardPins); the own card
//	handles.json      handles pinned on first use
//	revoked.json      signed revocations seen
//	resealed.json     up to which card the keys of rooms were sealed again
//	rooms.json        rooms made or accepted, and their names
//	unsettled/        signed records of which it is not known whether they count
//	lineage/          how the head pins were reached
//	cursors/          places of durable readers
//	blobs/            what is sealed and not yet sent, or fetched in part
//	proofs/           what proves a fork or an equivocation
type state struct {
	dir  string
	temp bool
}

// openState makes the directory below root. An empty root is a temporary
// directory that remove deletes.
func openState(root string, b bus.BusID, id bus.ID) (*state, error) {
	s := &state{temp: root == ""}
	if s.temp {
		dir, err := os.MkdirTemp("", "unibus-client-")
		if err != nil {
			return nil, fmt.Errorf("open state: %w", err)
		}
		s.dir = dir
		return s, nil
	}
	s.dir = filepath.Join(root, b.Token(), id.Token())
	if err := os.MkdirAll(s.dir, stateDirMode); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	return s, nil
}

// remove deletes a temporary directory and nothing else.
func (s *state) remove() error {
	if !s.temp {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// path joins names to the directory.
func (s *state) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// stateFile is a small JSON file that several processes read and replace.
type stateFile[T any] struct {
	path string
}

// read returns the file's content, the zero T where there is none.
func (f stateFile[T]) read() (T, error) {
	var v T
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("read state: %w", err)
	}
	if v, err = parseState[T](raw); err != nil {
		return v, fmt.Errorf("read state %s: %w", f.path, err)
	}
	return v, nil
}

// maxStateFile is beyond what any of the files comes to.
const maxStateFile = 32 << 20

// parseState reads the content of a file. The error has [bus.CodeMalformed].
func parseState[T any](raw []byte) (T, error) {
	var v T
	if len(raw) > maxStateFile {
		return v, bus.Errorf(bus.CodeMalformed, "%d bytes, at most %d", len(raw), maxStateFile)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, bus.Errorf(bus.CodeMalformed, "%w", err)
	}
	return v, nil
}

// update reads the file, lets change work on it and writes it back, durably
// and with nobody between. Where change returns an error nothing is written.
func (f stateFile[T]) update(ctx context.Context, change func(*T) error) error {
	unlock, err := durable.Lock(ctx, f.path+".lock")
	if err != nil {
		return fmt.Errorf("update state: %w", err)
	}
	defer unlock()
	v, err := f.read()
	if err != nil {
		return err
	}
	if err := change(&v); err != nil {
		return err
	}
	return f.write(v)
}

// write replaces the file, for those who hold its lock.
func (f stateFile[T]) write(v T) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := durable.WriteFile(f.path, append(raw, '\n'), stateFileMode); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
