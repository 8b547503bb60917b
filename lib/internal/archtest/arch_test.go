package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/enmanuel/unibus/"

// A rule forbids imports. Paths of this module are written from its root; a
// pattern ending in "/..." covers everything below.
type rule struct {
	who    []string // the importing packages
	except []string
	what   []string // what they may not import
	allow  []string // what they may import all the same
	tests  bool     // also binds _test.go files
	why    string
}

var rules = []rule{
	{
		who: []string{"lib/bus"}, what: []string{"lib/...", "daemon/...", "tools/...", "external"}, tests: true,
		why: "bus is the vocabulary everything else is written in: it stands on the standard library alone",
	},
	{
		who: []string{"lib/wire"}, what: []string{"lib/...", "daemon/...", "tools/..."}, allow: []string{"lib/bus"},
		why: "wire is the second layer: primitives over the vocabulary",
	},
	{
		who: []string{"lib/identity"}, what: []string{"lib/...", "daemon/...", "tools/..."},
		allow: []string{"lib/bus", "lib/wire", "lib/internal/durable"},
		why:   "bus ← wire ← identity ← room ← frame ← client",
	},
	{
		who: []string{"lib/room"}, what: []string{"lib/...", "daemon/...", "tools/..."},
		allow: []string{"lib/bus", "lib/wire", "lib/identity", "lib/internal/durable"},
		why:   "bus ← wire ← identity ← room ← frame ← client",
	},
	{
		who: []string{"lib/frame"}, what: []string{"lib/...", "daemon/...", "tools/..."},
		allow: []string{"lib/bus", "lib/wire", "lib/identity", "lib/room"},
		why:   "bus ← wire ← identity ← room ← frame ← client",
	},
	{
		who: []string{"lib/blob"}, what: []string{"lib/...", "daemon/...", "tools/..."}, allow: []string{"lib/bus", "lib/wire"},
		why: "a file is sealed and opened without knowing rooms or servers",
	},
	{
		who: []string{"daemon/blobs/..."}, what: []string{"lib/...", "daemon/...", "tools/..."}, allow: []string{"lib/bus", "daemon/blobs/..."},
		why: "a store of blobs keeps bytes and knows neither requests nor rooms",
	},
	{
		who: []string{"daemon/quota"}, what: []string{"lib/...", "daemon/...", "tools/..."}, allow: []string{"lib/bus", "lib/directory"},
		why: "a quota knows rooms and owners, and neither streams nor requests",
	},
	{
		who: []string{"lib/httpsig", "lib/api"}, what: []string{"lib/...", "daemon/...", "tools/..."},
		allow: []string{"lib/bus", "lib/wire"},
		why:   "the control plane's wire format stands on bus and wire, so that both ends can link it",
	},
	{
		who: []string{"lib/store/..."}, what: []string{"lib/...", "daemon/...", "tools/..."},
		allow: []string{"lib/bus", "lib/store/...", "lib/internal/durable"},
		why:   "a store keeps bytes: what they mean is decided in directory",
	},
	{
		who: []string{"lib/audit"}, what: []string{"lib/...", "daemon/...", "tools/..."},
		allow: []string{"lib/bus", "lib/wire", "lib/internal/durable"},
		why:   "the audit log can be read where nothing else is: without a store, a directory or a network",
	},
	{
		who: []string{"lib/directory"}, what: []string{"lib/..."},
		allow: []string{"lib/bus", "lib/wire", "lib/identity", "lib/room", "lib/store"},
		why:   "the domain rules are the same over every store and know no network",
	},
	{
		who: []string{"lib/client"}, what: []string{"lib/store/...", "lib/directory", "lib/cli/..."},
		why: "what a developer imports carries neither a store nor a command line",
	},
	{
		who: []string{"..."}, except: []string{"lib/cli/clitest", "lib/store/storetest", "daemon/blobs/blobtest", "lib/internal/goldentest", "lib/internal/hostile/...", "tools/tooltest"},
		what: []string{"lib/cli/clitest", "lib/store/storetest", "daemon/blobs/blobtest", "lib/internal/goldentest", "lib/internal/hostile/...", "tools/tooltest"},
		why:  "helpers of tests are imported by tests only",
	},
	{
		who: []string{"lib/..."}, what: []string{"daemon/...", "tools/...", "chaos/...", "bench/...", "github.com/nats-io/nats-server/..."},
		why: "what a client or a tool links never carries the server",
	},
	{
		who:    []string{"lib/...", "daemon/...", "tools/..."},
		except: []string{"lib/client", "lib/store/jetstream", "daemon/broker", "daemon/access"},
		what:   []string{"github.com/nats-io/nats.go/...", "github.com/nats-io/nats-server/..."},
		why:    "NATS is known in four packages only, so that everything else can be read and tested without it",
	},
	{
		who: []string{"..."}, except: []string{"daemon/metrics"},
		what: []string{"github.com/prometheus/..."},
		why:  "Prometheus is known in one package; the others say what happened",
	},
	{
		who: []string{"..."}, except: []string{"daemon/unibusd"},
		what: []string{"github.com/coreos/go-systemd/..."},
		why:  "it reads the environment of the process, which is for main alone",
	},
	{
		who: []string{"daemon/metrics"}, what: []string{"lib/...", "daemon/...", "tools/..."}, allow: []string{"lib/bus", "lib/store"},
		why: "metrics count what they are told and know nothing of who tells",
	},
	{
		who: []string{"daemon/..."}, what: []string{"tools/...", "chaos/...", "bench/...", "lib/client"},
		why: "the node serves; it is no client of itself and knows no tool",
	},
	{
		who: []string{"lib/...", "daemon/...", "tools/..."}, except: []string{"chaos/..."},
		what: []string{"github.com/testcontainers/..."}, tests: true,
		why: "only the chaos harness drives containers",
	},
	{
		who: []string{"..."}, except: []string{"lib/store/storetest", "daemon/blobs/blobtest", "lib/cli/clitest", "lib/internal/archtest", "lib/internal/goldentest", "lib/internal/hostile"},
		what: []string{"testing"},
		why:  "no shipped binary links the testing package",
	},
	{
		who: []string{"lib/...", "daemon/..."}, except: []string{"lib/cli/...", "daemon/unibusd"}, what: []string{"github.com/urfave/cli/..."},
		allow: nil,
		why:   "flags belong to commands; below them configuration is a struct",
	},
}

// nodeImporters are the tools that start a node of their own.
var nodeImporters = []string{"tools/demo", "tools/backup", "tools/bench"}

type file struct {
	pkg     string // directory from the root of the module
	name    string
	test    bool
	imports []string
	ast     *ast.File
	fset    *token.FileSet
}

func sourceFiles(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	var files []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || strings.HasPrefix(name, ".") && p != root {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		f := file{pkg: filepath.ToSlash(filepath.Dir(rel)), name: filepath.ToSlash(rel), test: strings.HasSuffix(p, "_test.go"), ast: parsed, fset: fset}
		for _, imp := range parsed.Imports {
			f.imports = append(f.imports, strings.Trim(imp.Path.Value, `"`))
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found %d source files: the walk is broken", len(files))
	}
	return files
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		switch {
		case pattern == "...":
			return true
		case pattern == "external":
			first, _, _ := strings.Cut(pkg, "/")
			return strings.Contains(first, ".")
		case strings.HasSuffix(pattern, "/..."):
			base := strings.TrimSuffix(pattern, "/...")
			return pkg == base || strings.HasPrefix(pkg, base+"/")
		}
		return pkg == pattern
	})
}

func TestImportsKeepToTheirLayers(t *testing.T) {
	for _, f := range sourceFiles(t) {
		for _, imp := range f.imports {
			target := strings.TrimPrefix(imp, module)
			if target == f.pkg {
				continue // an external test package importing what it tests
			}
			for _, r := range rules {
				if f.test && !r.tests || !matches(r.who, f.pkg) || matches(r.except, f.pkg) ||
					!matches(r.what, target) || matches(r.allow, target) {
					continue
				}
				t.Errorf("%s imports %s: %s", f.name, imp, r.why)
			}
		}
	}
}

func TestToolsAreIndependent(t *testing.T) {
	shared := []string{"tools/plugin"}
	for _, f := range sourceFiles(t) {
		if f.test || !strings.HasPrefix(f.pkg, "tools/") || strings.HasPrefix(f.pkg, "tools/cmd/") {
			continue
		}
		for _, imp := range f.imports {
			target, ours := strings.CutPrefix(imp, module)
			switch {
			case !ours || target == f.pkg || matches(shared, target):
			case strings.HasPrefix(target, "tools/"):
				t.Errorf("%s imports %s: a tool never imports another, or neither could be shipped alone", f.name, imp)
			case strings.HasPrefix(target, "daemon/") && !matches(nodeImporters, f.pkg):
				t.Errorf("%s imports %s: only %v start a node of their own", f.name, imp, nodeImporters)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sourceFiles(t) {
		if f.test || f.ast.Name.Name == "main" && f.ast.Doc == nil && strings.HasPrefix(f.pkg, "tools/cmd/") {
			continue
		}
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil && len(f.ast.Doc.Text()) > 40
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment: say its purpose, where to start, what it guarantees and what it does not do", pkg)
		}
	}
}

func TestNoTestSleeps(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if !f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && sel.Sel.Name == "Sleep" {
				t.Errorf("%s: time.Sleep in a test is slow and flaky at once: wait for the condition, inject a clock, or use testing/synctest", f.fset.Position(call.Pos()))
			}
			return true
		})
	}
}

func TestMainsAreShort(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if f.test || f.ast.Name.Name != "main" || !strings.HasPrefix(f.pkg, "tools/cmd/") || path.Base(f.pkg) == "unibus" {
			continue
		}
		if lines := f.fset.File(f.ast.Pos()).LineCount(); lines > 20 {
			t.Errorf("%s has %d lines: a main of a tool only hands its command to lib/cli", f.name, lines)
		}
	}
}
