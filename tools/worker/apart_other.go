//go:build !unix

package worker

import "os/exec"

// apart leaves a command as it is where there are no process groups.
func apart(*exec.Cmd) {}
