package tooltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

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

// What pages show is what is built and run here.
func TestPagesShowTheExamplesThatAreRun(t *testing.T) {
	for page, source := range map[string]string{"../../docs/plugins.md": "../../docs/example-plugin/main.go", "../../README.md": "../../docs/example-program/main.go"} {
		code, err := os.ReadFile(filepath.FromSlash(source))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.FromSlash(page))
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(string(code), "\nfunc main() {")
		if body == "" || !strings.Contains(string(text), "\nfunc main() {"+body+"```\n") {
			t.Errorf("%s does not show %s as it is", page, source)
		}
	}
}
