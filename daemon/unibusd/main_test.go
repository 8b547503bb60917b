package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/clitest"
	ctxcmd "github.com/enmanuel/unibus/tools/context"
	initcmd "github.com/enmanuel/unibus/tools/init"
	"github.com/enmanuel/unibus/tools/keygen"
	"github.com/enmanuel/unibus/tools/pub"
	"github.com/enmanuel/unibus/tools/room"
	"github.com/enmanuel/unibus/tools/sub"
	"github.com/enmanuel/unibus/tools/usermgr"
)

// The scripts run the daemon and the tools as processes of their own: this
// test binary under their names.
func TestMain(m *testing.M) {
	commands := map[string]func() int{
		"unibusd": func() int { return program().Main() },
	}
	for _, tool := range []func() *cli.Command{
		initcmd.Command, keygen.Command, ctxcmd.Command, usermgr.Command, room.Command, pub.Command, sub.Command,
	} {
		commands["unibus-"+tool().Name] = func() int { return cli.Main(tool()) }
	}
	clitest.Main(m, commands)
}

func TestScripts(t *testing.T) {
	clitest.Run(t, clitest.Params{
		Setup: freePorts,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"awaitnode":  awaitNode,
			"awaitlines": awaitLines,
			"awaitsize":  awaitSize,
			"biglog":     bigLog,
			"samehash":   sameHash,
			"scan":       scan,
		},
	})
}

// freePorts gives each script two ports that nobody listens on.
func freePorts(env *testscript.Env) error {
	for _, name := range []string{"NATS_PORT", "CONTROL_PORT"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		env.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// poll asks every 5 ms until done says so, for a minute at most.
func poll(ts *testscript.TestScript, what string, done func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("waited a minute for %s", what)
		}
	}
}

// awaitNode waits until the node of the script is ready.
func awaitNode(ts *testscript.TestScript, _ bool, _ []string) {
	url := "http://127.0.0.1:" + ts.Getenv("CONTROL_PORT") + "/readyz"
	poll(ts, url, func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// awaitLines FILE N [MAX] waits until a file has N lines or more, and fails if
// by then it has more than MAX.
func awaitLines(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	have := 0
	poll(ts, fmt.Sprintf("%d lines in %s", want, args[0]), func() bool {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		have = bytes.Count(content, []byte("\n"))
		return err == nil && have >= want
	})
	ts.Logf("%s has %d lines", args[0], have)
	if len(args) > 2 {
		most, err := strconv.Atoi(args[2])
		ts.Check(err)
		if have > most {
			ts.Fatalf("%s has %d lines already, more than %d: what was to be interrupted is over", args[0], have, most)
		}
	}
}

// awaitSize FILE LIKE waits until a file has the size of another, or more.
func awaitSize(ts *testscript.TestScript, _ bool, args []string) {
	want, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	poll(ts, fmt.Sprintf("%d bytes in %s", want.Size(), args[0]), func() bool {
		have, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil && have.Size() >= want.Size()
	})
}

// bigLog FILE LINES writes text as a repository's history has it: many lines,
// some empty, some very long, some not UTF-8, some with a carriage return, and
// no newline at the end.
func bigLog(ts *testscript.TestScript, _ bool, args []string) {
	lines, err := strconv.Atoi(args[1])
	ts.Check(err)
	const seed = 20260
	ts.Logf("seed %d", seed)
	source := rand.NewChaCha8([32]byte{seed & 0xff, seed >> 8})
	random := rand.New(source)
	var b bytes.Buffer
	for i := range lines {
		switch {
		case i == lines/2:
			fmt.Fprintf(&b, "+%s", strings.Repeat("long ", 200_000)) // 1 MB
		case i%97 == 0:
			noise := make([]byte, random.IntN(4000))
			source.Read(noise)
			b.Write(bytes.ReplaceAll(noise, []byte("\n"), []byte("\x00")))
		case i%13 == 0:
			b.WriteString("\r")
		case i%5 != 0:
			fmt.Fprintf(&b, "+\tif line %d of %x {", i, random.Uint64())
		}
		b.WriteByte('\n')
	}
	b.WriteString("\\ No newline at end of file")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}

// sameHash FILE FILE compares two files by SHA-256.
func sameHash(ts *testscript.TestScript, _ bool, args []string) {
	var sums [2][32]byte
	for i, name := range args {
		content, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		sums[i] = sha256.Sum256(content)
		ts.Logf("%x  %s (%d bytes)", sums[i], name, len(content))
	}
	if sums[0] != sums[1] {
		ts.Fatalf("%s and %s differ", args[0], args[1])
	}
}

// scan DIR TEXT fails if any file below DIR, or DIR itself, contains TEXT;
// with "!" it fails if none does.
func scan(ts *testscript.TestScript, neg bool, args []string) {
	files, found := 0, ""
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		content, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		files++
		if bytes.Contains(content, []byte(args[1])) {
			found = path
		}
		return nil
	}))
	ts.Logf("scanned %d files", files)
	switch {
	case files == 0:
		ts.Fatalf("no files in %s", args[0])
	case !neg && found != "":
		ts.Fatalf("%q stands in %s", args[1], found)
	case neg && found == "":
		ts.Fatalf("%q stands in none of %d files", args[1], files)
	}
}
