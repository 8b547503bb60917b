package httpsig

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/enmanuel/unibus/lib/bus"
)

// digestOf is a verified request that covers content.
func digestOf(content string) Verified {
	return Verified{Digest: sha256.Sum256([]byte(content))}
}

func TestBodyReturnsOnlyWhatWasSigned(t *testing.T) {
	const content = "0123456789"
	cut := io.MultiReader(strings.NewReader(content[:5]), iotest.ErrReader(io.ErrUnexpectedEOF))
	late := io.MultiReader(strings.NewReader(content[:5]), iotest.ErrReader(os.ErrDeadlineExceeded))
	capped := http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(strings.NewReader(content)), 5)
	for _, c := range []struct {
		name    string
		content io.Reader
		limit   int64
		want    bus.Code
	}{
		{"within the limit", strings.NewReader(content), 11, ""},
		{"at the limit", strings.NewReader(content), 10, ""},
		{"no limit to speak of", strings.NewReader(content), math.MaxInt64, ""},
		{"byte by byte", iotest.OneByteReader(strings.NewReader(content)), 10, ""},
		{"end together with the last bytes", iotest.DataErrReader(strings.NewReader(content)), 10, ""},
		{"over the limit", strings.NewReader(content), 9, bus.CodeTooLarge},
		{"no limit left", strings.NewReader(content), 0, bus.CodeTooLarge},
		{"negative limit", strings.NewReader(content), -1, bus.CodeTooLarge},
		{"without end", endless{}, 1 << 10, bus.CodeTooLarge},
		{"over a limit of the server", capped, 10, bus.CodeTooLarge},
		{"another byte", strings.NewReader("0123456788"), 10, bus.CodeUnauthenticated},
		{"a byte less", strings.NewReader(content[:9]), 10, bus.CodeUnauthenticated},
		{"a byte more", strings.NewReader(content + "a"), 11, bus.CodeUnauthenticated},
		{"nothing", strings.NewReader(""), 10, bus.CodeUnauthenticated},
		{"nil", nil, 10, bus.CodeUnauthenticated},
		{"cut short", cut, 10, bus.CodeMalformed},
		{"too slow", late, 10, bus.CodeTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, err := digestOf(content).Body(c.content, c.limit)
			wantCode(t, err, c.want)
			if want := map[bool]string{true: content}[c.want == ""]; string(body) != want {
				t.Errorf("got %q, want %q", body, want)
			}
		})
	}
}

func TestBodyOfNothingIsSignedToo(t *testing.T) {
	for name, r := range map[string]io.Reader{"nil": nil, "empty": strings.NewReader(""), "http.NoBody": http.NoBody} {
		if body, err := digestOf("").Body(r, 0); err != nil || len(body) != 0 {
			t.Errorf("%s: got %q (%v)", name, body, err)
		}
	}
	_, err := digestOf("").Body(strings.NewReader("a"), 10)
	wantCode(t, err, bus.CodeUnauthenticated)
	_, err = Verified{}.Body(nil, 10)
	wantCode(t, err, bus.CodeUnauthenticated)
}

func TestReaderStreamsAndChecksAtTheEnd(t *testing.T) {
	content := strings.Repeat("0123456789", 10_000)
	r := digestOf(content).Reader(io.NopCloser(strings.NewReader(content)), int64(len(content)))
	if err := iotest.TestReader(r, []byte(content)); err != nil {
		t.Error(err)
	}
}

func TestReaderKeepsItsError(t *testing.T) {
	r := digestOf("a").Reader(io.NopCloser(strings.NewReader("b")), 10)
	if n, err := r.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Fatalf("got %d bytes (%v)", n, err)
	}
	for range 3 {
		n, err := r.Read(make([]byte, 8))
		if n != 0 {
			t.Fatalf("got %d bytes", n)
		}
		wantCode(t, err, bus.CodeUnauthenticated)
	}
}

func TestReaderTakesOneByteOverTheLimitAtMost(t *testing.T) {
	src := &counting{Reader: endless{}}
	var got bytes.Buffer
	_, err := got.ReadFrom(digestOf("").Reader(src, 1000))
	wantCode(t, err, bus.CodeTooLarge)
	if got.Len() != 1000 || src.n != 1001 {
		t.Errorf("passed on %d bytes and took %d, want 1000 and 1001", got.Len(), src.n)
	}
}

func TestReaderClosesItsSource(t *testing.T) {
	src := &counting{Reader: endless{}, closeErr: errors.New("closed badly")}
	if err := digestOf("").Reader(src, 1).Close(); !errors.Is(err, src.closeErr) {
		t.Errorf("got %v", err)
	}
}

// endless is a source of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// counting counts what is taken from a source.
type counting struct {
	io.Reader
	n        int
	closeErr error
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func (c *counting) Close() error { return c.closeErr }
