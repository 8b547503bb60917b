package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// The page for operators says everything there is to say about what the code
// has: a new flag, metric, log message or error code fails these tests until
// the page has its line. Flags and error codes are written by
//
//	go test ./daemon/unibusd -run TestOperations -page
//
// metrics and log messages want a sentence of their own.
const operationsPage = "../../docs/operations.md"

var updatePage = flag.Bool("page", false, "rewrite the generated parts of docs/operations.md")

func readPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// section returns the part of the page below a heading of the second level.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(readPage(t), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", operationsPage, heading)
	}
	part, _, _ := strings.Cut(rest, "\n## ")
	return part
}

var firstCell = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// rows returns what stands in backquotes in the first cells of a section's tables.
func rows(t *testing.T, heading string) []string {
	t.Helper()
	var all []string
	for _, m := range firstCell.FindAllStringSubmatch(section(t, heading), -1) {
		all = append(all, m[1])
	}
	return all
}

// compare reports what the code has and the page has not, and the other way round.
func compare(t *testing.T, what string, code, page []string) {
	t.Helper()
	if len(code) == 0 {
		t.Fatalf("found no %s in the code", what)
	}
	seen := map[string]int{}
	for _, name := range page {
		if seen[name]++; seen[name] == 2 {
			t.Errorf("%s lists the %s `%s` twice", operationsPage, what, name)
		}
	}
	for _, name := range code {
		if seen[name] == 0 {
			t.Errorf("%s says nothing of the %s `%s`: add a line", operationsPage, what, name)
		}
	}
	for _, name := range page {
		if !slices.Contains(code, name) {
			t.Errorf("%s lists the %s `%s`, which is no more", operationsPage, what, name)
		}
	}
}

func TestOperationsPageHasEveryFlag(t *testing.T) {
	var b strings.Builder
	b.WriteString("| flag | variable | default | |\n|---|---|---|---|\n")
	for _, f := range flags() {
		documented, ok := f.(interface {
			GetUsage() string
			GetDefaultText() string
			GetEnvVars() []string
		})
		if !ok {
			t.Fatalf("flag %v cannot be documented", f.Names())
		}
		fallback := strings.Trim(documented.GetDefaultText(), `"`)
		if fallback == "" || fallback == "false" {
			fallback = "–"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Names()[0], documented.GetEnvVars()[0], fallback, cell(documented.GetUsage()))
	}
	checkGenerated(t, "flags", b.String())
}

func TestOperationsPageHasEveryErrorCode(t *testing.T) {
	var b strings.Builder
	n := 0
	for _, g := range cli.AdviceGroups() {
		fmt.Fprintf(&b, "**%s**\n\n| code | exit | means | cause | cure |\n|---|---|---|---|---|\n", g.Title)
		for _, code := range g.Codes() {
			a := cli.AdviceFor(code)
			fmt.Fprintf(&b, "| `%s` | %d | %s | %s | %s |\n", code, a.Exit, cell(code.Title()), cell(a.Why), cell(a.Do))
			n++
		}
		b.WriteByte('\n')
	}
	if n != len(bus.Codes()) {
		t.Errorf("%d codes have advice, %d are there", n, len(bus.Codes()))
	}
	checkGenerated(t, "codes", b.String())
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// checkGenerated compares a generated part of the page, or writes it.
func checkGenerated(t *testing.T, name, want string) {
	t.Helper()
	page := readPage(t)
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end: "+name+" -->\n"
	before, rest, ok := strings.Cut(page, begin)
	have, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no generated part %q", operationsPage, name)
	}
	if have == want {
		return
	}
	if !*updatePage {
		t.Fatalf("%s is behind the code in its part %q; run: go test ./daemon/unibusd -run TestOperations -page", operationsPage, name)
	}
	if err := os.WriteFile(operationsPage, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOperationsPageHasEveryMetric(t *testing.T) {
	descs := make(chan *prometheus.Desc, 1000)
	metrics.New("").Describe(descs)
	close(descs)
	var names []string
	for d := range descs {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		names = append(names, name)
	}
	compare(t, "metric", names, rows(t, "Metrics"))
}

func TestOperationsPageHasEveryLogMessage(t *testing.T) {
	compare(t, "log message", logMessages(t), rows(t, "The log"))
}

// logMessages returns the messages that the daemon logs, debug ones aside, and
// fails where one is not a constant: what an operator searches for, and what
// keeps a flood of one kind from hiding another, has to stay the same.
func logMessages(t *testing.T) []string {
	t.Helper()
	// The methods that log, and which of their arguments is the message.
	methods := map[string]int{"Info": 0, "Warn": 0, "Error": 0, "Log": 2, "leftOut": 2}
	found := map[string]bool{}
	fset := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			at, logs := methods[method.Sel.Name]
			if !logs || len(call.Args) <= at || method.Sel.Name != "leftOut" && !isLogger(method.X) {
				return true
			}
			text, ok := call.Args[at].(*ast.BasicLit)
			if !ok || text.Kind != token.STRING {
				t.Errorf("%s: the message is no constant: put what varies into attributes", fset.Position(call.Pos()))
				return true
			}
			message, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Error(err)
			}
			found[message] = true
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(found))
}

// isLogger reports whether an expression is a logger by its name, or what a
// logger's With returns.
func isLogger(x ast.Expr) bool {
	switch e := x.(type) {
	case *ast.Ident:
		return e.Name == "log" || e.Name == "logger" || e.Name == "slog"
	case *ast.SelectorExpr:
		return strings.EqualFold(e.Sel.Name, "log") || strings.EqualFold(e.Sel.Name, "logger")
	case *ast.CallExpr:
		if method, ok := e.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "With" {
			return isLogger(method.X)
		}
	}
	return false
}
