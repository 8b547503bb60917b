package pub

import (
	"slices"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/frame"
)

// headerValues collects a flag that may be repeated. The list flags of
// urfave/cli would split values at commas. The flag must have no alias, to
// which urfave/cli would copy what String returns.
type headerValues []string

// Set takes one more value.
func (h *headerValues) Set(value string) error {
	*h = append(*h, value)
	return nil
}

// String returns nothing, which is the default.
func (h *headerValues) String() string { return "" }

// headers are what messages carry.
type headers struct {
	line []client.Header // a whole line
	open []client.Header // anything else
}

// room is how many bytes of body fit beside them.
func (h headers) room() int {
	return bus.MaxRecordSize - (frame.RecordSize(frame.Record{Headers: h.open}) - frame.RecordOverhead)
}

// parseHeaders reads KEY=VALUE words.
func parseHeaders(words []string) (headers, error) {
	var h headers
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		switch {
		case !ok || key == "":
			return h, cli.Usagef("--%s %.80q: want KEY=VALUE", flagHeader, word)
		case strings.HasPrefix(key, bus.HeaderPrefix):
			return h, cli.Usagef("--%s %.80q: keys that begin with %q are for the tools themselves", flagHeader, word, bus.HeaderPrefix)
		case slices.ContainsFunc(h.line, func(have client.Header) bool { return have.Key == key }):
			return h, cli.Usagef("--%s: %.80q is given twice", flagHeader, key)
		}
		h.line = append(h.line, client.Header{Key: key, Value: value})
	}
	slices.SortFunc(h.line, byKey)
	h.open = append(slices.Clone(h.line), client.Header{Key: bus.HeaderEOL, Value: bus.EOLNone})
	slices.SortFunc(h.open, byKey)
	if err := frame.CheckRecord(frame.Record{Headers: h.open}); err != nil {
		return h, cli.BadArg("--"+flagHeader, err)
	}
	return h, nil
}

func byKey(a, b client.Header) int { return strings.Compare(a.Key, b.Key) }
