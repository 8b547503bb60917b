// Package goldentest keeps golden vectors: encoded structures, byte for byte, in
// JSON files that a decoder written from the documentation alone can check
// itself against. Tests use it, nothing else does.
//
// Start with [Check], which compares a [File] with the one in testdata or, when
// the test runs with -update, writes it. [Fields] takes a structure apart into
// named pieces, by lengths only, so that a file says what each byte is.
//
// Files are deterministic: what is random in them is drawn from [Rand], or was
// recorded once and is read back with [Read].
package goldentest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files instead of comparing with them")

// File is one file of vectors.
type File struct {
	About   string   `json:"about"`
	Vectors []Vector `json:"vectors"`
}

// Vector is one structure: what went into it, its bytes, what follows from them.
// The fields, one after the other, are the bytes.
type Vector struct {
	Name    string            `json:"name"`
	About   string            `json:"about"`
	Inputs  map[string]string `json:"inputs,omitempty"`
	Fields  []Field           `json:"fields,omitempty"`
	Bytes   string            `json:"bytes"` // hexadecimal
	Derived map[string]string `json:"derived,omitempty"`
}

// Field is a piece of a structure.
type Field struct {
	Name string `json:"name"`
	Hex  string `json:"hex"`
}

// Find returns the vector of a name.
func (f File) Find(t testing.TB, name string) Vector {
	t.Helper()
	for _, v := range f.Vectors {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no golden vector %q", name)
	return Vector{}
}

// Raw returns the bytes of the vector.
func (v Vector) Raw(t testing.TB) []byte { return Unhex(t, v.Bytes) }

// Read returns the vectors in testdata/name.
func Read(t testing.TB, name string) File {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var f File
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

// Check fails the test if got is not what testdata/name holds. With -update it
// writes the file. In either case the fields of every vector that has some must
// make up its bytes.
func Check(t testing.TB, name string, got File) {
	t.Helper()
	for _, v := range got.Vectors {
		var joined string
		for _, f := range v.Fields {
			joined += f.Hex
		}
		if len(v.Fields) > 0 && joined != v.Bytes {
			t.Errorf("%s: the fields of %q are not its bytes", name, v.Name)
		}
	}
	if *update {
		raw, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata", name), append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(Read(t, name), got); diff != "" {
		t.Errorf("%s differs (-golden +got); if that is meant, run with -update:\n%s", name, diff)
	}
}

// Rand returns an endless stream of bytes that depends on seed alone.
func Rand(seed string) io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte(seed))) }

// Unhex decodes hexadecimal text.
func Unhex(t testing.TB, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Fields takes a structure apart. It knows nothing but lengths, so it is no
// copy of the decoder under test.
type Fields struct {
	t    testing.TB
	rest []byte
	list []Field
}

// Split begins to take raw apart.
func Split(t testing.TB, raw []byte) *Fields { return &Fields{t: t, rest: raw} }

// Take names the next n bytes and returns them.
func (f *Fields) Take(name string, n int) []byte {
	f.t.Helper()
	if n > len(f.rest) {
		f.t.Fatalf("field %s wants %d bytes, %d are left", name, n, len(f.rest))
	}
	piece := f.rest[:n]
	f.list, f.rest = append(f.list, Field{Name: name, Hex: hex.EncodeToString(piece)}), f.rest[n:]
	return piece
}

// Prefixed names a length of size bytes and what it measures, which is
// returned. It names no empty piece.
func (f *Fields) Prefixed(name string, size int) []byte {
	f.t.Helper()
	n := f.Length(name, size)
	if n == 0 {
		return nil
	}
	return f.Take(name, n)
}

// Length names a length of size bytes and returns its value.
func (f *Fields) Length(name string, size int) int {
	f.t.Helper()
	n := 0
	for _, b := range f.Take(name+"_length", size) {
		n = n<<8 | int(b)
	}
	return n
}

// Left returns how many bytes have no name yet.
func (f *Fields) Left() int { return len(f.rest) }

// End returns the pieces, and fails the test if bytes are left over.
func (f *Fields) End() []Field {
	f.t.Helper()
	if len(f.rest) > 0 {
		f.t.Fatalf("%d bytes belong to no field", len(f.rest))
	}
	return f.list
}
