package tooltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

const examplePlugin = "../../docs/example-plugin/main.go"

// cmdGoInstall builds a program of this module into a directory that is
// searched for plug-ins:
//
//	goinstall ./docs/example-plugin unibus-whoami
func cmdGoInstall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: goinstall PACKAGE NAME")
	}
	dir := ts.MkAbs("plugins")
	root, err := filepath.Abs(filepath.Join("..", ".."))
	ts.Check(err)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, args[1]), args[0])
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		ts.Fatalf("build %s: %v\n%s", args[0], err, out)
	}
	ts.Setenv("UNIBUS_PLUGIN_PATH", dir)
}

// The page about plug-ins shows the very file that is built and run here.
func TestThePageShowsTheExamplePlugin(t *testing.T) {
	source, err := os.ReadFile(filepath.FromSlash(examplePlugin))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.FromSlash("../../docs/plugins.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```go\n"+string(source)+"```\n") {
		t.Errorf("docs/plugins.md does not show %s as it is", examplePlugin)
	}
}
