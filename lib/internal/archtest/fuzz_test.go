package archtest

import (
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxCorpus bounds what is kept for one fuzz target: a corpus is a set of
// starting points, not an archive.
const maxCorpus = 256 << 10 // bytes

// A fuzz target that begins from nothing finds nothing in the time it has, and
// one whose corpus lies where the go command does not look passes all the same.
func TestFuzzTargetsBeginWithSomething(t *testing.T) {
	targets := 0
	for _, f := range sourceFiles(t) {
		if !f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			targets++
			kept, size := corpus(t, f.pkg, fn.Name.Name)
			if kept == 0 && !addsSeeds(f, fn) {
				t.Errorf("%s: %s has neither a call of Add nor a corpus", f.name, fn.Name.Name)
			}
			if size > maxCorpus {
				t.Errorf("%s: the corpus of %s has %d bytes, over %d: keep what differs", f.name, fn.Name.Name, size, maxCorpus)
			}
		}
	}
	if targets < 30 {
		t.Fatalf("found %d fuzz targets: the walk is broken", targets)
	}
}

// corpus counts the files that the go command reads for a target.
func corpus(t *testing.T, pkg, target string) (files int, size int64) {
	t.Helper()
	dir := filepath.Join("..", "..", "..", filepath.FromSlash(pkg), "testdata", "fuzz", target)
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		var info fs.FileInfo
		if info, err = e.Info(); err != nil {
			t.Fatal(err)
		}
		files, size = files+1, size+info.Size()
	}
	return files, size
}

// addsSeeds reports whether a target, or a function that it hands its *testing.F
// to, calls Add.
func addsSeeds(f file, fn *ast.FuncDecl) bool {
	found := false
	param := fn.Type.Params.List[0].Names[0].Name
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == param && sel.Sel.Name == "Add" {
				found = true
			}
		}
		for _, arg := range call.Args {
			x, ok := arg.(*ast.Ident)
			if !ok || x.Name != param {
				continue
			}
			if id, ok := call.Fun.(*ast.Ident); ok && id.Obj != nil {
				if helper, ok := id.Obj.Decl.(*ast.FuncDecl); ok && helper != fn {
					found = found || addsSeeds(f, helper)
				}
			}
		}
		return true
	})
	return found
}
