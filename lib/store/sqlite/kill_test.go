package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// childVar makes the test binary a process that opens a store: "hold <path>"
// keeps it open, "write <path>" and "writekey <path>" write to it, in the clear
// and encrypted, and report every write once it has returned.
const childVar = "UNIBUS_TEST_SQLITE_CHILD"

func child(command string) int {
	verb, path, _ := strings.Cut(command, " ")
	var opts Options
	if verb == "writekey" {
		opts.Key = testKey()
	}
	s, err := Open(context.Background(), path, opts)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("open")
	if verb != "hold" {
		go func() {
			fmt.Println(writeForever(s))
			os.Exit(1)
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // ends when the test does, should it fail to kill us
	return 1
}

// writeForever creates, updates and deletes keys from several goroutines and
// prints "<verb> <key> <revision>" after each write. It returns what failed.
func writeForever(s *Store) error {
	failed := make(chan error)
	for worker := range 3 {
		go func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("run/%d/%d/%d", os.Getpid(), worker, n)
				if err := writeOne(s, key, n); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

func writeOne(s *Store, key string, n int) error {
	ctx := context.Background()
	value := []byte(strings.Repeat(key, 1+n%50)) // several pages now and then
	rev, err := s.Create(ctx, store.Control, key, value, 0)
	if err != nil {
		return err
	}
	fmt.Println("created", key, rev)
	if n%3 > 0 {
		if rev, err = s.Update(ctx, store.Control, key, value, rev); err != nil {
			return err
		}
		fmt.Println("updated", key, rev)
	}
	if n%3 > 1 {
		if err := s.Delete(ctx, store.Control, key, rev); err != nil {
			return err
		}
		fmt.Println("deleted", key, 0)
	}
	return nil
}

// process is a child that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *bufio.Scanner
	kill func() // SIGKILL, once, and wait
}

func startChild(t *testing.T, verb, path string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+verb+" "+path)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	// Not StdoutPipe: what the child said last is still to be read after it was killed.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, out: bufio.NewScanner(r)}
	p.kill = sync.OnceFunc(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // says that it was killed
	})
	t.Cleanup(func() {
		p.kill()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if !p.out.Scan() || p.out.Text() != "open" {
		t.Fatalf("child said %q, %v", p.out.Text(), p.out.Err())
	}
	return p
}

func TestKilledWritersLoseNothingTheyAcknowledged(t *testing.T) {
	for name, opts := range map[string]Options{"write": {}, "writekey": {Key: testKey()}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "u.db")
			last := map[string]ack{}
			var newest store.Revision
			for _, enough := range []int{1, 40, 150, 400} {
				newest = max(newest, acknowledged(t, startChild(t, name, path), enough, last))
				checkAcknowledged(t, path, opts, last, newest)
			}
		})
	}
}

// ack is the last that a child said of a key.
type ack struct {
	verb string
	rev  store.Revision
}

// acknowledged kills the child after so many writes and records all that it
// had said by then. It returns the greatest revision.
func acknowledged(t *testing.T, p *process, enough int, last map[string]ack) (newest store.Revision) {
	t.Helper()
	for n := 0; p.out.Scan(); n++ {
		var key string
		var a ack
		if _, err := fmt.Sscan(p.out.Text(), &a.verb, &key, &a.rev); err != nil {
			t.Fatalf("child said %q", p.out.Text())
		}
		last[key] = a
		newest = max(newest, a.rev)
		if n == enough {
			p.kill()
		}
	}
	return newest
}

// checkAcknowledged opens the store and fails unless everything is there. A key
// may be one write further than what was said of it: the child was killed
// between the write and saying so.
func checkAcknowledged(t *testing.T, path string, opts Options, last map[string]ack, newest store.Revision) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Open(ctx, path, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for key, a := range last {
		e, err := s.Get(ctx, store.Control, key)
		switch {
		case a.verb == "deleted" && !errors.Is(err, bus.ErrNotFound):
			t.Fatalf("%s was deleted: %v", key, err)
		case a.verb == "created" && err != nil:
			t.Fatalf("%s was created: %v", key, err)
		case a.verb == "updated" && errors.Is(err, bus.ErrNotFound):
			// deleted, without having said so
		case a.verb != "deleted" && (err != nil || e.Revision < a.rev || !strings.HasPrefix(string(e.Value), key)):
			t.Fatalf("%s was %s at %d: %v, revision %d", key, a.verb, a.rev, err, e.Revision)
		}
	}
	rev, err := s.Create(ctx, store.Control, fmt.Sprintf("after/%d", newest), nil, 0)
	if err != nil || rev <= newest {
		t.Fatalf("revision %d after %d, %v", rev, newest, err)
	}
	reader, err := s.take(ctx, s.readers)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.readers.idle <- reader }()
	if n, err := reader.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"); n != 0 || err != nil {
		t.Fatalf("integrity check: %d complaints, %v", n, err)
	}
}
