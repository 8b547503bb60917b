package blob

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode/utf8"

	"filippo.io/age"
	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// Form of an identity: 32 bytes in Bech32, in the alphabet of BIP 173, which
// age writes in upper case.
const (
	identityPrefix = "AGE-SECRET-KEY-PQ-1"
	identityLen    = len(identityPrefix) + 58
)

// MaxRef is how many bytes an encoded reference has at most.
const MaxRef = 1 + 1 + identityLen + 8 + 8 + 2*sha256.Size + 1 + bus.MaxBlobName + 1 + bus.MaxBlobMedia

// Ref is all that it takes to get a blob and open it. Whoever has one can read
// the blob: it is a secret of those who read the message it came in. Its text
// form for logs, [Ref.String], leaves the key out.
type Ref struct {
	Identity   string            // of age, "AGE-SECRET-KEY-PQ-1…"; secret
	Size       int64             // of the content, in bytes
	SealedSize int64             // of what is stored
	Digest     [sha256.Size]byte // SHA-256 of the content
	Hash       bus.BlobHash      // SHA-256 of what is stored, which is its name
	Name       string            // file name as the sender says, see [CheckName]; "" for none
	Media      string            // media type as the sender says, see [CheckMedia]; "" if not known
}

// String tells the blob without its key.
func (r Ref) String() string {
	return fmt.Sprintf("blob %s, %d bytes, name %q", r.Hash, r.Size, r.Name)
}

// GoString is String, so that %#v shows no key either.
func (r Ref) GoString() string { return r.String() }

// Encode returns the reference as a message carries it. It checks what [Parse]
// checks.
func (r Ref) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode blob reference: %w", err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, MaxRef))
	b.AddUint8(bus.Version)
	addText(b, r.Identity)
	b.AddUint64(uint64(r.Size))
	b.AddUint64(uint64(r.SealedSize))
	b.AddBytes(r.Digest[:])
	b.AddBytes(r.Hash[:])
	addText(b, r.Name)
	addText(b, r.Media)
	return b.Bytes()
}

func addText(b *cryptobyte.Builder, s string) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

// Parse reads what [Ref.Encode] writes, and nothing else. Errors have
// [bus.CodeMalformed].
func Parse(raw []byte) (Ref, error) {
	ref, err := parse(raw)
	if err != nil {
		return Ref{}, fmt.Errorf("parse blob reference: %w", err)
	}
	return ref, nil
}

func parse(raw []byte) (Ref, error) {
	if len(raw) > MaxRef {
		return Ref{}, malformed("%d bytes, more than %d", len(raw), MaxRef)
	}
	var r Ref
	var version uint8
	var identity, name, media cryptobyte.String
	var size, sealed uint64
	s := cryptobyte.String(raw)
	if !s.ReadUint8(&version) || version != bus.Version {
		return Ref{}, malformed("version is not %d", bus.Version)
	}
	if !s.ReadUint8LengthPrefixed(&identity) || !s.ReadUint64(&size) || !s.ReadUint64(&sealed) ||
		!s.CopyBytes(r.Digest[:]) || !s.CopyBytes(r.Hash[:]) ||
		!s.ReadUint8LengthPrefixed(&name) || !s.ReadUint8LengthPrefixed(&media) {
		return Ref{}, malformed("it is cut short")
	}
	if !s.Empty() {
		return Ref{}, malformed("%d bytes are left over", len(s))
	}
	if size > bus.MaxBlobSize || sealed > 2*bus.MaxBlobSize {
		return Ref{}, malformed("%d bytes of content, more than %d", size, int64(bus.MaxBlobSize))
	}
	r.Identity, r.Name, r.Media = string(identity), string(name), string(media)
	r.Size, r.SealedSize = int64(size), int64(sealed)
	return r, r.check()
}

// check is what every reference holds to. Errors have [bus.CodeMalformed].
func (r Ref) check() error {
	if _, err := r.identity(); err != nil {
		return err
	}
	if r.Size < 0 || r.Size > bus.MaxBlobSize {
		return malformed("%d bytes of content, more than %d", r.Size, int64(bus.MaxBlobSize))
	}
	if r.SealedSize != SealedSize(r.Size) && r.SealedSize != SealedSize(wire.Padmé(r.Size)) {
		return malformed("content of %d bytes does not seal to %d", r.Size, r.SealedSize)
	}
	if err := CheckName(r.Name); err != nil {
		return err
	}
	return CheckMedia(r.Media)
}

// identity reads the key. age takes it in lower case as well; here it has one form.
func (r Ref) identity() (*age.HybridIdentity, error) {
	if len(r.Identity) != identityLen || !strings.HasPrefix(r.Identity, identityPrefix) {
		return nil, malformed("identity is none of age's hybrid kind")
	}
	id, err := age.ParseHybridIdentity(r.Identity)
	if err != nil || id.String() != r.Identity {
		return nil, malformed("identity is none of age's hybrid kind") // the cause would repeat it
	}
	return id, nil
}

// CheckName refuses names that could lead elsewhere than to a file of that name
// in one directory, or drive a terminal: a name is at most [bus.MaxBlobName]
// bytes of UTF-8 without control characters (U+0000 to U+001F and U+007F to
// U+009F), slash and backslash, and not "." or "..". It may be empty.
func CheckName(name string) error {
	switch {
	case len(name) > bus.MaxBlobName:
		return malformed("name of %d bytes, more than %d", len(name), bus.MaxBlobName)
	case !utf8.ValidString(name):
		return malformed("name is not UTF-8")
	case name == "." || name == "..":
		return malformed("name is %q", name)
	}
	for _, c := range name {
		if c < 0x20 || c >= 0x7f && c < 0xa0 || c == '/' || c == '\\' {
			return malformed("name has the character %U", c)
		}
	}
	return nil
}

// CheckMedia refuses media types of more than [bus.MaxBlobMedia] bytes, and of
// others than printable ASCII (0x20 to 0x7e). It may be empty; what it says is
// not looked at.
func CheckMedia(media string) error {
	if len(media) > bus.MaxBlobMedia {
		return malformed("media type of %d bytes, more than %d", len(media), bus.MaxBlobMedia)
	}
	for i := range len(media) {
		if media[i] < ' ' || media[i] > '~' {
			return malformed("media type has the byte %#x", media[i])
		}
	}
	return nil
}

func malformed(format string, args ...any) error {
	return bus.Errorf(bus.CodeMalformed, format, args...)
}
