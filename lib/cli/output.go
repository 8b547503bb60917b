package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

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
// no rows. Cells are made [Printable].
func (c *Call) Table(header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	t.AppendHeader(tableRow(header))
	for _, r := range rows {
		t.AppendRow(tableRow(r))
	}
	for line := range strings.Lines(t.Render()) {
		fmt.Fprintln(c.Stdout, strings.TrimRight(line, " \n"))
	}
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
