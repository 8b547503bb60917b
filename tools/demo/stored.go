package demo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// storedFrame is a frame as it lies in a file of the node.
type storedFrame struct {
	header frame.Header
	raw    []byte
	file   string
}

// scan is what a walk through the node's directory found.
type scan struct {
	files  int
	bytes  int64
	frames []storedFrame
	leaks  []string // "file: text"
}

// scanDir reads every file below dir, collects the frames in them, and looks
// for texts that must not be there.
func scanDir(dir string, texts []string) (scan, error) {
	var s scan
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s.files++
		s.bytes += int64(len(content))
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				s.leaks = append(s.leaks, fmt.Sprintf("%s: %q", path, text))
			}
		}
		s.frames = append(s.frames, framesIn(path, content)...)
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("read the node's files: %w", err)
	}
	return s, nil
}

// framesIn finds frames by how they begin. Their header has the length of the
// ciphertext, which says where each ends.
func framesIn(path string, content []byte) []storedFrame {
	begin := []byte{'U', 'B', bus.Version, bus.TypeFrame}
	var found []storedFrame
	for at := 0; ; {
		next := bytes.Index(content[at:], begin)
		if next < 0 {
			return found
		}
		at += next
		rest := content[at:]
		if len(rest) >= frame.HeaderSize {
			ctLen := uint64(binary.BigEndian.Uint32(rest[frame.HeaderSize-4:]))
			if end := frame.HeaderSize + ctLen + frame.SignatureSize; end <= uint64(len(rest)) {
				if h, err := frame.ParseHeader(rest[:end]); err == nil {
					found = append(found, storedFrame{h, rest[:end], path})
					at += int(end)
					continue
				}
			}
		}
		at += len(begin)
	}
}

// frameOf returns the stored frame of one message.
func (s scan) frameOf(room bus.RoomID, session bus.SessionID, seq bus.Seq) (storedFrame, bool) {
	for _, f := range s.frames {
		if f.header.Room == room && f.header.Session == session && f.header.Seq == seq {
			return f, true
		}
	}
	return storedFrame{}, false
}

// describe shows the beginning of the ciphertext, which is all there is to see.
func (f storedFrame) describe() string {
	return fmt.Sprintf("epoch %d, %d bytes: %s…", f.header.Epoch, len(f.ciphertext()), f.beginning())
}

func (f storedFrame) ciphertext() []byte {
	return f.raw[frame.HeaderSize : len(f.raw)-frame.SignatureSize]
}

// beginning is how the ciphertext begins, in hexadecimal.
func (f storedFrame) beginning() string {
	ct := f.ciphertext()
	return fmt.Sprintf("%x", ct[:min(14, len(ct))])
}
