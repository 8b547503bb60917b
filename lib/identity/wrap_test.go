package identity

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

// cheap is a work factor that costs a test nothing.
const cheap = 4

func answer(s string) func() (string, error) { return func() (string, error) { return s, nil } }

func TestIdentityFileWithPassphrase(t *testing.T) {
	id, err := Generate(goldentest.Rand("alice"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alice.id")
	if err := createSecret(path, id.Marshal(), "horse", cheap); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte("-----BEGIN AGE ENCRYPTED FILE-----\n")) || bytes.Contains(text, []byte(identityLine)) {
		t.Fatalf("file is not wrapped: %.80q", text)
	}
	if got, err := Load(path, answer("horse")); err != nil || got.ID() != id.ID() {
		t.Fatalf("loaded %v, %v", got, err)
	}

	asking := errors.New("no terminal")
	for name, tc := range map[string]struct {
		passphrase func() (string, error)
		want       error
	}{
		"wrong":   {answer("donkey"), bus.ErrPassphrase},
		"empty":   {answer(""), bus.ErrPassphrase},
		"nobody":  {nil, bus.ErrPassphrase},
		"failure": {func() (string, error) { return "", asking }, asking},
	} {
		if _, err := Load(path, tc.passphrase); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A change keeps the lock.
	changed, err := update(t.Context(), path, answer("horse"), nil, func(id *Identity) error {
		_, err := id.AddKEM(goldentest.Rand("second"))
		return err
	}, cheap)
	if err != nil || changed.LatestKEM().CardSeq != 2 {
		t.Fatalf("%v, %v", changed, err)
	}
	for _, passphrase := range []func() (string, error){nil, answer("donkey")} {
		if _, err := update(t.Context(), path, passphrase, nil, func(*Identity) error { return nil }, cheap); !errors.Is(err, bus.ErrPassphrase) {
			t.Errorf("update without the passphrase: %v", err)
		}
	}
	if got, err := Load(path, answer("horse")); err != nil || got.LatestKEM().CardSeq != 2 {
		t.Fatalf("loaded %v, %v", got, err)
	}
	next := "donkey"
	if id, err = update(t.Context(), path, answer("horse"), &next, func(*Identity) error { return nil }, cheap); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, answer("horse")); !errors.Is(err, bus.ErrPassphrase) {
		t.Errorf("old passphrase after it was changed: %v", err)
	}
	if got, err := Load(path, answer("donkey")); err != nil || got.ID() != id.ID() {
		t.Errorf("new passphrase: %v, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != secretMode {
		t.Errorf("mode after rewriting: %v, %v", info.Mode(), err)
	}
}

func TestBinaryAgeFilesAreReadToo(t *testing.T) {
	recipient, err := age.NewScryptRecipient("horse")
	if err != nil {
		t.Fatal(err)
	}
	recipient.SetWorkFactor(cheap)
	var file bytes.Buffer
	w, err := age.Encrypt(&file, recipient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("text")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := unwrap(file.Bytes(), answer("horse")); err != nil || string(got) != "text" {
		t.Errorf("unwrapped %q, %v", got, err)
	}
	for n := 1; n < 40; n++ {
		if _, err := unwrap(file.Bytes()[:file.Len()-n], answer("horse")); bus.CodeOf(err) != bus.CodeMalformed {
			t.Fatalf("%d bytes missing: %v", n, err)
		}
	}
}

// A file can name any work factor; the reader pays for it before it can tell
// whether the passphrase is right.
func TestWorkFactorOfAFileIsCapped(t *testing.T) {
	recipient, err := age.NewScryptRecipient("horse")
	if err != nil {
		t.Fatal(err)
	}
	recipient.SetWorkFactor(cheap)
	var file bytes.Buffer
	if _, err := age.Encrypt(&file, recipient); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(file.String(), "\n", 3)
	cheapLine, ok := strings.CutSuffix(lines[1], " 4")
	if !ok {
		t.Fatalf("stanza is %q", lines[1])
	}
	for _, factor := range []string{"21", "30", "62", "999999999999"} {
		lines[1] = cheapLine + " " + factor
		_, err := unwrap([]byte(strings.Join(lines, "\n")), answer("horse"))
		if bus.CodeOf(err) != bus.CodeMalformed {
			t.Errorf("factor %s: %v", factor, err)
		}
	}
}

func TestFilesForOtherRecipientsAreMalformedNotAPassphraseAway(t *testing.T) {
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, other.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unwrap(file.Bytes(), answer("horse")); bus.CodeOf(err) != bus.CodeMalformed {
		t.Errorf("unwrapped a file for somebody else: %v", err)
	}
}

// The factor that is shipped is within what is read.
func TestShippedWorkFactorIsRead(t *testing.T) {
	if workFactor > maxWorkFactor || workFactor < 15 {
		t.Errorf("work factor %d, cap %d", workFactor, maxWorkFactor)
	}
}
