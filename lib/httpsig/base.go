package httpsig

import (
	"net/http"
	"strings"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

// signatureBase builds what is signed (RFC 9421 section 2.5): a line for each
// component that list covers and one for list itself. It knows any header field
// and the derived components of the profile, all without parameters. Errors
// have [bus.CodeMalformed], or [bus.CodeUnauthenticated] for a component that
// the request does not have.
func signatureBase(req *http.Request, list httpsfv.InnerList) ([]byte, error) {
	var base strings.Builder
	seen := make(map[string]bool, len(covered))
	for _, item := range list.Items {
		name, ok := item.Value.(string)
		if !ok || len(item.Params.Names()) > 0 || seen[name] {
			return nil, bus.Errorf(bus.CodeMalformed, "build signature base: want plain component names, each once")
		}
		seen[name] = true
		value, err := component(req, name)
		if err != nil {
			return nil, err
		}
		// A line break inside a value could pass for a further component.
		if !printable(value) {
			return nil, bus.Errorf(bus.CodeMalformed, "build signature base: value of %.40q is not printable ASCII", name)
		}
		id, err := httpsfv.Marshal(item)
		if err != nil {
			return nil, bus.Errorf(bus.CodeMalformed, "build signature base: %w", err)
		}
		base.WriteString(id + ": " + value + "\n")
	}
	params, err := httpsfv.Marshal(list)
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "build signature base: %w", err)
	}
	base.WriteString(`"@signature-params": ` + params)
	return []byte(base.String()), nil
}

// component returns the value of a component (RFC 9421 sections 2.1 and 2.2).
func component(req *http.Request, name string) (string, error) {
	switch name {
	case "@method":
		return method(req)
	case "@authority":
		return authority(req)
	case "@path":
		path, _, err := target(req)
		return path, err
	case "@query":
		_, query, err := target(req)
		return "?" + query, err
	}
	if name == "" || name[0] == '@' || strings.ToLower(name) != name {
		return "", bus.Errorf(bus.CodeMalformed, "build signature base: unknown component %.40q", name)
	}
	lines := req.Header.Values(name)
	if len(lines) == 0 {
		return "", bus.Errorf(bus.CodeUnauthenticated, "build signature base: the request has no %.40q", name)
	}
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = strings.Trim(line, " \t")
	}
	return strings.Join(trimmed, ", "), nil
}

func method(req *http.Request) (string, error) {
	const longest = 16
	m := req.Method
	if m == "" {
		m = http.MethodGet // as net/http reads it
	}
	if len(m) > longest || strings.IndexFunc(m, func(r rune) bool { return r < 'A' || r > 'Z' }) >= 0 {
		return "", bus.Errorf(bus.CodeMalformed, "read method: %.20q is not 1 to %d upper-case letters", m, longest)
	}
	return m, nil
}

// authority returns host and port in lower case, without the port where it is
// the default one of the scheme, as sender and receiver both see them: the
// client strips zones of IPv6 addresses and empty ports before it sends.
func authority(req *http.Request) (string, error) {
	const longest = 255 + len(":65535")
	whole := req.Host
	if whole == "" && req.URL != nil {
		whole = req.URL.Host
	}
	host, port := splitPort(whole)
	if host == "" || len(whole) > longest || strings.Trim(host, hostChars) != "" || strings.Trim(port, "0123456789") != "" {
		return "", bus.Errorf(bus.CodeMalformed, "read authority: %.80q is no host and port in ASCII", whole)
	}
	host = strings.ToLower(host)
	if zone := strings.IndexByte(host, '%'); zone >= 0 && host[0] == '[' {
		host = host[:zone] + "]"
	}
	defaultPort := "80"
	if req.TLS != nil || (req.URL != nil && req.URL.Scheme == "https") {
		defaultPort = "443"
	}
	if port == "" || port == defaultPort {
		return host, nil
	}
	return host + ":" + port, nil
}

const hostChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%:[]"

// splitPort cuts an authority behind its host, which is all up to the first
// colon, or up to the bracket that ends an IPv6 address. host is empty for
// anything else.
func splitPort(s string) (host, port string) {
	end := 0
	if strings.HasPrefix(s, "[") {
		end = strings.IndexByte(s, ']') + 1
		if end == 0 || (end < len(s) && s[end] != ':') {
			return "", ""
		}
	}
	before, port, _ := strings.Cut(s[end:], ":")
	return s[:end] + before, port
}

// target splits the request target into path and query, neither of them
// decoded. A server has it byte for byte as it came, whatever its handlers have
// done to the URL since; a client has the URL it is about to send.
func target(req *http.Request) (path, query string, err error) {
	t := req.RequestURI
	if t == "" && req.URL != nil {
		t = req.URL.RequestURI()
	}
	switch {
	case len(t) > bus.MaxURL:
		return "", "", bus.Errorf(bus.CodeMalformed, "read request target: %d bytes are over %d", len(t), bus.MaxURL)
	case !strings.HasPrefix(t, "/"):
		return "", "", bus.Errorf(bus.CodeMalformed, "read request target: %.80q does not begin with a slash", t)
	case !printable(t) || strings.Contains(t, " "):
		return "", "", bus.Errorf(bus.CodeMalformed, "read request target: %.80q has characters that need escaping", t)
	}
	path, query, _ = strings.Cut(t, "?")
	return path, query, nil
}

// printable reports whether s is ASCII without control characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
