package sqlite

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

var urlCases = []struct{ url, path string }{
	{"sqlite:///var/lib/unibus/unibus.db", "/var/lib/unibus/unibus.db"},
	{"sqlite:///u.db", "/u.db"},
	{"sqlite:///a//b/../c.db", "/a/c.db"},
	{"sqlite:///with%20space/%3F%23%25.db", "/with space/?#%.db"},
	{"SQLITE:///u.db", "/u.db"},
	{"sqlite:/u.db", "/u.db"},
	{"", ""},
	{"/u.db", ""},
	{"sqlite:", ""},
	{"sqlite://", ""},
	{"sqlite:///", ""},
	{"sqlite:///..", ""},
	{"sqlite:///dir/", ""},
	{"sqlite:u.db", ""},
	{"sqlite:./u.db", ""},
	{"sqlite://u.db", ""},
	{"sqlite://host/u.db", ""},
	{"sqlite://user@/u.db", ""},
	{"sqlite:///u.db?mode=ro", ""},
	{"sqlite:///u.db?", ""},
	{"sqlite:///u.db#x", ""},
	{"sqlite:///u.db#", ""},
	{"sqlite:///u%00.db", ""},
	{"sqlite:///u%zz.db", ""},
	{"jetstream:", ""},
	{"file:///u.db", ""},
}

func TestParseURL(t *testing.T) {
	for _, tt := range urlCases {
		have, err := ParseURL(tt.url)
		if have != tt.path || (err == nil) != (tt.path != "") {
			t.Errorf("%q: %q, %v, want %q", tt.url, have, err, tt.path)
		}
		if err != nil && !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%q: %v has code %s", tt.url, err, bus.CodeOf(err))
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, tt := range urlCases {
		f.Add(tt.url)
	}
	f.Fuzz(func(t *testing.T, s string) {
		have, err := ParseURL(s)
		if err != nil {
			return
		}
		if !strings.HasPrefix(have, "/") || have == "/" || path.Clean(have) != have || strings.ContainsRune(have, 0) {
			t.Fatalf("%q names %q", s, have)
		}
		again, err := ParseURL((&url.URL{Scheme: Scheme, Path: have}).String())
		if err != nil || again != have {
			t.Fatalf("%q: written again, %q reads as %q, %v", s, have, again, err)
		}
	})
}
