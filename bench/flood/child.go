package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"github.com/enmanuel/unibus/lib/cli"
)

// child is this program as another process. It ends when its standard input
// does, and speaks in lines of JSON.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// patience is how long a child may take to end.
const patience = 20 * time.Second

// spawn starts the program again as role.
func spawn(ctx context.Context, c *cli.Call, role string, setup any) (*child, error) {
	text, err := json.Marshal(setup)
	if err != nil {
		return nil, err
	}
	k := &child{cmd: exec.CommandContext(ctx, c.Env.Executable, role, "--"+flagSetup, string(text))}
	k.cmd.Stderr = c.Stderr
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us; they end by their input
	k.cmd.WaitDelay = patience
	out, err := k.cmd.StdoutPipe()
	if err == nil {
		k.stdin, err = k.cmd.StdinPipe()
	}
	if err == nil {
		err = k.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	k.lines = bufio.NewScanner(out)
	return k, nil
}

// read reads the next line into v.
func (k *child) read(v any) error {
	if !k.lines.Scan() {
		return fmt.Errorf("read from process %d: %w", k.cmd.Process.Pid, errors.Join(k.lines.Err(), io.ErrUnexpectedEOF))
	}
	return json.Unmarshal(k.lines.Bytes(), v)
}

// ask sends a line and reads the answer.
func (k *child) ask(v any) error {
	if _, err := io.WriteString(k.stdin, "?\n"); err != nil {
		return err
	}
	return k.read(v)
}

// end closes the child's input and waits for it.
func (k *child) end() error {
	timer := time.AfterFunc(patience, func() { _ = k.cmd.Process.Kill() })
	defer timer.Stop()
	return errors.Join(k.stdin.Close(), k.cmd.Wait())
}

// setupOf reads what the first process says.
func setupOf(c *cli.Call, v any) error {
	if err := json.Unmarshal([]byte(c.String(flagSetup)), v); err != nil {
		return cli.BadArg("--"+flagSetup, err)
	}
	return nil
}

// tell writes a line for the first process.
func tell(c *cli.Call, v any) error { return json.NewEncoder(c.Stdout).Encode(v) }

// raiseFiles raises the limit of open files as far as it goes, and returns it.
func raiseFiles(want uint64) uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	if l.Cur < want {
		// Whoever may raises the upper limit too; others reach it.
		more := syscall.Rlimit{Cur: want, Max: max(want, l.Max)}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) != nil {
			more = syscall.Rlimit{Cur: l.Max, Max: l.Max}
			if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) != nil {
				return l.Cur
			}
		}
		return more.Cur
	}
	return l.Cur
}
