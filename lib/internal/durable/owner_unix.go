//go:build unix

package durable

import (
	"fmt"
	"os"
	"syscall"
)

// Adopt gives path the owner of like when root runs: what root opens or makes
// once must not keep the daemon's own user out of it afterwards.
func Adopt(path, like string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("read the owner of %s: not known on this system", like)
	}
	return os.Lchown(path, int(sys.Uid), int(sys.Gid))
}
