package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// Golden files, by the packages that write them.
const (
	identityFile = "../../identity/testdata/identity.json"
	hpkeFile     = "../../identity/testdata/hpke.json"
	roomFile     = "../../room/testdata/room.json"
	framesFile   = "../../frame/testdata/frames.json"
	blobFile     = "../../blob/testdata/blob.json"
)

// vector is an entry of a golden file of structures. A check uses up what it names: what nothing has looked at by the
// end of the check is a failure too.
type vector struct {
	Name, About string
	Inputs      map[string]string
	Fields      []struct{ Name, Hex string }
	Bytes       string
	Derived     map[string]string
}

// checks names every vector of a golden file with what is to be done with it.
type checks map[string]func(*testing.T, *vector)

// replay runs checks over the vectors of a golden file. Each needs its vector and each vector its check.
func (c checks) replay(t *testing.T, path string) {
	vectors := readVectors(t, path)
	for name, check := range c {
		if vectors[name] == nil {
			t.Errorf("%s has no vector %q", path, name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			v := vectors[name]
			check(t, v)
			for k := range v.Inputs {
				t.Errorf("input %s: nothing used it", k)
			}
			for k := range v.Derived {
				t.Errorf("derived %s: nothing derived it", k)
			}
			if len(v.Fields) > 0 {
				t.Errorf("fields: nothing compared them")
			}
		})
	}
	for name := range vectors {
		if c[name] == nil {
			t.Errorf("%s has a vector %q that nothing checks", path, name)
		}
	}
}

func readVectors(t *testing.T, path string) map[string]*vector {
	t.Helper()
	var file struct {
		About   string
		Vectors []*vector
	}
	readJSON(t, path, &file)
	byName := map[string]*vector{}
	for _, v := range file.Vectors {
		if byName[v.Name] != nil {
			t.Fatalf("%s has two vectors %q", path, v.Name)
		}
		byName[v.Name] = v
	}
	if len(byName) == 0 {
		t.Fatalf("%s has no vectors", path)
	}
	return byName
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// input takes a hexadecimal input.
func (v *vector) input(t *testing.T, name string) []byte {
	t.Helper()
	return unhex(t, name, v.inputText(t, name))
}

// inputText takes an input that is text.
func (v *vector) inputText(t *testing.T, name string) string {
	t.Helper()
	s, ok := v.Inputs[name]
	if !ok {
		t.Fatalf("input %s: missing", name)
	}
	delete(v.Inputs, name)
	return s
}

// derives compares what was derived with what the vector says.
func (v *vector) derives(t *testing.T, name string, got []byte) {
	t.Helper()
	v.derivesText(t, name, hex.EncodeToString(got))
}

func (v *vector) derivesText(t *testing.T, name, got string) {
	t.Helper()
	want, ok := v.Derived[name]
	if !ok {
		t.Errorf("derived %s: missing", name)
	}
	delete(v.Derived, name)
	if got != want {
		t.Errorf("derived %s:\n got %s\nwant %s", name, got, want)
	}
}

// has compares the fields that a parser found in the vector's bytes with those that the vector names.
func (v *vector) has(t *testing.T, got []Field) {
	t.Helper()
	if len(v.Fields) != len(got) || len(got) == 0 {
		t.Errorf("fields: %d found, %d named", len(got), len(v.Fields))
	}
	var all []byte
	for i := range min(len(got), len(v.Fields)) {
		want := v.Fields[i]
		if got[i].Name != want.Name {
			t.Fatalf("field %d: found %s, named %s", i, got[i].Name, want.Name)
		}
		same(t, want.Name, got[i].Value, unhex(t, want.Name, want.Hex))
		all = append(all, got[i].Value...)
	}
	same(t, "bytes", all, v.bytes(t))
	v.Fields = nil
}

// bytes is the structure itself. It stops the test where a golden file had no such vector.
func (v *vector) bytes(t *testing.T) []byte {
	t.Helper()
	if v == nil {
		t.Fatal("a vector that this needs is missing")
	}
	return unhex(t, "bytes", v.Bytes)
}

// field is the value of the first field of that name.
func (v *vector) field(t *testing.T, name string) []byte {
	t.Helper()
	i := slices.IndexFunc(v.Fields, func(f struct{ Name, Hex string }) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("field %s: missing", name)
	}
	return unhex(t, name, v.Fields[i].Hex)
}

func unhex(t *testing.T, name, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 || hex.EncodeToString(b) != s {
		t.Fatalf("%s: %q is not lower-case hexadecimal of anything: %v", name, s, err)
	}
	return b
}

func same(t *testing.T, name string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", name, got, want)
	}
}

// must stops the test at an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
