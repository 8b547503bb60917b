package hostile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/lies.md anew")

const pageHead = `# The table of lies

Whoever runs a server of unibus learns nothing and changes nothing unnoticed, and no member passes off another. Here
that is shown lie by lie: %d of them, told by a server, a member or a thief to real clients of a real node. For each,
` + "`lib/internal/hostile`" + ` asserts the error that it raises, that no plaintext is handed to a program that should not have
it, that the client sends nothing after it, and that nothing of what the server has ever seen, in any usual encoding, is
a message, the name of a room or a key.

    go test ./lib/internal/hostile -run TestLies -v     the table, as measured now
    task lies:mutants                                   each check removed, and its row required to fail

This page is written by the tests: ` + "`go test ./lib/internal/hostile -run TestPage -update`" + `.

## Lies

`

const pageRemovals = `
## What happens without the check

Each row was run again over source in which its check is gone, and failed. Where more than one check catches a lie, all
of them were removed; where something that cannot be removed by an edit still stands, such as an AEAD or a server that
is honest, the row failed because the error was another one, or because something had been sent by then.

`

// docs/lies.md is the table.
func TestPage(t *testing.T) {
	file := filepath.Join("..", "..", "..", "docs", "lies.md")
	want := page(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), want); diff != "" {
		t.Errorf("docs/lies.md is not of these rows; run with -update (-have +want):\n%s", diff)
	}
}

func page(t *testing.T) string {
	t.Helper()
	rows, said := table(), readOutcomes(t)
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, len(rows))
	writeRow(&b, "lie", "who lies", "what is told", "error", "caught by")
	writeRow(&b, "---", "---", "---", "---", "---")
	for _, row := range rows {
		raised := "`" + string(row.want) + "`"
		if row.want == "" {
			raised = "none: it comes to nothing"
		}
		writeRow(&b, row.name, row.who, row.told, raised, row.check)
	}
	b.WriteString(pageRemovals)
	writeRow(&b, "lie", "removed", "the row then said")
	writeRow(&b, "---", "---", "---")
	for _, row := range rows {
		var edits []string
		for _, c := range row.removed {
			edits = append(edits, fmt.Sprintf("%s: %s → %s", c.file, code(c.old), code(c.new)))
		}
		then := said[row.name]
		if then == "" {
			t.Errorf("%s: it was never run without its check; run with -mutants", row.name)
		}
		writeRow(&b, row.name, strings.Join(edits, "<br>"), code(shorten(anonymous(then))))
	}
	return b.String()
}

func writeRow(b *strings.Builder, cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func code(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return "nothing"
	}
	return "`" + text + "`"
}

func shorten(text string) string {
	if r := []rune(text); len(r) > 140 {
		return string(r[:140]) + " …"
	}
	return text
}
