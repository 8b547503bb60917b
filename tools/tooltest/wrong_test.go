package tooltest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdBlackHole sets variables to addresses, HOST:PORT, that take connections
// and never say a word:
//
//	blackhole VARIABLE...
func cmdBlackHole(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: blackhole VARIABLE...")
	}
	for _, variable := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody else
		ts.Check(err)
		ts.Defer(func() { ts.Check(l.Close()) })
		ts.Setenv(variable, l.Addr().String())
	}
}

// cmdBadServer sets a variable to the URL of a web server that answers each
// request with the content of a file, as if it were of the control plane:
//
//	badserver VARIABLE FILE
func cmdBadServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: badserver VARIABLE FILE")
	}
	body := ts.ReadFile(args[1])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body) // a client that went away needs no answer
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// canMount reports whether a small disk can be mounted here, which takes root
// on Linux, and not in every container.
var canMount = sync.OnceValue(func() bool {
	dir, err := os.MkdirTemp("", "unibus-mount-")
	if err != nil {
		return false
	}
	defer os.Remove(dir)
	if mount(dir, "64k") != nil {
		return false
	}
	return unmount(dir) == nil
})

func mount(dir, size string) error {
	return exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).Run()
}

func unmount(dir string) error { return exec.Command("umount", "-l", dir).Run() }

// cmdDisk mounts a small disk, where the condition [disk] holds, and fills it:
//
//	disk new DIR SIZE    SIZE as mount has it, such as 16m
//	disk fill DIR        leave no byte free
//	disk free DIR        take away what fill put there
func cmdDisk(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "usage: disk new DIR SIZE | disk fill DIR | disk free DIR"
	if neg || len(args) < 2 {
		ts.Fatalf(usage)
	}
	dir := ts.MkAbs(args[1])
	filler := filepath.Join(dir, "filler")
	switch {
	case args[0] == "new" && len(args) == 3:
		ts.Check(os.MkdirAll(dir, 0o700))
		ts.Check(mount(dir, args[2]))
		ts.Defer(func() {
			if err := unmount(dir); err != nil {
				ts.Logf("unmount %s: %v", dir, err)
			}
		})
	case args[0] == "fill":
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		ts.Check(err)
		defer f.Close()
		for size := 1 << 20; size > 0; {
			if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
				size /= 2
			} else {
				ts.Check(err)
			}
		}
	case args[0] == "free":
		ts.Check(os.Remove(filler))
	default:
		ts.Fatalf(usage)
	}
}
