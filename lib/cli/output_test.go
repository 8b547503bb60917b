package cli

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestJSONBeginsWithItsVersion(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{struct{}{}, `{"v":1}`},
		{struct {
			A string `json:"a"`
		}{"<b>"}, `{"v":1,"a":"<b>"}`},
		{map[string]int{"b": 2, "a": 1}, `{"v":1,"a":1,"b":2}`},
	} {
		have, err := encodeJSON(tt.value)
		if err != nil || string(have) != tt.want+"\n" {
			t.Errorf("%s, %v; want %s", have, err, tt.want)
		}
	}
	for _, no := range []any{nil, 1, "x", []int{1}, func() {}, (*struct{})(nil)} {
		if have, err := encodeJSON(no); err == nil {
			t.Errorf("%T passes: %s", no, have)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"plain, ünïcode 漢字 🙂":  "plain, ünïcode 漢字 🙂",
		"a\nb\tc\r":            `a\nb\tc\r`,
		"\x1b]0;title\a":       `\x1b]0;title\a`,
		"\u202egnp.exe":        `\u202egnp.exe`,
		"\u009b31m":            `\u009b31m`,
		"bad\xffbyte":          `bad\ufffdbyte`,
		"quote \" backslash\\": `quote " backslash\`,
	} {
		if have := Printable(in); have != want {
			t.Errorf("%q: have %s, want %s", in, have, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1bb")
	f.Fuzz(func(t *testing.T, s string) {
		p := Printable(s)
		if strings.ContainsFunc(p, notPrintable) || !utf8.ValidString(p) {
			t.Errorf("%q is left", p)
		}
		if Printable(p) != p {
			t.Errorf("%q changes again", p)
		}
	})
}

func TestSuggestionsAreCloseOrNone(t *testing.T) {
	candidates := []string{"keygen", "context", "pub", "sub", "room", "usermgr"}
	for word, want := range map[string]string{
		"kegyen": "keygen", "contxt": "context", "cont": "context", "pbu": "pub", "rooms": "room",
		"xyz": "", "q": "", "": "", "deploy": "",
	} {
		if have := closest(word, candidates); have != want {
			t.Errorf("%q: have %q, want %q", word, have, want)
		}
	}
}

func TestManualPagesAreRoff(t *testing.T) {
	w := newWorld(t, "room", "ls")
	code := toy(func(c *Call) error {
		page, err := c.ManualPage("pub")
		c.Printf("%s", page)
		return err
	}).Run(t.Context(), w.Env)
	page := w.out.String()
	for _, want := range []string{
		".TH \"TOY\\-PUB\" 1 ", ".SH NAME\ntoy\\-pub \\- send\n", ".TP\n.B \\-n, \\-\\-count N\nrepeat N times",
		".SH DESCRIPTION\nSends what it reads.\n", ".SH EXAMPLES\n.nf\ntoy pub lobby \\-\n.fi\n", ".SH EXIT STATUS\n",
	} {
		if code != 0 || !strings.Contains(page, want) {
			t.Errorf("exit %d; no %q in\n%s", code, want, page)
		}
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, ".") && !strings.HasPrefix(line, ".SH ") && !strings.HasPrefix(line, ".TH ") &&
			!strings.HasPrefix(line, ".TP\n") && !strings.HasPrefix(line, ".B ") && !strings.HasPrefix(line, ".PP\n") &&
			line != ".nf\n" && line != ".fi\n" {
			t.Errorf("request %q", line)
		}
	}
}

func TestTimesAreThoseOfTheClockHere(t *testing.T) {
	w := newWorld(t, "pub", "lobby")
	at := time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC)
	show := func() string {
		w.out.Reset()
		toy(func(c *Call) error {
			c.Printf("%s", c.Time(at))
			return nil
		}).Run(t.Context(), w.Env)
		return w.out.String()
	}
	if have := show(); have != "2026-03-01 23:30:00 UTC" {
		t.Errorf("without a zone it is %q", have)
	}
	w.Zone = time.FixedZone("CET", 3600)
	if have := show(); have != "2026-03-02 00:30:00 CET" {
		t.Errorf("in its zone it is %q", have)
	}
}
