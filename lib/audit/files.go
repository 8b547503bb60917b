package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
)

// magic begins every file.
const magic = "unibus-audit/1"

// Dir returns where the log of a node with this data directory is.
func Dir(dataDir string) string { return filepath.Join(dataDir, "audit") }

// fileName is named after the first entry.
var fileName = regexp.MustCompile(`^[0-9]{20}\.log$`)

func nameOf(first uint64) string { return fmt.Sprintf("%020d.log", first) }

// header is the first line of a file: the number of its first entry, and the
// hash that entry stands on. In the first file that is a random one, so that no
// two logs begin alike.
type header struct {
	first uint64
	prev  bus.AuditHash
}

func (h header) line() []byte { return fmt.Appendf(nil, "%s %d %s\n", magic, h.first, h.prev) }

// parseHeader reads a first line without its newline, in exactly the form that
// line writes.
func parseHeader(line []byte) (header, error) {
	var h header
	fields := strings.Split(string(line), " ")
	if len(fields) != 3 || fields[0] != magic {
		return h, bus.Errorf(bus.CodeMalformed, "it does not begin with %q", magic)
	}
	first, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil || first == 0 {
		return h, bus.Errorf(bus.CodeMalformed, "its first entry is %.40q", fields[1])
	}
	prev, err := bus.ParseAuditHash(fields[2])
	if err != nil {
		return h, err
	}
	h = header{first, prev}
	if !bytes.Equal(h.line()[:len(line)], line) {
		return h, bus.Errorf(bus.CodeMalformed, "its first line is not in canonical form")
	}
	return h, nil
}

// list returns the numbers of the first entries of the files, ascending.
func list(dir string) ([]uint64, error) {
	all, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, f := range all {
		if !fileName.MatchString(f.Name()) {
			continue
		}
		first, err := strconv.ParseUint(strings.TrimSuffix(f.Name(), ".log"), 10, 64)
		if err != nil {
			return nil, bus.Errorf(bus.CodeAuditBroken, "check audit file %s: %w", f.Name(), err)
		}
		firsts = append(firsts, first)
	}
	return firsts, nil
}

// tail is what stands behind the last newline of a file.
type tail struct {
	size  int   // bytes
	whole bool  // an entry that lacks nothing but its newline
	good  int64 // size of the file up to the last newline
}

// openFile opens the file named after an entry and reads its header.
func openFile(dir string, first uint64) (*os.File, *bufio.Reader, header, error) {
	f, err := os.Open(filepath.Join(dir, nameOf(first)))
	if err != nil {
		return nil, nil, header{}, err
	}
	lines := bufio.NewReaderSize(f, maxLine+1)
	h, err := readHeader(lines)
	if err == nil && h.first != first {
		err = bus.Errorf(bus.CodeMalformed, "it begins with entry %d", h.first)
	}
	if err != nil {
		return nil, nil, header{}, errors.Join(bus.Errorf(bus.CodeAuditBroken, "check audit file %s: %w", nameOf(first), err), f.Close())
	}
	return f, lines, h, nil
}

func readHeader(lines *bufio.Reader) (header, error) {
	line, err := lines.ReadSlice('\n')
	if err != nil { // files get their names when their headers are written
		return header{}, bus.Errorf(bus.CodeMalformed, "its first line is cut off: %w", err)
	}
	return parseHeader(line[:len(line)-1])
}

// startOf returns the chain that begins with a file, on the file's word for
// what it stands on.
func startOf(dir string, first uint64) (*Chain, error) {
	f, _, h, err := openFile(dir, first)
	if err != nil {
		return nil, err
	}
	return NewChain(h.first, h.prev), f.Close()
}

// readFile reads the next file of a chain. each gets every entry and its line.
// What stands behind the last newline is checked to be what a crash leaves.
func readFile(dir string, first uint64, chain *Chain, each func(Entry, []byte) error) (tail, error) {
	f, lines, h, err := openFile(dir, first)
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	switch {
	case h.first != chain.Next():
		return tail{}, bus.Errorf(bus.CodeAuditBroken, "check audit file %s: what comes before it ends with entry %d", nameOf(first), chain.Next()-1)
	case h.prev != chain.Head():
		return tail{}, bus.Errorf(bus.CodeAuditBroken, "check audit file %s: it does not stand on entry %d", nameOf(first), h.first-1)
	}
	good := int64(len(h.line()))
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			t, err := judge(chain, line)
			t.good = good
			return t, err
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return tail{}, err
		}
		good += int64(len(line))
		line = line[:len(line)-1]
		e, err := chain.Add(line)
		if err == nil {
			err = each(e, line)
		}
		if err != nil {
			return tail{}, err
		}
	}
}

// judge tells whether what stands behind the last newline is what a crash can
// leave: the beginning of a line, or a line without its newline, and the zeros
// some file systems put where data did not arrive. Anything else was changed.
func judge(chain *Chain, rest []byte) (tail, error) {
	t := tail{size: len(rest)}
	line := bytes.TrimRight(rest, "\x00")
	if len(line) <= hashLen {
		if strings.Trim(string(line), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == "" {
			return t, nil
		}
	} else if line[hashLen] == ' ' {
		dec := json.NewDecoder(bytes.NewReader(line[hashLen+1:]))
		var text json.RawMessage
		err := dec.Decode(&text)
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return t, nil
		}
		if err == nil {
			if _, err := NewChain(chain.next, chain.prev).Add(line); err != nil {
				return t, err
			}
			t.whole = true
			return t, nil
		}
	}
	return t, bus.Errorf(bus.CodeAuditBroken, "check audit entry %d: it is neither whole nor what a crash leaves", chain.Next())
}

// Summary is what [Scan] found.
type Summary struct {
	First uint64        // number of the first entry that is there, or will be
	Next  uint64        // number of the entry that comes next
	Head  bus.AuditHash // of the last entry, or what the first one will stand on
	Files int
	Torn  int // bytes of an unfinished entry at the end, which the next start cuts off
}

// Scan reads a log, checks all of it and calls each for every entry. It changes
// nothing, and may run while a node writes. A log that does not verify is
// [bus.CodeAuditBroken], and the error names the entry; a directory without one
// is [bus.CodeNotFound]. each's error ends the scan and is returned.
func Scan(dir string, each func(Entry) error) (Summary, error) {
	firsts, err := list(dir)
	if err == nil && len(firsts) == 0 {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Summary{}, bus.Errorf(bus.CodeNotFound, "read audit log: there is none in %s: %w", dir, err)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("read audit log: %w", err)
	}
	s := Summary{First: firsts[0], Files: len(firsts)}
	chain, err := startOf(dir, s.First)
	if err != nil {
		return s, fmt.Errorf("read audit log: %w", err)
	}
	for i, first := range firsts {
		t, err := readFile(dir, first, chain, func(e Entry, _ []byte) error { return each(e) })
		if err == nil && t.size > 0 && i < len(firsts)-1 {
			err = bus.Errorf(bus.CodeAuditBroken, "check audit entry %d: it is cut off", chain.Next())
		}
		if err != nil {
			return s, fmt.Errorf("read audit log: %w", err)
		}
		s.Torn = t.size
	}
	s.Next, s.Head = chain.Next(), chain.Head()
	return s, nil
}
