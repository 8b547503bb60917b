package identity

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const entriesLine = "unibus-entries-1"

// SignedEntry is a directory entry with its bytes, as [Root.SignEntry] made them.
type SignedEntry struct {
	Entry
	Raw []byte
}

// MarshalEntries returns the text in which entries travel from where the root is
// to where the bus is: the line "unibus-entries-1" and each entry on a line of
// unpadded base64url, after a comment that says what it is.
func MarshalEntries(entries []SignedEntry) []byte {
	var b bytes.Buffer
	b.WriteString(entriesLine + "\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "# %s is %s (%s) until %s\n", e.Handle, e.ID, e.ID.Fingerprint(), e.NotAfter.UTC().Format("2006-01-02"))
		b.WriteString(base64.RawURLEncoding.EncodeToString(e.Raw) + "\n")
	}
	return b.Bytes()
}

// ParseEntries reads what [MarshalEntries] writes. Each entry is verified under
// the bus that it names; whether that is the right one is for the caller. Errors
// have the codes of [ParseEntry], [bus.CodeMalformed] too for a text of more than
// [bus.MaxEntriesFile] bytes.
func ParseEntries(text []byte) ([]SignedEntry, error) {
	if len(text) > bus.MaxEntriesFile {
		return nil, bus.Errorf(bus.CodeMalformed, "parse directory entries: %d bytes, at most %d", len(text), bus.MaxEntriesFile)
	}
	rest, ok := strings.CutPrefix(string(text), entriesLine+"\n")
	if !ok {
		return nil, bus.Errorf(bus.CodeMalformed, "parse directory entries: does not begin with the line %q", entriesLine)
	}
	var entries []SignedEntry
	for line := range strings.Lines(rest) {
		line, ok := strings.CutSuffix(line, "\n")
		if !ok {
			return nil, bus.Errorf(bus.CodeMalformed, "parse directory entries: the last line has no end")
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		raw, err := base64.RawURLEncoding.Strict().DecodeString(line)
		if err != nil || strings.Contains(line, "\r") {
			return nil, bus.Errorf(bus.CodeMalformed, "parse directory entries: number %d is no line of base64url", len(entries)+1)
		}
		e, err := ParseSignedEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("number %d: %w", len(entries)+1, err)
		}
		entries = append(entries, SignedEntry{e, raw})
	}
	return entries, nil
}

// CreateEntries writes a new file of entries, which are public. It never
// overwrites: [bus.CodeFileExists].
func CreateEntries(path string, entries []SignedEntry) error {
	if err := durable.CreateFile(path, MarshalEntries(entries), 0o644); err != nil {
		return fmt.Errorf("create directory entries: %w", err)
	}
	return nil
}
