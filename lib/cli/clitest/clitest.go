// Package clitest runs test scripts (github.com/rogpeppe/go-internal/testscript)
// against commands: the test binary itself stands for every command, so
// scripts run real processes without building anything. Only tests import it.
//
// A package of commands has
//
//	func TestMain(m *testing.M) {
//		clitest.Main(m, map[string]func() int{
//			"unibus-greet": func() int { return cli.Main(greet.Command()) },
//		})
//	}
//
//	func TestScripts(t *testing.T) { clitest.Run(t, clitest.Params{}) }
//
// and scripts testdata/script/*.txtar. Each runs with an empty home directory,
// $HOME, and no UNIBUS_* variable of the developer's. `go test -update`
// rewrites the files that scripts compare output with.
//
// Beside the standard commands there are
//
//	status N COMMAND ARG...   run, expecting exactly the exit status N
//	fails N COMMAND ARG...    the same for a command that goes wrong: no result, and
//	                          exactly one error: and one hint: at the end, or one
//	                          complete JSON error
//	tree save|same DIR        remember what is in a directory, and check that it is
//	                          the same still
//	mode 0600 FILE...         check permission bits
//	jsonlines stdout|stderr|FILE   each line must be a JSON object with "v":1
//	shape SCHEMA stdout|stderr|FILE   each line must be what the published schema
//	                          says, such as room-ls, and no more
//
// and the condition [race], which holds under the race detector, where
// passphrases take tens of times longer.
package clitest

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output inside test scripts")

// Main runs the tests of a package whose scripts use commands: each is a name
// and what its main function does, returning the exit status. It does not return.
func Main(m *testing.M, commands map[string]func() int) {
	mains := map[string]func(){}
	for name, run := range commands {
		mains[name] = func() { os.Exit(run()) }
	}
	testscript.Main(m, mains)
}

// Params say how scripts run. The zero value does for most.
type Params struct {
	Dir   string                                                              // of the scripts, "" is testdata/script
	Setup func(env *testscript.Env) error                                     // called last before a script starts
	Cmds  map[string]func(ts *testscript.TestScript, neg bool, args []string) // further script commands
	Conds map[string]func() bool                                              // further conditions
}

// Run runs every script, each as a parallel subtest.
func Run(t *testing.T, p Params) {
	if p.Dir == "" {
		p.Dir = filepath.Join("testdata", "script")
	}
	cmds := map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"status":    cmdStatus,
		"fails":     cmdFails,
		"tree":      cmdTree,
		"shape":     cmdShape,
		"mode":      cmdMode,
		"jsonlines": cmdJSONLines,
	}
	for name, cmd := range p.Cmds {
		cmds[name] = cmd
	}
	testscript.Run(t, testscript.Params{
		Dir: p.Dir,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			if err := os.MkdirAll(home, 0o700); err != nil {
				return err
			}
			env.Setenv("HOME", home)
			if p.Setup != nil {
				return p.Setup(env)
			}
			return nil
		},
		Cmds: cmds,
		Condition: func(cond string) (bool, error) {
			if holds, ok := p.Conds[cond]; ok {
				return holds(), nil
			}
			if cond != "race" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return raceDetector, nil
		},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// cmdStatus runs a command and compares its exit status.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	have := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("run %s: %v", args[1], err)
		}
		have = exit.ExitCode()
	}
	if have != want {
		ts.Fatalf("%s ended with status %d, want %d", strings.Join(args[1:], " "), have, want)
	}
}

// cmdMode compares permission bits.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode 0600 FILE...")
	}
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if have := fmt.Sprintf("%#o", info.Mode().Perm()); have != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, have, args[0])
		}
	}
}

// cmdJSONLines checks the promise of --json.
func cmdJSONLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: jsonlines stdout|stderr|FILE")
	}
	content := ts.ReadFile(args[0])
	if content == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for line := range strings.Lines(content) {
		var object struct {
			V int `json:"v"`
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			ts.Fatalf("%s: %v in %q", args[0], err, line)
		}
		if !strings.HasPrefix(line, `{"v":1`) || object.V != 1 {
			ts.Fatalf("%s: %q does not begin {\"v\":1", args[0], line)
		}
	}
}
