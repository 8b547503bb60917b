package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestMkdirAllMakesPrivateDirectoriesAndLeavesOthersAlone(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(open, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(deep); err != nil {
			t.Fatal(err)
		}
		for dir, want := range map[string]fs.FileMode{open: 0o755, filepath.Join(open, "a"): 0o700, filepath.Dir(deep): 0o700, deep: 0o700} {
			info, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != want|fs.ModeDir {
				t.Errorf("%s has mode %v, want %v", dir, info.Mode(), want|fs.ModeDir)
			}
		}
	}
}

func TestMkdirAllBelowAFileFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := MkdirAll(path); err == nil {
			t.Errorf("made a directory at %s", path)
		}
	}
	checkFile(t, file, "kept", 0o600)
}

func TestSyncDirOfAMissingDirectoryFails(t *testing.T) {
	if err := SyncDir(filepath.Join(t.TempDir(), "no")); err == nil {
		t.Error("synced a directory that does not exist")
	}
}
