package control

import (
	"errors"
	"net/url"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

func FuzzParseQuery(f *testing.F) {
	for _, q := range []string{"", "from=1", "from=", "from=1&from=2", "from=1&x=2", "x", "from=%zz", "from=1;x=2", "%66rom=1"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		value, err := parseQuery(&url.URL{RawQuery: raw}, "from")
		if err != nil {
			if !errors.Is(err, bus.ErrMalformed) || value != "" {
				t.Fatalf("%q: %q, %v", raw, value, err)
			}
			return
		}
		again, err := parseQuery(&url.URL{RawQuery: url.Values{"from": {value}}.Encode()}, "from")
		if value != "" && (err != nil || again != value) {
			t.Fatalf("%q: %q becomes %q, %v", raw, value, again, err)
		}
		if none, err := parseQuery(&url.URL{RawQuery: raw}, ""); value != "" && err == nil {
			t.Fatalf("%q: %q for a route without parameters", raw, none)
		}
	})
}
