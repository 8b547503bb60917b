package identity_test

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

func TestIdentityFileWithoutPassphrase(t *testing.T) {
	id, path := person(t, "alice"), filepath.Join(t.TempDir(), "alice.id")
	if err := id.Create(path, ""); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != string(id.Marshal()) {
		t.Fatalf("file is %q, %v", text, err)
	}
	asked := func() (string, error) { t.Error("asked for a passphrase"); return "", nil }
	got, err := identity.Load(path, asked)
	if err != nil || got.ID() != id.ID() {
		t.Fatalf("loaded %v, %v", got, err)
	}

	wantCode(t, "create again", person(t, "bob").Create(path, ""), bus.CodeFileExists)
	if again, err := identity.Load(path, nil); err != nil || again.ID() != id.ID() {
		t.Errorf("after the second create: %v, %v", again, err)
	}

	_, err = identity.Update(t.Context(), path, nil, func(id *identity.Identity) error {
		_, err := id.AddKEM(goldentest.Rand("new key"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := identity.Load(path, nil); err != nil || got.LatestKEM().CardSeq != 2 {
		t.Errorf("after rewriting: %v, %v", got, err)
	}
}

func TestIdentityFileThatOthersCanReadIsRefused(t *testing.T) {
	id, path := person(t, "alice"), filepath.Join(t.TempDir(), "alice.id")
	if err := id.Create(path, ""); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := identity.Load(path, nil)
		wantCode(t, "load "+mode.String(), err, bus.CodeFileMode)
		wantCode(t, "rewrite "+mode.String(), identity.ChangePassphrase(t.Context(), path, nil, ""), bus.CodeFileMode)
	}
}

func TestMissingFilesAreNotFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	_, err := identity.Load(path, nil)
	wantCode(t, "load identity", err, bus.CodeNotFound)
	_, err = identity.LoadRoot(path, nil)
	wantCode(t, "load root", err, bus.CodeNotFound)
	wantCode(t, "rewrite", identity.ChangePassphrase(t.Context(), path, nil, ""), bus.CodeNotFound)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rewriting made the file: %v", err)
	}
}

func TestRootFile(t *testing.T) {
	root, path := testRoot(t), filepath.Join(t.TempDir(), "bus.root")
	if err := root.Create(path, ""); err != nil {
		t.Fatal(err)
	}
	got, err := identity.LoadRoot(path, nil)
	if err != nil || got.BusID() != root.BusID() {
		t.Fatalf("loaded %v, %v", got, err)
	}
	wantCode(t, "create again", root.Create(path, ""), bus.CodeFileExists)
	_, err = identity.Load(path, nil)
	wantCode(t, "load as an identity", err, bus.CodeMalformed)

	if err := root.Rewrite(path, "donkey"); err != nil {
		t.Fatal(err)
	}
	_, err = identity.LoadRoot(path, nil)
	wantCode(t, "load without the passphrase", err, bus.CodePassphrase)
	got, err = identity.LoadRoot(path, func() (string, error) { return "donkey", nil })
	if err != nil || got.BusID() != root.BusID() {
		t.Fatalf("after rewriting: %v, %v", got, err)
	}
	wantCode(t, "rewrite a missing file", root.Rewrite(path+"x", ""), bus.CodeNotFound)
}

func TestIdentityTextIsReadStrictly(t *testing.T) {
	text := string(person(t, "alice").Marshal())
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("the file has %d lines", len(lines))
	}
	secret := payload(t, []byte(text))
	file := func(secret []byte) string {
		return lines[0] + "\n" + base64.RawURLEncoding.EncodeToString(secret) + "\n"
	}
	changed := func(at int, b byte) string {
		s := append([]byte(nil), secret...)
		s[at] = b
		return file(s)
	}
	for name, ok := range map[string]string{
		"as written":       text,
		"without comments": file(secret),
		"more comments":    lines[0] + "\n#\n# one\n# two\n" + lines[2] + "\n",
	} {
		if _, err := identity.Parse([]byte(ok)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"another first line":  "unibus-identity-2\n" + lines[2] + "\n",
		"root":                "unibus-root-1\n" + lines[2] + "\n",
		"no final line break": strings.TrimSuffix(text, "\n"),
		"line break twice":    text + "\n",
		"more lines":          text + lines[2] + "\n",
		"carriage returns":    strings.ReplaceAll(text, "\n", "\r\n"),
		"a return at the end": strings.TrimSuffix(text, "\n") + "\r\n",
		"padded":              strings.TrimSuffix(text, "\n") + "=\n",
		"only a comment":      lines[0] + "\n# x",
		"comment afterwards":  text + "# x\n",
		"nothing":             lines[0] + "\n\n",
		"seed cut short":      file(secret[:31]),
		"no HPKE key":         file(secret[:32]),
		"HPKE key cut short":  file(secret[:len(secret)-1]),
		"bytes left over":     file(append(append([]byte(nil), secret...), 0)),
		"key twice":           file(append(append([]byte(nil), secret...), secret[32:]...)),
		"unknown KEM":         changed(32, 0x7a),
		"card number 0":       changed(41, 0),
		"seed of 31 bytes":    file(append(append(append([]byte(nil), secret[:42]...), 0, 31), secret[44:75]...)),
		"huge":                lines[0] + "\n" + strings.Repeat("#\n", bus.MaxSecretFile),
	} {
		_, err := identity.Parse([]byte(bad))
		wantCode(t, name, err, bus.CodeMalformed)
	}
	_, err := identity.ParseRoot([]byte("unibus-root-1\n" + base64.RawURLEncoding.EncodeToString(make([]byte, 33)) + "\n"))
	wantCode(t, "root of 33 bytes", err, bus.CodeMalformed)
}

// What a message says about a file must not be what the file says.
func TestErrorsQuoteNoSecrets(t *testing.T) {
	text := string(person(t, "alice").Marshal())
	line := strings.Split(text, "\n")[2]
	for _, bad := range []string{line + "\n" + line, "unibus-identity-1\n" + line + "!\n", "unibus-identity-1\n" + line[:40] + "\n"} {
		_, err := identity.Parse([]byte(bad))
		if err == nil || strings.Contains(err.Error(), line[:20]) {
			t.Errorf("error is %v", err)
		}
	}
}
