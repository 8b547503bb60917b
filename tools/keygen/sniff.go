package keygen

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/enmanuel/unibus/lib/bus"
)

// kind is what a file looks like from its first line.
type kind int

const (
	kindSecret kind = iota // an identity, or locked
	kindRoot
	kindCard
	kindRevocation
)

// sniff looks at the beginning of a file. Only package identity decides
// whether the file is what it looks like.
func sniff(file string) (kind, error) {
	raw, err := readSmall(file)
	if err != nil {
		return 0, err
	}
	switch {
	case bytes.HasPrefix(raw, []byte("unibus-root-")):
		return kindRoot, nil
	case bytes.HasPrefix(raw, []byte("unibus-revocation-")):
		return kindRevocation, nil
	case bytes.HasPrefix(raw, []byte("unibus-identity-")), bytes.HasPrefix(raw, []byte("-----BEGIN AGE ")), bytes.HasPrefix(raw, []byte("age-encryption.org/")):
		return kindSecret, nil
	}
	return kindCard, nil
}

// readSmall reads a file that is small if it is a key or a card.
func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, bus.Errorf(bus.CodeNotFound, "read key: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, bus.MaxSecretFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read key: %w", err)
	case len(raw) > bus.MaxSecretFile:
		return nil, bus.Errorf(bus.CodeMalformed, "read key: %s is too large for a key or card", file)
	}
	return raw, nil
}
