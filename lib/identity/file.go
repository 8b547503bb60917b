package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const (
	identityLine = "unibus-identity-1"
	rootLine     = "unibus-root-1"

	secretMode fs.FileMode = 0o600

	// workFactor is the cost of a guess at a passphrase: scrypt with N = 2^17,
	// r = 8 takes 128 MiB and some tenths of a second. maxWorkFactor, 1 GiB, is
	// what a file may ask of its reader.
	workFactor    = 17
	maxWorkFactor = 20

	ageLine = "age-encryption.org/v1"
)

// Marshal returns the text of the identity's file without a passphrase. It
// holds the secret keys.
func (id *Identity) Marshal() []byte {
	id.mu.RLock()
	defer id.mu.RUnlock()
	var secret cryptobyte.Builder
	secret.AddBytes(id.sign.Seed())
	for _, k := range id.kems {
		seed, err := k.key.Bytes()
		if err != nil {
			panic("identity: write HPKE key: " + err.Error()) // only for keys kept in hardware
		}
		secret.AddUint16(k.ID)
		secret.AddUint64(k.CardSeq)
		secret.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(seed) })
	}
	return encodeText(identityLine, "sign_pub "+id.pub.String(), secret.BytesOrPanic())
}

// Parse reads what [Identity.Marshal] writes. Its errors have
// [bus.CodeMalformed].
func Parse(text []byte) (*Identity, error) {
	secret, err := decodeText(identityLine, text)
	if err != nil {
		return nil, fmt.Errorf("parse identity: %w", err)
	}
	s := cryptobyte.String(secret)
	var signSeed []byte
	if !s.ReadBytes(&signSeed, ed25519.SeedSize) {
		return nil, bus.Errorf(bus.CodeMalformed, "parse identity: cut short")
	}
	var kems []KEM
	for !s.Empty() {
		var kemID uint16
		var seq uint64
		var seed cryptobyte.String
		if !s.ReadUint16(&kemID) || !s.ReadUint64(&seq) || !s.ReadUint16LengthPrefixed(&seed) {
			return nil, bus.Errorf(bus.CodeMalformed, "parse identity: cut short in an HPKE key")
		}
		if len(kems) == bus.MaxKEMKeys {
			return nil, bus.Errorf(bus.CodeMalformed, "parse identity: more than %d HPKE keys", bus.MaxKEMKeys)
		}
		if len(kems) > 0 && seq <= kems[len(kems)-1].CardSeq {
			return nil, bus.Errorf(bus.CodeMalformed, "parse identity: card numbers do not ascend")
		}
		kem, err := newKEM(kemID, seq, seed)
		if err != nil {
			return nil, fmt.Errorf("parse identity: %w", err)
		}
		kems = append(kems, kem)
	}
	if len(kems) == 0 {
		return nil, bus.Errorf(bus.CodeMalformed, "parse identity: no HPKE key")
	}
	return newIdentity(signSeed, kems), nil
}

// Load reads an identity file. It refuses a file that others could read
// ([bus.CodeFileMode]). When the file is wrapped with a passphrase, and only
// then, it asks passphrase for it; that function's error comes back wrapped,
// and a nil function, an empty answer or a wrong one is [bus.CodePassphrase].
// Further codes: [bus.CodeNotFound], [bus.CodeMalformed].
func Load(path string, passphrase func() (string, error)) (*Identity, error) {
	text, err := loadSecret(path, passphrase)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	id, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("load identity %s: %w", path, err)
	}
	return id, nil
}

// Create writes a new identity file with mode 0600, wrapped if passphrase is
// not empty. It never overwrites: [bus.CodeFileExists].
func (id *Identity) Create(path, passphrase string) error {
	if err := createSecret(path, id.Marshal(), passphrase, workFactor); err != nil {
		return fmt.Errorf("create identity: %w", err)
	}
	return nil
}

func (id *Identity) rewrite(path, passphrase string, factor int) error {
	if err := rewriteSecret(path, id.Marshal(), passphrase, factor); err != nil {
		return fmt.Errorf("rewrite identity: %w", err)
	}
	return nil
}

// Marshal returns the text of the root's file without a passphrase. It holds
// the secret key.
func (r *Root) Marshal() []byte {
	return encodeText(rootLine, "bus_id "+r.BusID().String(), r.key.Seed())
}

// ParseRoot reads what [Root.Marshal] writes. Its errors have
// [bus.CodeMalformed].
func ParseRoot(text []byte) (*Root, error) {
	seed, err := decodeText(rootLine, text)
	if err != nil {
		return nil, fmt.Errorf("parse bus root: %w", err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, bus.Errorf(bus.CodeMalformed, "parse bus root: %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	return &Root{key: ed25519.NewKeyFromSeed(seed)}, nil
}

// LoadRoot reads a root file as [Load] does an identity file.
func LoadRoot(path string, passphrase func() (string, error)) (*Root, error) {
	text, err := loadSecret(path, passphrase)
	if err != nil {
		return nil, fmt.Errorf("load bus root: %w", err)
	}
	root, err := ParseRoot(text)
	if err != nil {
		return nil, fmt.Errorf("load bus root %s: %w", path, err)
	}
	return root, nil
}

// Create writes a new root file as [Identity.Create] does an identity file.
func (r *Root) Create(path, passphrase string) error {
	if err := createSecret(path, r.Marshal(), passphrase, workFactor); err != nil {
		return fmt.Errorf("create bus root: %w", err)
	}
	return nil
}

// Rewrite replaces the root file in one step to change its passphrase; an empty
// one leaves the file unwrapped. The file must exist ([bus.CodeNotFound]) and be
// private ([bus.CodeFileMode]).
func (r *Root) Rewrite(path, passphrase string) error {
	if err := rewriteSecret(path, r.Marshal(), passphrase, workFactor); err != nil {
		return fmt.Errorf("rewrite bus root: %w", err)
	}
	return nil
}

// encodeText writes a secret as text: what it is, a comment for people, the
// bytes.
func encodeText(first, comment string, secret []byte) []byte {
	return []byte(first + "\n# " + comment + "\n" + base64.RawURLEncoding.EncodeToString(secret) + "\n")
}

func decodeText(first string, text []byte) ([]byte, error) {
	if len(text) > bus.MaxSecretFile {
		return nil, bus.Errorf(bus.CodeMalformed, "%d bytes, at most %d", len(text), bus.MaxSecretFile)
	}
	rest, ok := strings.CutPrefix(string(text), first+"\n")
	if !ok {
		return nil, bus.Errorf(bus.CodeMalformed, "does not begin with the line %q", first)
	}
	for strings.HasPrefix(rest, "#") {
		if _, rest, ok = strings.Cut(rest, "\n"); !ok {
			return nil, bus.Errorf(bus.CodeMalformed, "ends in a comment")
		}
	}
	line, ok := strings.CutSuffix(rest, "\n")
	if !ok || strings.ContainsAny(line, "\r\n") {
		return nil, bus.Errorf(bus.CodeMalformed, "want one line of base64url after the comments, and its end")
	}
	// The decoder's own error quotes no input, which here is a secret.
	secret, err := base64.RawURLEncoding.Strict().DecodeString(line)
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "decode base64url: %w", err)
	}
	return secret, nil
}

func createSecret(path string, text []byte, passphrase string, factor int) error {
	text, err := wrap(text, passphrase, factor)
	if err != nil {
		return err
	}
	return durable.CreateFile(path, text, secretMode)
}

func rewriteSecret(path string, text []byte, passphrase string, factor int) error {
	if err := durable.CheckPrivate(path); err != nil {
		return err
	}
	text, err := wrap(text, passphrase, factor)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, text, secretMode)
}

func loadSecret(path string, passphrase func() (string, error)) ([]byte, error) {
	if err := durable.CheckPrivate(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, bus.MaxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if text, err = unwrap(text, passphrase); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// wrap encrypts text with age under a passphrase, in its armored form; an empty
// passphrase leaves it as it is.
func wrap(text []byte, passphrase string, factor int) ([]byte, error) {
	if passphrase == "" {
		return text, nil
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, bus.Errorf(bus.CodePassphrase, "wrap with passphrase: %w", err)
	}
	recipient.SetWorkFactor(factor)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	plain, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "wrap with passphrase: %w", err)
	}
	_, err = plain.Write(text)
	if err = errors.Join(err, plain.Close(), armored.Close()); err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "wrap with passphrase: %w", err)
	}
	return out.Bytes(), nil
}

// unwrap undoes wrap, for the binary form of age too. Text that is not wrapped
// comes back as it is.
func unwrap(text []byte, passphrase func() (string, error)) ([]byte, error) {
	var in io.Reader = bytes.NewReader(text)
	switch {
	case bytes.HasPrefix(text, []byte(armor.Header)):
		in = armor.NewReader(in)
	case !bytes.HasPrefix(text, []byte(ageLine)):
		return text, nil
	}
	if passphrase == nil {
		return nil, bus.Errorf(bus.CodePassphrase, "unwrap file: it is protected by a passphrase and none was given")
	}
	secret, err := passphrase()
	if err != nil {
		return nil, fmt.Errorf("unwrap file: %w", err)
	}
	identity, err := age.NewScryptIdentity(secret)
	if err != nil {
		return nil, bus.Errorf(bus.CodePassphrase, "unwrap file: %w", err)
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	plain, err := age.Decrypt(in, identity)
	if noMatch, ok := errors.AsType[*age.NoIdentityMatchError](err); ok && slices.Contains(noMatch.StanzaTypes, "scrypt") {
		return nil, bus.Errorf(bus.CodePassphrase, "unwrap file: wrong passphrase")
	}
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "unwrap file: %w", err)
	}
	text, err = io.ReadAll(io.LimitReader(plain, bus.MaxSecretFile+1))
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "unwrap file: %w", err)
	}
	return text, nil
}
