package blobs

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"github.com/enmanuel/unibus/lib/bus"
)

// readSize is how much of a blob a reader holds at a time.
const readSize = 64 << 10

// NewReader returns the bytes of a blob from offset on. src gives the whole
// blob, of size bytes; what is before offset is read at once, since the hash
// covers it, unless ctx ends. The last bytes are given out only after the hash was
// found right: otherwise the error has [bus.CodeBlobMismatch]. Errors of src are
// passed on.
func NewReader(ctx context.Context, src io.Reader, hash bus.BlobHash, size, offset int64) (io.Reader, error) {
	if offset < 0 || offset > size {
		return nil, bus.Errorf(bus.CodeMalformed, "open blob: offset %d of %d bytes", offset, size)
	}
	r := &reader{src: src, want: hash, left: size, hash: sha256.New(), buf: make([]byte, readSize)}
	for skip := offset; skip > 0; {
		// Whoever asked and went away must not have the rest hashed for nothing.
		if err := context.Cause(ctx); err != nil {
			return nil, bus.Errorf(bus.CodeTimeout, "open blob: %w", err)
		}
		n, err := r.fill(min(skip, readSize))
		if err != nil {
			return nil, err
		}
		skip -= int64(n)
	}
	r.unread = nil
	return r, nil
}

type reader struct {
	src    io.Reader
	want   bus.BlobHash
	left   int64 // bytes not yet read from src
	hash   hash.Hash
	buf    []byte
	unread []byte // of buf
	err    error
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.unread) == 0 {
		if r.err == nil && r.left == 0 {
			r.err = io.EOF
		}
		if r.err != nil {
			return 0, r.err
		}
		if _, err := r.fill(readSize); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// fill reads up to n bytes, and checks the hash where they are the last.
func (r *reader) fill(n int64) (int, error) {
	piece := r.buf[:min(n, r.left)]
	_, err := io.ReadFull(r.src, piece)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		err = bus.Errorf(bus.CodeBlobMismatch, "read blob %s: it is cut short", r.want)
	case err == nil:
		r.hash.Write(piece) // a hash never fails
		if r.left -= int64(len(piece)); r.left == 0 && bus.BlobHash(r.hash.Sum(nil)) != r.want {
			err = bus.Errorf(bus.CodeBlobMismatch, "read blob %s: its bytes have another hash", r.want)
		}
	}
	if err != nil {
		r.err, r.unread = err, nil
		return 0, err
	}
	r.unread = piece
	return len(piece), nil
}
