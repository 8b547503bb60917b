package durable

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
)

// holdVar makes the test binary a process that locks the named file, says so
// on its standard output and holds the lock until it is killed.
const holdVar = "UNIBUS_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdVar); path != "" {
		if _, err := Lock(context.Background(), path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the test does, should it fail to kill us
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestLockExcludesGoroutines(t *testing.T) {
	dir := t.TempDir()
	lock, counter := filepath.Join(dir, "counter.lock"), filepath.Join(dir, "counter")
	if err := WriteFile(counter, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	const workers, rounds = 4, 5
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range rounds {
				if err := increment(t.Context(), lock, counter); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	checkFile(t, counter, strconv.Itoa(workers*rounds), 0o600)
	checkFile(t, lock, "", 0o600)
}

func increment(ctx context.Context, lock, counter string) error {
	unlock, err := Lock(ctx, lock)
	if err != nil {
		return err
	}
	defer unlock()
	data, err := os.ReadFile(counter)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return err
	}
	return WriteFile(counter, []byte(strconv.Itoa(n+1)), 0o600)
}

func TestLockExcludesProcessesAndEndsWithThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), holdVar+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	t.Cleanup(stop)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child said %q, %v", line, err)
	}

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Lock(short, path); !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("lock that another process holds: %v", err)
	}

	stop()
	long, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	unlock, err := Lock(long, path)
	if err != nil {
		t.Fatalf("lock of a killed process: %v", err)
	}
	unlock()
}

func TestUnlockTwiceLetsGoOnlyOfItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	first, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	first()
	second, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	first()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Lock(short, path); !errors.Is(err, bus.ErrTimeout) {
		t.Errorf("lock held by its second holder: %v", err)
	}
	second()
}

func TestLockStopsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ended, path); !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Errorf("lock with an ended context: %v", err)
	}
	if _, err := Lock(t.Context(), filepath.Join(path, "no", "dir")); err == nil || errors.Is(err, bus.ErrTimeout) {
		t.Errorf("lock in a missing directory: %v", err)
	}
}
