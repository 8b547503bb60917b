package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/schema"
)

// TestEveryCommandHasASchema asks of every command that runs something for
// lib/cli/schema/WORDS-OF-IT.json.
func TestEveryCommandHasASchema(t *testing.T) {
	walk(commands(), "", func(path string, cmd *cli.Command) {
		name := strings.Join(strings.Fields(path), "-")
		if _, ok := schema.Of(name); cmd.Action != nil && !ok {
			t.Errorf("unibus%s: what it prints with --json has no schema: write lib/cli/schema/%s.json, and a line \"shape %s stdout\" in a test script", path, name, name)
		}
	})
}

var shapeLine = regexp.MustCompile(`(?m)^shape (\S+) `)

// TestEverySchemaIsTried asks for a test script that compares it with what its
// command really prints.
func TestEverySchemaIsTried(t *testing.T) {
	var tried []string
	for _, pattern := range []string{"../../*/testdata/script/*.txtar", "testdata/script/*.txtar", "../../../daemon/*/testdata/script/*.txtar", "../../../daemon/*/testdata/*.txtar"} {
		scripts, err := filepath.Glob(filepath.FromSlash(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range scripts {
			text, err := os.ReadFile(script)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range shapeLine.FindAllStringSubmatch(string(text), -1) {
				tried = append(tried, m[1])
			}
		}
	}
	for _, name := range schema.Names() {
		if !slices.Contains(tried, name) {
			t.Errorf("no test script says: shape %s stdout", name)
		}
	}
}
