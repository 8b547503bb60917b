package main

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// advise says what whoever operates the node can do about err, since the hints
// that codes have by themselves are for clients of a bus.
func advise(cfg node.Config, err error) error {
	if err == nil {
		return nil
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		return cli.WithHint(err, "choose another --%s; ss -ltnp shows who listens", listenFlag(cfg, op))
	}
	switch code := bus.CodeOf(err); {
	case errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		// The message server and the store give no more than the text.
		return cli.WithHint(err, "make room on the disk and start it again; df -h %s", cfg.DataDir)
	case code == bus.CodeWrongBus:
		return cli.WithHint(err, "--%s must be the one the directory was made for; or choose another --%s", flagBusID, flagData)
	case errors.Is(err, fs.ErrPermission):
		return cli.WithHint(err, "chown or chmod %s, so that the user of the daemon may write there", cfg.DataDir)
	case errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist):
		return cli.WithHint(err, "a file is in the way; choose another --%s", flagData)
	case code == bus.CodeUnavailable && isFile(err):
		return cli.WithHint(err, "choose another --%s, where directories can be made", flagData)
	case code == bus.CodeUnavailable && strings.Contains(err.Error(), "another process"):
		// The store has no code of its own for it.
		return cli.WithHint(err, "another unibusd uses this directory; stop it first, or choose another --%s", flagData)
	case code == bus.CodeUnavailable:
		return cli.WithHint(err, "df -h %s", cfg.DataDir)
	case code == bus.CodeTimeout:
		return cli.WithHint(err, "start it again")
	}
	return err
}

// isFile reports whether err is about a path.
func isFile(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// listenFlag returns the flag that chose the address which cannot be listened on.
func listenFlag(cfg node.Config, op *net.OpError) string {
	if strings.HasPrefix(op.Net, "unix") {
		return flagSocket
	}
	for flag, listen := range map[string]string{
		flagNATSListen: cfg.NATSListen, flagControlListen: cfg.ControlListen,
		flagMetricsListen: cfg.MetricsListen, flagDebugListen: cfg.DebugListen,
	} {
		_, port, err := net.SplitHostPort(listen)
		if err == nil && strings.HasSuffix(op.Error(), ":"+port+": "+op.Err.Error()) {
			return flag
		}
	}
	return flagNATSListen + " or --" + flagControlListen
}
