//go:build unix

package cli

import "golang.org/x/sys/unix"

// checkInherited refuses a file descriptor that this process was not given. The
// runtime and libraries have descriptors of their own, and all of them close on
// exec, which an inherited one never does.
func checkInherited(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err == nil && flags&unix.FD_CLOEXEC != 0 {
		err = unix.EBADF
	}
	return err
}
