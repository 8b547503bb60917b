//go:build unix

package cli

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// process is a program of script_test.go that runs as a process.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log *bufio.Reader // its standard error
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	p := &process{t: t, cmd: exec.CommandContext(ctx, "toy", args...)}
	p.cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	stderr, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.log = bufio.NewReader(stderr)
	return p
}

// says waits for the next line of standard error.
func (p *process) says(want string) {
	p.t.Helper()
	if line, err := p.log.ReadString('\n'); err != nil || line != want+"\n" {
		p.t.Fatalf("standard error: %q, %v; want %q", line, err, want)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the end, without another word on standard error.
func (p *process) end() syscall.WaitStatus {
	p.t.Helper()
	if rest, err := io.ReadAll(p.log); err != nil || len(rest) > 0 {
		p.t.Errorf("standard error goes on with %q, %v", rest, err)
	}
	_ = p.cmd.Wait() // any status but 0 is an error; the status is looked at
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func TestTheFirstSignalLeavesTimeToPutThingsAway(t *testing.T) {
	for s, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		p := start(t, "wait")
		p.says("waiting")
		p.signal(s)
		p.says("putting things away")
		if status := p.end(); status.ExitStatus() != want {
			t.Errorf("after %v: exit status %d, want %d", s, status.ExitStatus(), want)
		}
	}
}

func TestTheSecondSignalKills(t *testing.T) {
	p := start(t, "stubborn")
	p.says("waiting")
	p.signal(syscall.SIGINT)
	p.says("not now")
	p.signal(syscall.SIGINT)
	if status := p.end(); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("ended with %v", status)
	}
}
