package httpsig

import (
	"net/http"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

// oneLine returns the value of a header field that must come exactly once. The
// profile refuses several lines, which HTTP would let anybody on the way merge.
func oneLine(h http.Header, name string) (string, error) {
	switch lines := h.Values(name); len(lines) {
	case 0:
		return "", bus.Errorf(bus.CodeUnauthenticated, "read %s: the field is missing; the request is not signed", name)
	case 1:
		return lines[0], nil
	default:
		return "", bus.Errorf(bus.CodeMalformed, "read %s: want one line, have %d", name, len(lines))
	}
}

// parseSingle reads a dictionary of exactly one member in its canonical form.
// Structured fields leave the writer choices (spaces, keys given twice of which
// the last one counts, stray base64 bits); what was signed and what was read
// are the same only where none was taken.
func parseSingle(field, value string, limit int) (string, httpsfv.Member, error) {
	if len(value) > limit {
		return "", nil, bus.Errorf(bus.CodeMalformed, "parse %s: %d bytes are over %d", field, len(value), limit)
	}
	dict, err := httpsfv.UnmarshalDictionary([]string{value})
	if err != nil {
		return "", nil, bus.Errorf(bus.CodeMalformed, "parse %s: %w", field, err)
	}
	if canonical, err := httpsfv.Marshal(dict); err != nil {
		return "", nil, bus.Errorf(bus.CodeMalformed, "parse %s: %w", field, err)
	} else if canonical != value {
		return "", nil, bus.Errorf(bus.CodeMalformed, "parse %s: not in canonical form", field)
	}
	names := dict.Names()
	if len(names) != 1 {
		return "", nil, bus.Errorf(bus.CodeUnauthenticated, "check %s: want one member, have %d", field, len(names))
	}
	member, _ := dict.Get(names[0])
	return names[0], member, nil
}

// parseBytes reads a dictionary whose one member, without parameters, is a byte
// sequence, of any length within limit.
func parseBytes(field, value string, limit int) (string, []byte, error) {
	name, member, err := parseSingle(field, value, limit)
	if err != nil {
		return "", nil, err
	}
	item, ok := member.(httpsfv.Item)
	if !ok {
		return "", nil, bus.Errorf(bus.CodeMalformed, "parse %s: %.40q is no byte sequence", field, name)
	}
	raw, ok := item.Value.([]byte)
	if !ok || len(item.Params.Names()) > 0 {
		return "", nil, bus.Errorf(bus.CodeMalformed, "parse %s: %.40q is no byte sequence", field, name)
	}
	return name, raw, nil
}

// checkSize checks the length of a byte sequence.
func checkSize(field string, raw []byte, size int) error {
	if len(raw) != size {
		return bus.Errorf(bus.CodeMalformed, "parse %s: want %d bytes, have %d", field, size, len(raw))
	}
	return nil
}

// single writes a dictionary of one member.
func single(name string, member httpsfv.Member) (string, error) {
	dict := httpsfv.NewDictionary()
	dict.Add(name, member)
	return httpsfv.Marshal(dict)
}
