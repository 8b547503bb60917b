package initcmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var values = []string{
	"/srv/bus/data",
	"127.0.0.1:4222",
	"admin:00ff",
	"",
	"with space",
	`it's "quoted"`,
	`a\b\\c\`,
	"$HOME `id` $(id) !x",
	"~/bus",
	"#comment; rest & more | * ? [a] {b}",
	"größer 漢字",
	"-dash=equals",
}

func TestAShellReadsTheSettings(t *testing.T) {
	var settings []setting
	for i, v := range values {
		settings = append(settings, setting{"V" + string(rune('A'+i)), v})
	}
	path := filepath.Join(t.TempDir(), "node.env")
	if err := createFile(path, settingsFile(settings)); err != nil {
		t.Fatal(err)
	}
	for i, want := range values {
		cmd := exec.Command("sh", "-c", `set -a; . "$0"; exec printenv "V`+string(rune('A'+i))+`"`, path)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v", want, err)
		}
		if diff := cmp.Diff(want+"\n", string(out)); diff != "" {
			t.Error(diff)
		}
	}
}

// unquoteSystemd reads a value as systemd.exec(5) describes EnvironmentFile:
// within double quotes a backslash takes the meaning from ", \, ` and $, and
// stays in front of everything else.
func unquoteSystemd(t *testing.T, word string) string {
	t.Helper()
	if !strings.HasPrefix(word, `"`) {
		return word
	}
	var b strings.Builder
	for i := 1; i < len(word); i++ {
		switch c := word[i]; {
		case c == '"':
			if i != len(word)-1 {
				t.Fatalf("%s: the quotes close at byte %d", word, i)
			}
			return b.String()
		case c == '\\' && strings.IndexByte("\"\\`$", word[i+1]) >= 0:
			i++
			b.WriteByte(word[i])
		default:
			b.WriteByte(c)
		}
	}
	t.Fatalf("%s: the quotes do not close", word)
	return ""
}

func TestSystemdReadsTheSettings(t *testing.T) {
	for _, want := range values {
		if have := unquoteSystemd(t, quote(want)); have != want {
			t.Errorf("%s: is read as %q, want %q", quote(want), have, want)
		}
	}
}

func TestValuesThatAFileCannotHold(t *testing.T) {
	for _, bad := range []string{"a\nb", "tab\t", "nul\x00", "\xff", "del\x7f"} {
		if checkValue(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
	for _, good := range values {
		if err := checkValue(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}
