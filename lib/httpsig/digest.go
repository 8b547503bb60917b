package httpsig

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

// digestName is the key of SHA-256 in Content-Digest (RFC 9530 section 7.2).
const digestName = "sha-256"

func formatDigest(digest [sha256.Size]byte) (string, error) {
	return single(digestName, httpsfv.NewItem(digest[:]))
}

func parseDigest(value string) ([sha256.Size]byte, error) {
	name, raw, err := parseBytes(HeaderDigest, value, maxDigest)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	if name != digestName {
		return [sha256.Size]byte{}, bus.Errorf(bus.CodeUnauthenticated, "check %s: want %s, have %.40q", HeaderDigest, digestName, name)
	}
	if err := checkSize(HeaderDigest, raw, sha256.Size); err != nil {
		return [sha256.Size]byte{}, err
	}
	return [sha256.Size]byte(raw), nil
}

// Body reads the content of the verified request from r, which may be nil for
// none, and returns it if it is what the signature covers. It reads one byte
// more than limit at most.
//
// Errors have [bus.CodeTooLarge] beyond limit, [bus.CodeUnauthenticated] where
// the digest differs, [bus.CodeTimeout] where a deadline of r ran out and
// [bus.CodeMalformed] where r fails otherwise, such as for content cut short.
func (v Verified) Body(r io.Reader, limit int64) ([]byte, error) {
	if r == nil {
		r = http.NoBody
	}
	body, err := io.ReadAll(v.Reader(io.NopCloser(r), limit))
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Reader returns the content of the verified request as a stream, at most limit
// bytes of it. The digest is checked at the end: in place of io.EOF comes an
// error as from [Verified.Body] where it differs. What was read before that is
// unproven, and stays so for a caller that stops earlier. Close closes r.
func (v Verified) Reader(r io.ReadCloser, limit int64) io.ReadCloser {
	return &digestReader{src: r, hash: sha256.New(), want: v.Digest, left: max(limit, 0)}
}

type digestReader struct {
	src  io.ReadCloser
	hash hash.Hash
	want [sha256.Size]byte
	left int64 // bytes that may still come
	err  error // what every further Read returns
}

// Read implements [io.Reader].
func (d *digestReader) Read(p []byte) (int, error) {
	if d.err != nil || len(p) == 0 {
		return 0, d.err
	}
	if d.left == 0 {
		return 0, d.probe()
	}
	if int64(len(p)) > d.left {
		p = p[:d.left]
	}
	n, err := d.src.Read(p)
	d.left -= int64(n)
	d.hash.Write(p[:n]) // a hash never fails
	d.err = d.finish(err)
	return n, d.err
}

// probe tells content that ends at the limit from content that goes on.
func (d *digestReader) probe() error {
	var one [1]byte
	n, err := d.src.Read(one[:])
	if n > 0 {
		d.err = bus.Errorf(bus.CodeTooLarge, "read content: it goes on beyond the limit")
	} else {
		d.err = d.finish(err)
	}
	return d.err
}

// finish turns the error that ended or interrupted the source into ours.
func (d *digestReader) finish(err error) error {
	switch {
	case err == nil:
		return nil
	case err == io.EOF:
		if [sha256.Size]byte(d.hash.Sum(nil)) != d.want {
			return bus.Errorf(bus.CodeUnauthenticated, "check content: it does not have the digest that was signed")
		}
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return bus.Errorf(bus.CodeTimeout, "read content: %w", err)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return bus.Errorf(bus.CodeTooLarge, "read content: %w", err)
	}
	return bus.Errorf(bus.CodeMalformed, "read content: %w", err)
}

// Close implements [io.Closer].
func (d *digestReader) Close() error { return d.src.Close() }
