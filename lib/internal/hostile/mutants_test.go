package hostile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/internal/durable"
)

var mutants = flag.String("mutants", "", "remove the checks of the rows that match this expression, one after the other, and have each row fail")

// sourcePath returns where a file of the module is.
func sourcePath(file string) string { return filepath.Join("..", "..", "..", filepath.FromSlash(file)) }

// outcomes are, by row, what it said once its check was gone.
const outcomes = "testdata/removed.json"

// Every row fails when the check that it is about is gone. It takes a build a
// row, so it runs only where it is asked for: task lies:mutants.
func TestEveryCheckIsNeeded(t *testing.T) {
	if *mutants == "" {
		t.Skip("needs -mutants")
	}
	wanted, err := regexp.Compile(*mutants)
	if err != nil {
		t.Fatal(err)
	}
	said := readOutcomes(t)
	for _, row := range table() {
		if !wanted.MatchString(row.name) {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			delete(said, row.name)
			if failure := runWithout(t, row); failure != "" {
				t.Log(failure)
				said[row.name] = failure
			}
			writeOutcomes(t, said)
		})
	}
}

func readOutcomes(t *testing.T) map[string]string {
	t.Helper()
	said := map[string]string{}
	raw, err := os.ReadFile(outcomes)
	if err == nil {
		err = json.Unmarshal(raw, &said)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return said
}

func writeOutcomes(t *testing.T, said map[string]string) {
	t.Helper()
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	err := errors.Join(enc.Encode(said), os.MkdirAll(filepath.Dir(outcomes), 0o755))
	if err == nil {
		err = durable.WriteFile(outcomes, raw.Bytes(), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// runWithout builds this package's tests without a row's checks, runs the row
// and returns what it said. A row that passes, or does not compile, is the
// failure of the test.
func runWithout(t *testing.T, row lie) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	sources := map[string]string{}
	for _, c := range row.removed {
		path, err := filepath.Abs(sourcePath(c.file))
		if err != nil {
			t.Fatal(err)
		}
		source, known := sources[path]
		if !known {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			source = string(raw)
		}
		if n := strings.Count(source, c.old); n != 1 {
			t.Fatalf("%s has %d times %q", c.file, n, c.old)
		}
		sources[path] = strings.Replace(source, c.old, c.new, 1)
		replace[path] = filepath.Join(dir, strings.ReplaceAll(c.file, "/", "_"))
	}
	for path, source := range sources {
		if err := os.WriteFile(replace[path], []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "lies.test")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-s -w", "-overlay", file, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, out)
	}
	name := strings.ReplaceAll(row.name, " ", "_")
	out, err := exec.CommandContext(t.Context(), binary, "-test.run", "^TestLies$/^"+regexp.QuoteMeta(name)+"$", "-test.timeout", "2m").CombinedOutput()
	switch failed, panicked := strings.Contains(string(out), "--- FAIL: TestLies/"+name), strings.Contains(string(out), "panic:"); {
	case err == nil:
		t.Errorf("it passes without the check\n%s", out)
	case !failed && !panicked:
		t.Errorf("it did not fail, but: %v\n%s", err, out)
	default:
		return firstFailure(string(out))
	}
	return ""
}

var (
	failureLine = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`)
	countLine   = regexp.MustCompile(`^\d+ lies$`) // in front of the table
	namesInIt   = regexp.MustCompile(`[0-9a-zA-Z_-]{22,}|(secret|lie|bob|alice|carol|mallory|moved)-[0-9a-f]{24}|[0-9a-f]{16,}|127\.0\.0\.1:\d+`)
)

// firstFailure returns what the row said, without what is another each time.
func firstFailure(out string) string {
	for _, m := range failureLine.FindAllStringSubmatch(out, -1) {
		if !countLine.MatchString(m[1]) {
			return anonymous(m[1])
		}
	}
	return "panic"
}

// anonymous leaves out what is another each time.
func anonymous(text string) string { return namesInIt.ReplaceAllString(text, "…") }
