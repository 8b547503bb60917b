package blob_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"

	"github.com/enmanuel/unibus/lib/blob"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

func seal(t testing.TB, content []byte, pad bool) (blob.Ref, []byte) {
	t.Helper()
	var sealed bytes.Buffer
	ref, err := blob.Seal(&sealed, bytes.NewReader(content), pad, bus.MaxBlobSize)
	if err != nil {
		t.Fatal(err)
	}
	return ref, sealed.Bytes()
}

func encode(t testing.TB, ref blob.Ref) []byte {
	t.Helper()
	raw, err := ref.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func open(ref blob.Ref, sealed io.Reader) ([]byte, error) {
	r, err := blob.Open(ref, sealed)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	content := make([]byte, n)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	return content
}

func TestWhatIsSealedOpens(t *testing.T) {
	for _, n := range []int{0, 1, 2, 17, 4096, 65535, 65536, 65537, 131072, 300_001} {
		for _, pad := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, pad %t", n, pad), func(t *testing.T) {
				content := random(t, n)
				ref, sealed := seal(t, content, pad)
				length := int64(n)
				if pad {
					length = wire.Padmé(length)
				}
				if ref.Size != int64(n) || ref.SealedSize != int64(len(sealed)) || ref.SealedSize != blob.SealedSize(length) {
					t.Errorf("sizes %d and %d, of %d sealed", ref.Size, ref.SealedSize, len(sealed))
				}
				if ref.Digest != sha256.Sum256(content) || ref.Hash != sha256.Sum256(sealed) {
					t.Error("hashes are not those of content and sealed bytes")
				}
				ref, err := blob.Parse(encode(t, ref))
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range []io.Reader{bytes.NewReader(sealed), iotest.OneByteReader(bytes.NewReader(sealed)), iotest.DataErrReader(bytes.NewReader(sealed))} {
					if have, err := open(ref, r); err != nil || !bytes.Equal(have, content) {
						t.Fatalf("opens to %d bytes, %v", len(have), err)
					}
				}
			})
		}
	}
}

func TestEveryBlobHasAKeyOfItsOwn(t *testing.T) {
	a, sealedA := seal(t, []byte("same"), false)
	b, sealedB := seal(t, []byte("same"), false)
	if a.Identity == b.Identity || a.Hash == b.Hash || bytes.Equal(sealedA, sealedB) {
		t.Error("two blobs of one content share something")
	}
	if _, err := open(a, bytes.NewReader(sealedB)); !errors.Is(err, bus.ErrBlobMismatch) {
		t.Errorf("a swapped blob: %v", err)
	}
}

func TestSealStopsAtItsLimit(t *testing.T) {
	content := make([]byte, 70_000)
	if _, err := blob.Seal(io.Discard, bytes.NewReader(content), false, int64(len(content))); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := blob.Seal(io.Discard, bytes.NewReader(content), false, int64(len(content))-1); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("beyond the limit: %v", err)
	}
	broken := errors.New("broken")
	if _, err := blob.Seal(io.Discard, iotest.ErrReader(broken), false, 1); !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
}

// TestEveryChangedByteIsNoticed changes each byte of a small blob, and some of
// one that has several chunks, and cuts it short everywhere.
func TestEveryChangedByteIsNoticed(t *testing.T) {
	for _, tt := range []struct{ size, step int }{{40, 1}, {150_000, 977}} {
		content := random(t, tt.size)
		ref, sealed := seal(t, content, true)
		for i := 0; i < len(sealed); i += tt.step {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << (i % 8)
			notOpened(t, fmt.Sprintf("byte %d of %d changed", i, len(sealed)), ref, bad, content)
			notOpened(t, fmt.Sprintf("cut to %d of %d", i, len(sealed)), ref, sealed[:i], content)
		}
		notOpened(t, "a byte more", ref, append(bytes.Clone(sealed), 0), content)
	}
}

func notOpened(t *testing.T, what string, ref blob.Ref, sealed, content []byte) {
	t.Helper()
	have, err := open(ref, bytes.NewReader(sealed))
	if !errors.Is(err, bus.ErrBlobMismatch) {
		t.Errorf("%s: %v", what, err)
	}
	if !bytes.HasPrefix(content, have) {
		t.Errorf("%s: gave out what is no content", what)
	}
}

func TestReferencesThatLieAreNoticed(t *testing.T) {
	content := random(t, 100)
	ref, sealed := seal(t, content, false)
	padded, paddedBytes := seal(t, append(bytes.Clone(content), make([]byte, 4)...), false) // 104 is Padmé(100)
	for _, tt := range []struct {
		name   string
		sealed []byte
		ref    blob.Ref
	}{
		{"another digest", sealed, func() blob.Ref { r := ref; r.Digest[0] ^= 1; return r }()},
		{"another hash", sealed, func() blob.Ref { r := ref; r.Hash[31] ^= 1; return r }()},
		{"content that goes on", paddedBytes, func() blob.Ref { r := padded; r.Size = 103; return r }()},
		{"padding that is content", paddedBytes, func() blob.Ref { r := padded; r.Size = 100; return r }()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have, err := open(tt.ref, bytes.NewReader(tt.sealed))
			if code := bus.CodeOf(err); code != bus.CodeBlobMismatch && code != bus.CodeMalformed {
				t.Errorf("opened %d bytes: %v", len(have), err)
			}
		})
	}
}

// TestHeadersOfAnyLengthAreRefused makes sure that a sender cannot have a reader
// take a line of many megabytes into memory.
func TestHeadersOfAnyLengthAreRefused(t *testing.T) {
	content := random(t, 1<<20)
	ref, _ := seal(t, content, false)
	line := append([]byte("age-encryption.org/v1\n-> "), bytes.Repeat([]byte("x"), int(ref.SealedSize)-25)...)
	ref.Hash = sha256.Sum256(line)
	src := &counting{r: bytes.NewReader(line)}
	if _, err := open(ref, src); !errors.Is(err, bus.ErrBlobMismatch) {
		t.Errorf("error is %v", err)
	}
	if src.n > 8<<10 {
		t.Errorf("read %d bytes of a header that has no end", src.n)
	}
}

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestErrorsOfTheSourceStayWhatTheyAre(t *testing.T) {
	content := random(t, 100_000)
	ref, sealed := seal(t, content, false)
	broken := errors.New("broken")
	for _, n := range []int{0, 100, 5000, len(sealed) - 1} {
		_, err := open(ref, io.MultiReader(bytes.NewReader(sealed[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || errors.Is(err, bus.ErrBlobMismatch) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	ref, _ := seal(t, []byte("x"), false)
	ref.Name, ref.Media = "name", "text/plain"
	good := encode(t, ref)
	for i := range good {
		if _, err := blob.Parse(good[:i]); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	lower := bytes.Replace(good, []byte(ref.Identity), []byte(strings.ToLower(ref.Identity)), 1)
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"a byte more":                   append(bytes.Clone(good), 0),
		"another version":               append([]byte{2}, good[1:]...),
		"an identity in lower case":     lower,
		"an identity of the other kind": bytes.Replace(good, append([]byte{77}, ref.Identity...), append([]byte{byte(len(classic.String()))}, classic.String()...), 1),
		"a changed identity":            bytes.Replace(good, []byte(ref.Identity[70:]), []byte("QQQQQQQ"), 1),
		"more than any reference has":   bytes.Repeat([]byte{1}, blob.MaxRef+1),
	} {
		if _, err := blob.Parse(raw); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*blob.Ref){
		"sizes that do not fit":       func(r *blob.Ref) { r.SealedSize++ },
		"a negative size":             func(r *blob.Ref) { r.Size = -1 },
		"a size beyond all":           func(r *blob.Ref) { r.Size = bus.MaxBlobSize + 1; r.SealedSize = blob.SealedSize(r.Size) },
		"a name with a slash":         func(r *blob.Ref) { r.Name = "../etc/passwd" },
		"a name with a backslash":     func(r *blob.Ref) { r.Name = `a\b` },
		"a name that is a directory":  func(r *blob.Ref) { r.Name = ".." },
		"this directory":              func(r *blob.Ref) { r.Name = "." },
		"a name with an escape":       func(r *blob.Ref) { r.Name = "a\x1b[31m" },
		"a name with a C1 control":    func(r *blob.Ref) { r.Name = "a\u009b" },
		"a name that is not UTF-8":    func(r *blob.Ref) { r.Name = "\xff" },
		"a name that is too long":     func(r *blob.Ref) { r.Name = strings.Repeat("n", bus.MaxBlobName+1) },
		"a media type with a newline": func(r *blob.Ref) { r.Media = "text/plain\n" },
		"a media type beyond ASCII":   func(r *blob.Ref) { r.Media = "text/ü" },
		"a media type that is long":   func(r *blob.Ref) { r.Media = strings.Repeat("m", bus.MaxBlobMedia+1) },
	} {
		bad := ref
		change(&bad)
		if _, err := bad.Encode(); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := blob.Open(bad, bytes.NewReader(nil)); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%s, opened: %v", name, err)
		}
	}
}

func TestReferencesDoNotPrintTheirKey(t *testing.T) {
	ref, _ := seal(t, []byte("x"), false)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, ref); strings.Contains(text, ref.Identity[20:]) {
			t.Errorf("%s prints %s", format, text)
		}
	}
}

func FuzzParse(f *testing.F) {
	golden := goldentest.Read(f, goldenFile)
	for _, v := range golden.Vectors {
		f.Add(v.Raw(f))
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		ref, err := blob.Parse(raw)
		if err != nil {
			if !errors.Is(err, bus.ErrMalformed) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		if again := encode(t, ref); !bytes.Equal(again, raw) {
			t.Fatalf("%x encodes to %x", raw, again)
		}
	})
}

// FuzzOpen hands the reader sealed bytes of anybody's making. None but the right
// ones open.
func FuzzOpen(f *testing.F) {
	golden := goldentest.Read(f, goldenFile).Find(f, "reference")
	sealed := goldentest.Unhex(f, golden.Inputs["sealed"])
	ref, err := blob.Parse(golden.Raw(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:1640])
	f.Fuzz(func(t *testing.T, raw []byte) {
		content, err := open(ref, bytes.NewReader(raw))
		if bytes.Equal(raw, sealed) {
			if err != nil || string(content) != goldenContent {
				t.Fatalf("the right bytes open to %q, %v", content, err)
			}
			return
		}
		if !errors.Is(err, bus.ErrBlobMismatch) {
			t.Fatalf("other bytes: %v", err)
		}
	})
}

// TestReadsAreBounded makes sure that no more than a chunk is asked for at once,
// however large the blob.
func TestReadsAreBounded(t *testing.T) {
	src := &largest{r: io.LimitReader(zeroReader{}, 8<<20)}
	var sealed bytes.Buffer
	ref, err := blob.Seal(&sealed, src, false, bus.MaxBlobSize)
	if err != nil {
		t.Fatal(err)
	}
	in := &largest{r: &sealed}
	r, err := blob.Open(ref, in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if src.most > 64<<10 || in.most > 64<<10+16 {
		t.Errorf("asked for %d and %d bytes at once, want a chunk at most", src.most, in.most)
	}
}

type largest struct {
	r    io.Reader
	most int
}

func (l *largest) Read(p []byte) (int, error) {
	l.most = max(l.most, len(p))
	return l.r.Read(p)
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }
