package sqlite

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// refused fails unless opening the path fails with the code and says why.
func refused(t *testing.T, path string, opts Options, code bus.Code, why string) {
	t.Helper()
	s, err := Open(t.Context(), path, opts)
	if err == nil {
		t.Fatalf("opened %s", errors.Join(s.Close(), errors.New(path)))
	}
	if bus.CodeOf(err) != code || !strings.Contains(err.Error(), why) {
		t.Fatalf("error is %v (%s), want %s and %q", err, bus.CodeOf(err), code, why)
	}
}

// names returns what is in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// foreign opens a database as another program would.
func foreign(t *testing.T, path string) *sqlite3.Conn {
	t.Helper()
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func execSQL(t *testing.T, c *sqlite3.Conn, sql string) {
	t.Helper()
	if err := c.Exec(sql); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, s *Store, key, value string) store.Revision {
	t.Helper()
	rev, err := s.Create(t.Context(), store.Control, key, []byte(value), 0)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "unibus")
	s := mustOpen(t, filepath.Join(dir, "a b?#%+&.db"), Options{})
	create(t, s, "k", "v")
	if have, want := names(t, dir), "a b?#%+&.db a b?#%+&.db-shm a b?#%+&.db-wal a b?#%+&.db.lock"; have != want {
		t.Fatalf("directory holds %q, want %q", have, want)
	}
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if have, want := names(t, dir), "a b?#%+&.db a b?#%+&.db.lock"; have != want {
		t.Fatalf("closed, the directory holds %q, want %q", have, want)
	}
}

func TestOneProcessHasItOpen(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "u.db"), filepath.Join(dir, "link.db")
	held := startChild(t, "hold", path)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link, filepath.Join(dir, ".", "u.db")} {
		refused(t, name, Options{}, bus.CodeUnavailable, "another process has it open")
	}
	held.kill()

	// The same within one process, which SQLite itself would allow.
	s := mustOpen(t, link, Options{})
	create(t, s, "k", "v")
	refused(t, path, Options{}, bus.CodeUnavailable, "another process has it open")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ended, path, Options{}); !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Fatalf("open with an ended context: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path, Options{})
	if _, err := again.Get(t.Context(), store.Control, "k"); err != nil {
		t.Fatal(err)
	}
}

func TestBadFilesAreRefusedAndLeftAsTheyAre(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string)
		opts Options
		code bus.Code
		why  string
	}{
		{"text", func(t *testing.T, path string) { write(t, path, "no database", 0o600) }, Options{}, bus.CodeMalformed, "no SQLite database"},
		{"long text", func(t *testing.T, path string) { write(t, path, strings.Repeat("no database ", 1000), 0o600) }, Options{}, bus.CodeMalformed, "no SQLite database"},
		{"another program's", func(t *testing.T, path string) {
			execSQL(t, foreign(t, path), "PRAGMA application_id = 17; CREATE TABLE t (x)")
			chmod(t, path, 0o600)
		}, Options{}, bus.CodeMalformed, "another program"},
		{"another program's without an id", func(t *testing.T, path string) {
			execSQL(t, foreign(t, path), "CREATE TABLE t (x)")
			chmod(t, path, 0o600)
		}, Options{}, bus.CodeMalformed, "another program"},
		{"newer", func(t *testing.T, path string) {
			execSQL(t, foreign(t, path), "PRAGMA application_id = 0x75627573; PRAGMA user_version = 2; CREATE TABLE t (x)")
			chmod(t, path, 0o600)
		}, Options{}, bus.CodeMalformed, "newer unibus (schema 2; this one knows 1)"},
		{"open to others", func(t *testing.T, path string) { write(t, path, "", 0o644) }, Options{}, bus.CodeFileMode, "chmod 600 "},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, Options{}, bus.CodeUnavailable, "is a directory"},
		{"a dangling link", func(t *testing.T, path string) {
			if err := os.Symlink(path+".nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, Options{}, bus.CodeUnavailable, "no such file"},
		{"in the clear, with a key", func(t *testing.T, path string) { fill(t, path, Options{}) }, Options{Key: testKey()}, bus.CodeMalformed, "not encrypted"},
		{"encrypted, without its key", func(t *testing.T, path string) { fill(t, path, Options{Key: testKey()}) }, Options{}, bus.CodeMalformed, "needs its key"},
		{"encrypted, with another key", func(t *testing.T, path string) { fill(t, path, Options{Key: testKey()}) }, Options{Key: &Key{1}}, bus.CodeMalformed, "key is another one"},
		{"a key of equal halves", func(*testing.T, string) {}, Options{Key: &Key{}}, bus.CodeMalformed, "halves of the key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "u.db")
			tt.make(t, path)
			before := snapshot(t, dir)
			refused(t, path, tt.opts, tt.code, tt.why)
			after := snapshot(t, dir)
			delete(after, "u.db.lock")
			delete(before, "u.db.lock")
			for name, content := range after {
				if before[name] != content {
					t.Errorf("%s was changed", name)
				}
			}
			if len(before) != len(after) {
				t.Errorf("had %d files, has %d", len(before), len(after))
			}
		})
	}
}

// snapshot returns the content of every file of a directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode)
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// fill makes a store with something in it.
func fill(t *testing.T, path string, opts Options) {
	t.Helper()
	s := mustOpen(t, path, opts)
	create(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenInAPlaceThatCannotHoldIt(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "x", 0o600)
	refused(t, filepath.Join(file, "u.db"), Options{}, bus.CodeUnavailable, "not a directory")
	missing := filepath.Join(dir, "no", "u.db")
	refused(t, missing, Options{MustExist: true}, bus.CodeNotFound, "no such file")
	if have := names(t, dir); have != "file" {
		t.Fatalf("directory holds %q", have)
	}
}

func TestAnEmptyFileBecomesAStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "u.db")
	write(t, path, "", 0o600)
	fill(t, path, Options{MustExist: true})
	s := mustOpen(t, path, Options{MustExist: true})
	if _, err := s.Get(t.Context(), store.Control, "k"); err != nil {
		t.Fatal(err)
	}
}

func TestEncryptedFilesShowNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "u.db")
	find := func(files map[string]string) (found []string) {
		for name, content := range files {
			for _, known := range []string{"handle/alice", "the-value", "SQLite format", "CREATE TABLE"} {
				if strings.Contains(content, known) {
					found = append(found, name+" shows "+known)
				}
			}
		}
		return found
	}
	for _, key := range []*Key{testKey(), nil} {
		opts := Options{Key: key}
		s := mustOpen(t, path, opts)
		for i := range 50 {
			create(t, s, "handle/alice/x"+strings.Repeat("x", i), strings.Repeat("the-value ", 100))
		}
		open := find(snapshot(t, dir))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		closed := find(snapshot(t, dir))
		if key != nil && len(open)+len(closed) > 0 {
			t.Errorf("encrypted: %q open, %q closed", open, closed)
		}
		if key == nil && (len(open) == 0 || len(closed) == 0) {
			t.Error("in the clear, the search finds nothing: it proves nothing either")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAForeignLockDelaysWritesAndNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "u.db")
	s := mustOpen(t, path, Options{BusyTimeout: 30 * time.Millisecond})
	rev := create(t, s, "k", "v")
	other := foreign(t, path)
	execSQL(t, other, "BEGIN IMMEDIATE")

	_, err := s.Update(t.Context(), store.Control, "k", []byte("x"), rev)
	if !errors.Is(err, bus.ErrUnavailable) || !strings.Contains(err.Error(), "another process holds") {
		t.Fatalf("write under a foreign lock: %v", err)
	}
	e, err := s.Get(t.Context(), store.Control, "k")
	if err != nil || !bytes.Equal(e.Value, []byte("v")) {
		t.Fatalf("read under a foreign lock: %q, %v", e.Value, err)
	}
	execSQL(t, other, "ROLLBACK")
	if _, err := s.Update(t.Context(), store.Control, "k", []byte("x"), rev); err != nil {
		t.Fatal(err)
	}
}

func TestAnEndedContextInterruptsAWriteThatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "u.db")
	s := mustOpen(t, path, Options{BusyTimeout: time.Hour})
	rev := create(t, s, "k", "v")
	other := foreign(t, path)
	execSQL(t, other, "BEGIN IMMEDIATE")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := s.Update(ctx, store.Control, "k", []byte("x"), rev)
	if !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("write under a foreign lock: %v", err)
	}
	execSQL(t, other, "ROLLBACK")
	if _, err := s.Update(t.Context(), store.Control, "k", []byte("x"), rev); err != nil {
		t.Fatal(err)
	}
}
