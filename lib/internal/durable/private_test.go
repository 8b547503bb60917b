package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestCheckPrivateByMode(t *testing.T) {
	for _, tt := range []struct {
		mode fs.FileMode
		ok   bool
	}{
		{0o600, true}, {0o400, true}, {0o200, true}, {0, true},
		{0o644, false}, {0o640, false}, {0o604, false}, {0o660, false}, {0o700, false}, {0o601, false}, {0o777, false},
	} {
		t.Run(tt.mode.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "alice.id")
			if err := WriteFile(path, []byte("secret"), tt.mode); err != nil {
				t.Fatal(err)
			}
			err := CheckPrivate(path)
			if tt.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, bus.ErrFileMode) {
				t.Fatalf("error is %v, want %s", err, bus.CodeFileMode)
			}
			if want := "run: chmod 600 " + path; !strings.HasSuffix(err.Error(), want) {
				t.Errorf("message %q does not end in %q", err, want)
			}
		})
	}
}

func TestCheckPrivateLooksThroughLinks(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := WriteFile(target, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := CheckPrivate(link); !errors.Is(err, bus.ErrFileMode) {
		t.Errorf("link to an open file: %v", err)
	}
	if err := os.Chmod(target, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckPrivate(link); err != nil {
		t.Errorf("link to a private file: %v", err)
	}
}

func TestCheckPrivateOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := CheckPrivate(filepath.Join(dir, "missing")); !errors.Is(err, bus.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := CheckPrivate(dir); !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("directory: %v", err)
	}
}

func TestShellQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/home/a/alice.id":  "/home/a/alice.id",
		"-rf":               "./-rf",
		"with space":        "'with space'",
		"it's":              `'it'\''s'`,
		"$(reboot)":         "'$(reboot)'",
		"-it's":             `'./-it'\''s'`,
		"~/x":               "'~/x'",
		"":                  "''",
		"C:/ok,@+_-.x9":     "C:/ok,@+_-.x9",
		"new\nline;reboot&": "'new\nline;reboot&'",
	} {
		if have := shellQuote(path); have != want {
			t.Errorf("quote %q: %s, want %s", path, have, want)
		}
	}
}
