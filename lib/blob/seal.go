package blob

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// What age makes of content (age-encryption.org/v1).
const (
	headerSize = 1627 // one stanza "mlkem768x25519" and the MAC
	nonceSize  = 16
	chunkSize  = 64 << 10
	tagSize    = 16
	macLine    = "\n--- "
	macLen     = 43 // base64 of 32 bytes
)

// copySize is how much of a stream is held at a time.
const copySize = chunkSize

// SealedSize returns how many bytes content of n bytes has when it is sealed
// without padding.
func SealedSize(n int64) int64 {
	chunks := max(1, (n+chunkSize-1)/chunkSize)
	return headerSize + nonceSize + n + chunks*tagSize
}

// Seal seals the content of src under a key made for it, writes it to dst and
// returns the reference, in which name and media type are for the caller to
// fill in. With pad, zeros follow the content up to its [wire.Padmé] length,
// so that the stored size tells less.
//
// Content of more than limit bytes is [bus.CodeTooLarge]. Other errors are
// those of src and dst; what dst has got is then worth nothing.
func Seal(dst io.Writer, src io.Reader, pad bool, limit int64) (Ref, error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return Ref{}, fmt.Errorf("seal blob: %w", err)
	}
	ref := Ref{Identity: id.String()}
	out := &meter{dst: dst, hash: sha256.New()}
	w, err := age.Encrypt(out, id.Recipient())
	if err != nil {
		return Ref{}, fmt.Errorf("seal blob: %w", err)
	}
	content := sha256.New()
	limit = min(limit, bus.MaxBlobSize)
	ref.Size, err = io.CopyBuffer(io.MultiWriter(w, content), io.LimitReader(src, limit+1), make([]byte, copySize))
	if err != nil {
		return Ref{}, fmt.Errorf("seal blob: %w", err)
	}
	if ref.Size > limit {
		return Ref{}, bus.Errorf(bus.CodeTooLarge, "seal blob: more than %d bytes", limit)
	}
	if pad {
		if err := writeZeros(w, wire.Padmé(ref.Size)-ref.Size); err != nil {
			return Ref{}, fmt.Errorf("seal blob: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return Ref{}, fmt.Errorf("seal blob: %w", err)
	}
	content.Sum(ref.Digest[:0])
	out.hash.Sum(ref.Hash[:0])
	ref.SealedSize = out.n
	return ref, nil
}

func writeZeros(w io.Writer, n int64) error {
	zeros := make([]byte, min(n, copySize))
	for n > 0 {
		m, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// meter counts and hashes what it passes on.
type meter struct {
	dst  io.Writer
	hash hash.Hash
	n    int64
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.dst.Write(p)
	m.hash.Write(p[:n]) // a hash never fails
	m.n += int64(n)
	return n, err
}

// Open returns the content of a blob as a stream of its sealed bytes. Every
// check of ref is made by the time that the stream ends with io.EOF; a stream
// that fails one ends with an error that has [bus.CodeBlobMismatch] instead.
// Errors of sealed itself are passed on as they are.
func Open(ref Ref, sealed io.Reader) (io.Reader, error) {
	if err := ref.check(); err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	id, err := ref.identity()
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	in := &source{src: sealed, hash: sha256.New(), left: ref.SealedSize}
	buffered := bufio.NewReaderSize(in, 4<<10)
	if err := checkHeader(buffered); err != nil {
		return nil, in.explain(err)
	}
	plain, err := age.Decrypt(buffered, id)
	if err != nil {
		return nil, in.explain(err)
	}
	return &opener{ref: ref, in: in, plain: plain, hash: sha256.New(), left: ref.Size}, nil
}

// checkHeader makes sure that the header is as long as age makes one for one
// recipient: its parser would read a line of any length into memory.
func checkHeader(r *bufio.Reader) error {
	head, err := r.Peek(headerSize)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if head[headerSize-1] != '\n' || bytes.Index(head, []byte(macLine)) != headerSize-1-macLen-len(macLine) {
		return errors.New("it has no header of the length that belongs there")
	}
	return nil
}

// source counts and hashes the sealed bytes on their way in, and remembers
// what went wrong with the stream itself.
type source struct {
	src  io.Reader
	hash hash.Hash
	left int64
	err  error // of src, other than io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	s.left -= int64(n)
	if s.left < 0 {
		return 0, errors.New("it is longer than the reference says")
	}
	s.hash.Write(p[:n])
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// explain turns what age says into what it means.
func (s *source) explain(err error) error {
	if s.err != nil {
		return fmt.Errorf("open blob: %w", s.err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return bus.Errorf(bus.CodeBlobMismatch, "open blob: it is cut short")
	}
	return bus.Errorf(bus.CodeBlobMismatch, "open blob: %v", err)
}

// opener gives out content, and checks everything at its end.
type opener struct {
	ref   Ref
	in    *source
	plain io.Reader
	hash  hash.Hash
	left  int64
	err   error
}

// Read implements [io.Reader].
func (o *opener) Read(p []byte) (int, error) {
	if o.err != nil || len(p) == 0 {
		return 0, o.err
	}
	if o.left == 0 {
		o.err = o.finish()
		return 0, o.err
	}
	n, err := o.plain.Read(p[:min(int64(len(p)), o.left)])
	o.hash.Write(p[:n])
	o.left -= int64(n)
	switch {
	case err == nil || err == io.EOF && o.left == 0:
	case err == io.EOF:
		o.err = bus.Errorf(bus.CodeBlobMismatch, "open blob: its content ends %d bytes early", o.left)
	default:
		o.err = o.in.explain(err)
	}
	return n, o.err
}

// finish reads the padding and makes the checks that need everything.
func (o *opener) finish() error {
	buf := make([]byte, 4<<10)
	for {
		n, err := o.plain.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return bus.Errorf(bus.CodeBlobMismatch, "open blob: something follows its content")
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return o.in.explain(err)
		}
	}
	switch {
	case o.in.left != 0:
		return bus.Errorf(bus.CodeBlobMismatch, "open blob: it is %d bytes shorter than the reference says", o.in.left)
	case bus.BlobHash(o.in.hash.Sum(nil)) != o.ref.Hash:
		return bus.Errorf(bus.CodeBlobMismatch, "open blob: its sealed bytes have another hash than %s", o.ref.Hash)
	case [sha256.Size]byte(o.hash.Sum(nil)) != o.ref.Digest:
		return bus.Errorf(bus.CodeBlobMismatch, "open blob: its content has another hash than the reference says")
	}
	return io.EOF
}
