//go:build unix

package room

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

// crashDir tells a copy of this test binary to move pins in a directory until
// it is killed.
const crashDir = "UNIBUS_TEST_PINS_DIR"

var crashRoom = bus.RoomID{0xc, 0x7}

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := moveForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// crashPin is the one pin an epoch has here, so that what is torn shows.
func crashPin(e bus.Epoch) Pin {
	return Pin{Epoch: e, Hash: sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(e)))}
}

// moveForever moves the pin on by one, says so on stdout, and begins again.
// Others do the same at the same time.
func moveForever(dir string) error {
	ctx, pins := context.Background(), OpenPins(dir)
	for {
		at, ok, err := pins.Get(ctx, crashRoom)
		if err != nil {
			return err
		}
		next := crashPin(at.Epoch + 1)
		if !ok {
			next = crashPin(0)
		}
		switch err := pins.Move(ctx, crashRoom, next, onward); bus.CodeOf(err) {
		case "":
			if _, err := fmt.Println(uint64(next.Epoch)); err != nil {
				return err
			}
		case bus.CodeRollback: // somebody else was faster
		default:
			return err
		}
	}
}

// Two processes move a pin and are killed in the middle of it, again and again,
// while somebody reads.
func TestPinSurvivesKilledProcesses(t *testing.T) {
	const rounds, most = 12, 25
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	pins := OpenPins(dir)

	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		last, seen := bus.Epoch(0), 0
		for {
			select {
			case <-stop:
				if seen == 0 {
					t.Error("the reader never saw a pin")
				}
				return
			default:
			}
			pin, ok, err := pins.Get(context.Background(), crashRoom)
			if err != nil {
				t.Errorf("read while others write: %v", err)
				return
			}
			if !ok {
				continue
			}
			if seen++; pin.Epoch < last || pin != crashPin(pin.Epoch) {
				t.Errorf("read %v after epoch %d", pin, last)
				return
			}
			last = pin.Epoch
		}
	})

	var highest bus.Epoch
	for round := range rounds {
		var mu sync.Mutex
		var movers sync.WaitGroup
		for range 2 {
			lines := 1 + random.IntN(most)
			movers.Go(func() {
				said, err := killAfter(dir, lines)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				highest = max(highest, said)
			})
		}
		movers.Wait()
		pin, ok, err := pins.Get(context.Background(), crashRoom)
		if err != nil || !ok {
			t.Fatalf("round %d: pin is %v, %t, %v", round, pin, ok, err)
		}
		if pin.Epoch < highest || pin != crashPin(pin.Epoch) {
			t.Fatalf("round %d: pin is %v, but epoch %d was said to be on the disk", round, pin, highest)
		}
		highest = pin.Epoch
	}
	close(stop)
	reader.Wait()
	if highest < rounds {
		t.Errorf("the pin moved to %d only", highest)
	}
}

// killAfter starts a process that moves the pin, kills it as soon as it has
// said a number of lines, and returns the last epoch it said.
func killAfter(dir string, lines int) (bus.Epoch, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(exe, "-test.run", "^$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var last uint64
	said := bufio.NewScanner(out)
	for n := 0; said.Scan(); n++ {
		// What it still said before the signal reached it counts too.
		if last, err = strconv.ParseUint(said.Text(), 10, 64); err != nil {
			break // a line cut off by the kill
		}
		if n+1 == lines {
			if err := cmd.Process.Kill(); err != nil {
				return 0, err
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		return 0, fmt.Errorf("the process ended by itself")
	}
	if !killed(cmd.ProcessState) {
		return 0, fmt.Errorf("the process was not killed: %v", cmd.ProcessState)
	}
	return bus.Epoch(last), nil
}

// killed reports whether a process ended by SIGKILL and not on its own.
func killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
