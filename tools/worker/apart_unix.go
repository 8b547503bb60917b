//go:build unix

package worker

import (
	"os/exec"
	"syscall"
)

// apart runs a command in a process group of its own, so that Ctrl-C on the
// worker's terminal does not reach what it is to finish, and has its end be that
// of all that it started.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
