package clitest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdFails runs a command that is to go wrong as everything here goes wrong.
func cmdFails(ts *testscript.TestScript, neg bool, args []string) {
	cmdStatus(ts, neg, args)
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("a command that failed printed a result: %q", out)
	}
	said := ts.ReadFile("stderr")
	if strings.HasPrefix(lastLine(said), "{") {
		failsInJSON(ts, args[0], lastLine(said))
		return
	}
	errs, hints, other := 0, 0, ""
	for line := range strings.Lines(said) {
		switch {
		case strings.HasPrefix(line, "error: "):
			errs++
		case strings.HasPrefix(line, "hint: "):
			hints++
		case strings.HasPrefix(line, "warning: "):
		default:
			other = line
		}
	}
	if errs != 1 || hints != 1 || !strings.HasPrefix(lastLine(said), "hint: ") {
		ts.Fatalf("%d lines with error: and %d with hint:, want one of each at the end:\n%s", errs, hints, said)
	}
	for _, leftover := range []string{"goroutine ", "panic:", "Incorrect Usage", "NAME:", "%!"} {
		if strings.Contains(said, leftover) {
			ts.Fatalf("%q on standard error:\n%s", leftover, said)
		}
	}
	if other != "" {
		ts.Logf("beside the error: %s", other)
	}
}

func failsInJSON(ts *testscript.TestScript, status, line string) {
	var said struct {
		V     int `json:"v"`
		Error struct {
			Code, Message, Hint string
			Exit                int
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		ts.Fatalf("%v in %q", err, line)
	}
	e := said.Error
	if said.V != 1 || e.Code == "" || e.Message == "" || e.Hint == "" || fmt.Sprint(e.Exit) != status {
		ts.Fatalf("%q lacks a part, or has another status than %s", line, status)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// cmdTree remembers what is in a directory in a file outside of it.
func cmdTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || args[0] != "save" && args[0] != "same" {
		ts.Fatalf("usage: tree save|same DIR")
	}
	now := treeOf(ts, ts.MkAbs(args[1]))
	kept := ts.MkAbs(".tree-" + strings.ReplaceAll(args[1], string(filepath.Separator), "-"))
	if args[0] == "save" {
		ts.Check(os.WriteFile(kept, []byte(now), 0o600))
		return
	}
	if before := ts.ReadFile(kept); before != now {
		ts.Fatalf("%s changed. It was\n%sand is\n%s", args[1], before, now)
	}
}

// treeOf lists what is in a directory: names, modes and digests. A directory
// that is not there is empty. Lock files hold nothing and may come at any time.
func treeOf(ts *testscript.TestScript, dir string) string {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum := [32]byte{}
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(content)
		}
		rel, err := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "  %s %s %x\n", rel, info.Mode(), sum[:6])
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		ts.Fatalf("list %s: %v", dir, err)
	}
	return b.String()
}
