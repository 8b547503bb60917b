package tooltest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// daemon is the real unibusd, built when a script first asks for it.
type daemon struct {
	dir   string // where it is built
	build sync.Once
	err   error
}

func (d *daemon) path() (string, error) {
	path := filepath.Join(d.dir, "unibusd")
	d.build.Do(func() {
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/enmanuel/unibus/daemon/unibusd").CombinedOutput()
		if err != nil {
			d.err = fmt.Errorf("build unibusd: %w\n%s", err, out)
		}
	})
	return path, d.err
}

// cmd puts unibusd on the script's PATH:
//
//	unibusd
//
// Whoever runs it finds its process id in node.pid. One that is still running
// when the script ends is killed.
func (d *daemon) cmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: unibusd")
	}
	path, err := d.path()
	ts.Check(err)
	bin, pid := ts.MkAbs("bin"), ts.MkAbs("node.pid")
	ts.Check(os.MkdirAll(bin, 0o700))
	wrapper := fmt.Sprintf("#!/bin/sh\necho $$ > '%s'\nexec '%s' \"$@\"\n", pid, path)
	ts.Check(os.WriteFile(filepath.Join(bin, "unibusd"), []byte(wrapper), 0o700))
	ts.Setenv("PATH", bin+string(os.PathListSeparator)+ts.Getenv("PATH"))
	ts.Defer(func() {
		text, err := os.ReadFile(pid)
		if err != nil {
			return // it never ran
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		ts.Check(err)
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", n)); err == nil && exe == path {
			ts.Check(syscall.Kill(n, syscall.SIGKILL))
		}
	})
}

// cmdFreePorts finds ports that nobody uses:
//
//	freeports VARIABLE...
func cmdFreePorts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: freeports VARIABLE...")
	}
	for _, variable := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(variable, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}
