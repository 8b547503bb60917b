package durable

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

// checkOnly fails unless the directory holds exactly the named files.
func checkOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if strings.Join(have, " ") != strings.Join(names, " ") {
		t.Errorf("directory holds %q, want %q", have, names)
	}
}

// checkFile fails unless path has this content and mode.
func checkFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != content {
		t.Errorf("%s holds %q, want %q", path, data, content)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
	}
}

func TestWriteFileMakesAndReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pin")
	for _, step := range []struct {
		content string
		mode    fs.FileMode
	}{{"first", 0o600}, {"", 0o600}, {"a longer second", 0o644}, {"3", 0o400}, {"4", 0o600}} {
		if err := WriteFile(path, []byte(step.content), step.mode); err != nil {
			t.Fatal(err)
		}
		checkFile(t, path, step.content, step.mode)
		checkOnly(t, dir, "pin")
	}
}

func TestWriteFileFailsWithoutTouchingAnything(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(taken, []byte("x"), 0o600); err == nil {
		t.Error("replaced a directory that is not empty")
	}
	checkOnly(t, dir, "taken")
	if err := WriteFile(filepath.Join(dir, "no", "where"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write into a missing directory: %v", err)
	}
	checkOnly(t, dir, "taken")
}

func TestWriteFileReplacesALinkAndNotItsTarget(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkFile(t, target, "kept", 0o600)
	checkFile(t, link, "new", 0o600)
}

func TestReadersSeeOldOrNewWhileWritersReplace(t *testing.T) {
	const size, rounds = 64 << 10, 40
	path := filepath.Join(t.TempDir(), "pin")
	if err := WriteFile(path, bytes.Repeat([]byte{'a'}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	for w := range 2 {
		writers.Go(func() {
			for i := range rounds {
				if err := WriteFile(path, bytes.Repeat([]byte{byte('b' + 2*(i%10) + w)}, size), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Go(func() {
		for !done.Load() {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
				return
			}
			if len(data) != size || !bytes.Equal(data, bytes.Repeat(data[:1], size)) {
				t.Errorf("read a mixture of %d bytes", len(data))
				return
			}
		}
	})
	writers.Wait()
	done.Store(true)
	readers.Wait()
	checkOnly(t, filepath.Dir(path), "pin")
}

func TestCreateFileNeverOverwrites(t *testing.T) {
	for _, tt := range []struct {
		name  string
		taken func(path string) error
	}{
		{"a file", func(path string) error { return os.WriteFile(path, []byte("kept"), 0o600) }},
		{"an empty file", func(path string) error { return os.WriteFile(path, nil, 0o600) }},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a dangling link", func(path string) error { return os.Symlink(path+".nowhere", path) }},
		{"an earlier CreateFile", func(path string) error { return CreateFile(path, []byte("kept"), 0o400) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "alice.id")
			if err := tt.taken(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			err = CreateFile(path, []byte("new"), 0o600)
			if !errors.Is(err, bus.ErrFileExists) || !errors.Is(err, fs.ErrExist) {
				t.Errorf("error is %v, want %s", err, bus.CodeFileExists)
			}
			after, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if !os.SameFile(before, after) || before.Mode() != after.Mode() || before.Size() != after.Size() {
				t.Errorf("was %v, is %v", before, after)
			}
			checkOnly(t, dir, "alice.id")
		})
	}
}

func TestCreateFileFailsWithoutLeavingAnything(t *testing.T) {
	dir := t.TempDir()
	if err := CreateFile(filepath.Join(dir, "no", "where"), []byte("x"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("create in a missing directory: %v", err)
	}
	long := filepath.Join(dir, strings.Repeat("n", 300))
	if err := CreateFile(long, []byte("x"), 0o600); err == nil {
		t.Error("created a name that is too long")
	}
	// Short enough for the name, too long for the name of the file written aside.
	long = filepath.Join(dir, strings.Repeat("n", 250))
	if err := CreateFile(long, []byte("x"), 0o600); err == nil {
		t.Error("created a file without writing it aside first")
	}
	checkOnly(t, dir)
}

func TestCreateFileHasOneWinner(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "alice.id")
	var won atomic.Value
	var wins atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			mine := strings.Repeat(string(rune('a'+i)), 4096)
			switch err := CreateFile(path, []byte(mine), 0o600); {
			case err == nil:
				wins.Add(1)
				won.Store(mine)
			case !errors.Is(err, bus.ErrFileExists):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if wins.Load() != 1 {
		t.Fatalf("%d winners, want 1", wins.Load())
	}
	checkFile(t, path, won.Load().(string), 0o600)
	checkOnly(t, dir, "alice.id")
}
