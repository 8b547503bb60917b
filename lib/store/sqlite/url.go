package sqlite

import (
	"net/url"
	"path"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
)

// Scheme is how the URL of a store of this package begins.
const Scheme = "sqlite"

// ParseURL returns the path in a URL such as "sqlite:///var/lib/unibus/unibus.db":
// no host, an absolute path to a file, nothing after it. Characters that a URL
// reserves are percent-encoded. Its errors have [bus.CodeMalformed].
func ParseURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", bus.Errorf(bus.CodeMalformed, "parse store URL %.80q: want sqlite:///path", s)
	case u.Scheme != Scheme:
		return "", bus.Errorf(bus.CodeMalformed, "parse store URL %.80q: scheme is not %s", s, Scheme)
	case u.Host != "" || u.User != nil || u.Opaque != "" || !strings.HasPrefix(u.Path, "/"):
		return "", bus.Errorf(bus.CodeMalformed, "parse store URL %.80q: want three slashes and an absolute path, sqlite:///path", s)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return "", bus.Errorf(bus.CodeMalformed, "parse store URL %.80q: nothing may follow the path; write '?' as %%3F and '#' as %%23", s)
	case strings.HasSuffix(u.Path, "/") || strings.ContainsRune(u.Path, 0) || path.Clean(u.Path) == "/":
		return "", bus.Errorf(bus.CodeMalformed, "parse store URL %.80q: the path names no file", s)
	}
	return path.Clean(u.Path), nil
}
