package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
)

// nameFile keeps the name of the node whose data directory it is.
const nameFile = "node"

// claimDir refuses a data directory that others can change, and gives it the
// name of the node at the first start. With no name in the configuration the one
// it has counts, so that a host may be called something else one day.
func (n *Node) claimDir(context.Context) error {
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return bus.Errorf(bus.CodeUnavailable, "make data directory: %w", err)
	}
	if err := checkDir(n.cfg.DataDir); err != nil {
		return err
	}
	path := filepath.Join(n.cfg.DataDir, nameFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeName(path, n.cfg.Name)
	}
	if err != nil {
		return fmt.Errorf("read name of node: %w", err)
	}
	pinned := strings.TrimSuffix(string(text), "\n")
	switch {
	case !namePattern.MatchString(pinned):
		return bus.Errorf(bus.CodeMalformed, "read name of node: %s holds none", path)
	case n.cfg.nameGiven && n.cfg.Name != pinned:
		return bus.Errorf(bus.CodeUsage, "name node %s: %s belongs to node %s, and a node keeps its name: leave --node away, or give that", n.cfg.Name, n.cfg.DataDir, pinned)
	}
	n.cfg.Name = pinned
	return nil
}

// writeName writes the name aside first, so that a crash leaves it whole or not
// there.
func writeName(path, name string) error {
	aside := path + ".new"
	f, err := os.OpenFile(aside, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write name of node: %w", err)
	}
	_, err = f.WriteString(name + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		return fmt.Errorf("write name of node: %w", err)
	}
	return nil
}

// checkDir refuses a directory that others than its owner can write to: they
// could put another store in the place of this one.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("check data directory: %w", err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o022 != 0 {
		return bus.Errorf(bus.CodeFileMode, "check data directory %s: others may write to it, its mode is %#o; run: chmod go-w %[1]q", dir, mode)
	}
	return nil
}

// warnOfNoAdmin tells the operator of a bus that nobody can administer.
func (n *Node) warnOfNoAdmin(ctx context.Context) error {
	users, err := n.dir.Users(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(users, directory.User.IsAdmin) {
		n.log.Warn("the bus has no admin; add one through the local socket",
			"run", fmt.Sprintf("unibus usermgr --socket %q add HANDLE SIGN_PUB --role admin", n.cfg.Socket))
	}
	return nil
}
