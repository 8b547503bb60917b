package blob_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/enmanuel/unibus/lib/blob"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

const goldenFile = "blob.json"

// goldenContent is what the golden blobs hold.
const goldenContent = "seventeen bytes.\n"

func TestGoldenVectors(t *testing.T) {
	goldentest.Check(t, goldenFile, goldentest.File{
		About: "References of blobs, with the sealed bytes they speak of. Everything is hexadecimal but what is called text; integers are big-endian; a field named x_length is the length of the field x after it, in bytes.",
		Vectors: []goldentest.Vector{
			goldenVector(t, "reference", "A file with name and media type, not padded.", false, "report ü.txt", "text/plain; charset=utf-8"),
			goldenVector(t, "padded reference", "The same content padded to 18 bytes, without name and media type.", true, "", ""),
		},
	})
}

// goldenVector makes a reference to sealed bytes that, being random beyond
// reach, are those that the golden file has; a change of them begins with
// deleting it.
func goldenVector(t *testing.T, name, about string, pad bool, fileName, media string) goldentest.Vector {
	t.Helper()
	var ref blob.Ref
	var sealed []byte
	if _, err := os.Stat(filepath.Join("testdata", goldenFile)); err == nil {
		v := goldentest.Read(t, goldenFile).Find(t, name)
		sealed = goldentest.Unhex(t, v.Inputs["sealed"])
		if ref, err = blob.Parse(v.Raw(t)); err != nil {
			t.Fatal(err)
		}
	} else {
		ref, sealed = seal(t, []byte(goldenContent), pad)
	}
	ref.Name, ref.Media = fileName, media
	raw := encode(t, ref)
	opened, err := blob.Open(ref, bytes.NewReader(sealed))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(opened)
	if err != nil || string(content) != goldenContent {
		t.Fatalf("opens to %q, %v", content, err)
	}
	f := goldentest.Split(t, raw)
	f.Take("version", 1)
	f.Prefixed("identity", 1)
	f.Take("size", 8)
	f.Take("sealed_size", 8)
	f.Take("sha256", 32)
	f.Take("sealed_sha256", 32)
	f.Prefixed("name", 1)
	f.Prefixed("media", 1)
	return goldentest.Vector{
		Name: name, About: about,
		Inputs: map[string]string{"sealed": hex.EncodeToString(sealed), "content_text": goldenContent},
		Fields: f.End(), Bytes: hex.EncodeToString(raw),
		Derived: map[string]string{"hash_text": ref.Hash.String(), "identity_text": ref.Identity, "name_text": ref.Name, "media_text": ref.Media},
	}
}
