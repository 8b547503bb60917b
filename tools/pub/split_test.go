package pub

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
)

// testPiece makes long lines cheap.
const testPiece = 32

// cut returns all pieces of a stream.
func cut(r io.Reader) (pieces []piece, err error) {
	l := newLines(r, testPiece)
	for {
		p, err := l.next()
		if err == io.EOF {
			return pieces, nil
		}
		if err != nil {
			return pieces, err
		}
		pieces = append(pieces, p)
	}
}

// join is what the command sub does.
func join(pieces []piece) []byte {
	var b bytes.Buffer
	for _, p := range pieces {
		b.Write(p.body)
		if !p.open {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", testPiece)
	for _, tt := range []struct {
		name, in string
		want     []piece
	}{
		{"nothing is no message", "", nil},
		{"lines lose their newline", "a\nbc\n", []piece{{body: []byte("a")}, {body: []byte("bc")}}},
		{"empty lines are messages", "\n\n", []piece{{body: []byte{}}, {body: []byte{}}}},
		{"a last line without newline is open", "a\nb", []piece{{body: []byte("a")}, {body: []byte("b"), open: true}}},
		{"carriage returns stay", "a\r\nb\r", []piece{{body: []byte("a\r")}, {body: []byte("b\r"), open: true}}},
		{"NUL and bytes that are no text stay", "\x00\xff\n\xc3", []piece{{body: []byte("\x00\xff")}, {body: []byte("\xc3"), open: true}}},
		{"the longest line that fits is whole", long[1:] + "\n", []piece{{body: []byte(long[1:])}}},
		{"a longer line is in open parts", long + "y\nz\n", []piece{{body: []byte(long), open: true}, {body: []byte("y")}, {body: []byte("z")}}},
		{"a newline at the seam is an empty piece", long + "\n", []piece{{body: []byte(long), open: true}, {body: []byte{}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in)), iotest.DataErrReader(strings.NewReader(tt.in))} {
				have, err := cut(r)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, have, cmp.AllowUnexported(piece{})); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestEveryStreamComesTogetherAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.OneOf(
			rapid.SliceOf(rapid.Byte()),
			rapid.Just([]byte("\n")),
			rapid.Just(bytes.Repeat([]byte("w"), testPiece-1)),
			rapid.Just(bytes.Repeat([]byte("n"), testPiece)),
		)).Draw(t, "parts")
		in := bytes.Join(parts, nil)
		pieces, err := cut(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			if len(p.body) > testPiece {
				t.Fatalf("a piece of %d bytes", len(p.body))
			}
			if bytes.IndexByte(p.body, '\n') >= 0 {
				t.Fatal("a piece with a newline inside")
			}
		}
		if !bytes.Equal(join(pieces), in) {
			t.Fatal("the pieces do not make the stream")
		}
	})
}

func TestAReadErrorFollowsWhatWasRead(t *testing.T) {
	broken := errors.New("broken disk")
	have, err := cut(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	want := []piece{{body: []byte("a")}, {body: []byte("b"), open: true}}
	if diff := cmp.Diff(want, have, cmp.AllowUnexported(piece{})); diff != "" {
		t.Error(diff)
	}
}

func TestWhole(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
		code bus.Code
	}{
		{"empty", 0, ""},
		{"as large as a message", 100, ""},
		{"larger", 101, bus.CodeTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := bytes.Repeat([]byte("\n"), tt.size)
			w := &whole{r: bytes.NewReader(in), longest: 100}
			p, err := w.next()
			if have := bus.CodeOf(err); have != tt.code {
				t.Fatalf("code %q, want %q", have, tt.code)
			}
			if tt.code == "" && (!bytes.Equal(p.body, in) || !p.open) {
				t.Error("it is not the stream")
			}
			if _, err := w.next(); err != io.EOF {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func FuzzLines(f *testing.F) {
	for _, seed := range []string{"", "\n", "a", "a\r\n\x00", "\n\nb\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		pieces, err := cut(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(join(pieces), in) {
			t.Fatal("the pieces do not make the stream")
		}
	})
}
