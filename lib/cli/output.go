package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	display "github.com/jedib0t/go-pretty/v6/text"

	"github.com/enmanuel/unibus/lib/bus"
)

// JSONVersion is the number in front of every JSON object the tools print. It
// goes up when a field changes its meaning or goes away; new fields may come
// at any time.
const JSONVersion = 1

// JSON prints v, which must encode to an object, as one line with "v":1 as its
// first field: results that are a list are an object with the list inside,
// results that come one after another are one object each.
func (c *Call) JSON(v any) error {
	line, err := encodeJSON(v)
	if err != nil {
		return err
	}
	_, err = c.Stdout.Write(line)
	return err
}

func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "write JSON: %w", err)
	}
	object := buf.Bytes()
	if len(object) < 3 || object[0] != '{' {
		return nil, bus.Errorf(bus.CodeInternal, "write JSON: %T is no object", v)
	}
	rest := object[1:]
	if rest[0] != '}' {
		rest = append([]byte{','}, rest...)
	}
	return append(fmt.Appendf(nil, `{"v":%d`, JSONVersion), rest...), nil
}

// Table prints rows below a header in aligned columns, nothing when there are
// no rows. On a terminal that is too narrow for that each cell is on a line of
// its own, so that nothing is broken or cut. Cells are made [Printable].
func (c *Call) Table(header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = display.FormatUpper
	t.SetStyle(style)
	t.AppendHeader(tableRow(header))
	for _, r := range rows {
		t.AppendRow(tableRow(r))
	}
	rendered := t.Render()
	if len(header) > 2 && c.tooWide(rendered) {
		fmt.Fprint(c.Stdout, records(header, rows))
		return
	}
	for line := range strings.Lines(rendered) {
		fmt.Fprintln(c.Stdout, strings.TrimRight(line, " \n"))
	}
}

// records writes rows one below the other, each cell on a line of its own
// behind the name of its column, which are as wide as in the table.
func records(header []string, rows [][]string) string {
	widest := 0
	for _, h := range header {
		widest = max(widest, len(h))
	}
	var b strings.Builder
	for i, row := range rows {
		if i > 0 {
			b.WriteString("\n")
		}
		for n, cell := range row {
			if cell != "" {
				fmt.Fprintf(&b, "%-*s  %s\n", widest, strings.ToUpper(header[n]), Printable(cell))
			}
		}
	}
	return b.String()
}

// tooWide reports whether standard output is a terminal on which a line of the
// text would be broken.
func (c *Call) tooWide(text string) bool {
	width := TerminalWidth(c.Env.Stdout)
	if width == 0 {
		return false
	}
	for line := range strings.Lines(text) {
		if display.StringWidthWithoutEscSequences(strings.TrimRight(line, " \n")) > width {
			return true
		}
	}
	return false
}

// Time writes a time for people: as on the clock here, with its zone. In JSON
// times are RFC 3339 in UTC, as encoding/json writes t.UTC().
func (c *Call) Time(t time.Time) string {
	zone := c.Env.Zone
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone).Format("2006-01-02 15:04:05 MST")
}

func tableRow(cells []string) table.Row {
	row := make(table.Row, len(cells))
	for i, cell := range cells {
		row[i] = Printable(cell)
	}
	return row
}

// Colour reports whether what goes to standard output may have colours: it is a
// terminal, NO_COLOR is empty (no-color.org) and TERM is not "dumb".
func (c *Call) Colour() bool {
	return IsTerminal(c.Env.Stdout) && c.Env.Getenv("NO_COLOR") == "" && c.Env.Getenv("TERM") != "dumb"
}
