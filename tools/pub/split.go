package pub

import (
	"bufio"
	"io"

	"github.com/enmanuel/unibus/lib/bus"
)

// maxPiece is the longest body that is cut from a stream, in bytes. A frame
// holds a little more, which headers may take.
const maxPiece = 240 << 10

// piece is the body of a message, cut from a stream.
type piece struct {
	body []byte
	// open tells that no newline ended it: the last one of a stream that ends
	// without, or a part of a line that is too long for one message.
	open bool
}

// lines cuts a stream into lines. A newline is one byte 0x0a; everything else
// belongs to the line, and a line that does not fit into longest bytes with its
// newline is several pieces.
type lines struct{ r *bufio.Reader }

func newLines(r io.Reader, longest int) *lines { return &lines{bufio.NewReaderSize(r, longest)} }

// next implements pieces.
func (l *lines) next() (piece, error) {
	part, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
		return piece{body: append([]byte{}, part[:len(part)-1]...)}, nil
	case err == bufio.ErrBufferFull, len(part) > 0:
		// What stopped the read, if it was more than a full buffer, comes again.
		return piece{body: append([]byte{}, part...), open: true}, nil
	}
	return piece{}, err
}

// pieces is a stream, cut.
type pieces interface {
	// next returns the next piece, whose body is the caller's to keep, or [io.EOF].
	next() (piece, error)
}

// whole is a stream that becomes one message of at most longest bytes.
type whole struct {
	r       io.Reader
	longest int
	done    bool
}

// next implements pieces: it returns everything once. A stream that does not
// fit into a message is [bus.CodeTooLarge].
func (w *whole) next() (piece, error) {
	if w.done {
		return piece{}, io.EOF
	}
	w.done = true
	body, err := io.ReadAll(io.LimitReader(w.r, int64(w.longest)+1))
	switch {
	case err != nil:
		return piece{}, err
	case len(body) > w.longest:
		return piece{}, bus.Errorf(bus.CodeTooLarge, "it is larger than a message, which ends at %d bytes with these headers", w.longest)
	}
	return piece{body: body, open: true}, nil
}
