package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	ucli "github.com/urfave/cli/v2"
)

const helpWidth = 80

// section is a part of a help text or manual page.
type section struct {
	title string
	text  string      // paragraphs, or
	items [][2]string // names and what they are
	plain bool        // text is to stay as it is
}

// manual is everything there is to say about a command.
type manual struct {
	name     string // as typed
	usage    string // one line
	sections []section
}

// exitTitle is the section with the exit statuses.
const exitTitle = "Exit status"

// manualOf collects the help of the last command of path. full leaves away the
// exit statuses, which a manual page has with their meanings.
func (f *frame) manualOf(path []*Command, external []*Command, full bool) manual {
	globals := f.globals
	inv := invocation{path: path}
	cmd, name := inv.leaf(), inv.command()
	m := manual{name: name, usage: cmd.Usage}
	m.sections = append(m.sections, section{title: "Usage", text: synopsis(cmd, name), plain: true})
	if cmd.Description != "" {
		m.sections = append(m.sections, section{text: cmd.Description})
	}
	for _, category := range categories(cmd.Subcommands) {
		title := "Commands"
		if category != "" {
			title = category
		}
		m.sections = append(m.sections, section{title: title, items: commandItems(cmd.Subcommands, category)})
	}
	if len(external) > 0 && len(path) == 1 {
		m.sections = append(m.sections, section{title: "Plug-ins", items: commandItems(external, "")})
	}
	if cmd.UsageText != "" {
		m.sections = append(m.sections, section{title: "Examples", text: cmd.UsageText, plain: true})
	}
	own := slices.DeleteFunc(visibleFlags(cmd), func(f Flag) bool { return slices.Contains(globals, f) })
	if len(own) > 0 {
		m.sections = append(m.sections, section{title: "Flags", items: f.flagItems(own)})
	}
	common := section{title: "Flags of every command", items: f.flagItems(globals)}
	if !full && len(path) > 1 {
		common.items, common.text = nil, flagNames(globals)+"; see "+path[0].Name+" --help"
	}
	m.sections = append(m.sections, common)
	if !full {
		m.sections = append(m.sections, section{title: exitTitle, text: exitText, plain: true})
	}
	return m
}

func synopsis(cmd *Command, name string) string {
	switch {
	case len(cmd.Subcommands) > 0 && cmd.Action == nil:
		return name + " COMMAND [FLAGS]"
	case len(cmd.Subcommands) > 0:
		return strings.TrimSpace(name+" [FLAGS] "+cmd.ArgsUsage) + "\n" + name + " COMMAND [FLAGS]"
	}
	return strings.TrimSpace(name + " [FLAGS] " + cmd.ArgsUsage)
}

// categories returns the categories of visible commands: none first, then in
// the order they are declared.
func categories(cmds []*Command) []string {
	var names []string
	for _, c := range cmds {
		if !c.Hidden && !slices.Contains(names, c.Category) {
			names = append(names, c.Category)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return min(len(a), 1) - min(len(b), 1) })
	return names
}

func commandItems(cmds []*Command, category string) [][2]string {
	var items [][2]string
	for _, c := range cmds {
		if !c.Hidden && c.Category == category {
			items = append(items, [2]string{strings.Join(c.Names(), ", "), c.Usage})
		}
	}
	return items
}

func flagNames(flags []Flag) string {
	names := make([]string, len(flags))
	for i, f := range flags {
		names[i] = "--" + f.Names()[0]
	}
	return strings.Join(names, " ")
}

func (f *frame) flagItems(flags []Flag) [][2]string {
	var items [][2]string
	for _, flag := range flags {
		d, ok := flag.(ucli.DocGenerationFlag)
		if !ok {
			continue
		}
		placeholder, usage := unquote(d.GetUsage())
		var names []string
		for _, n := range flag.Names() {
			if len(n) == 1 {
				names = slices.Insert(names, 0, "-"+n)
			} else {
				names = append(names, "--"+n)
			}
		}
		name := strings.Join(names, ", ")
		if d.TakesValue() {
			if placeholder == "" {
				placeholder = "VALUE"
			}
			name += " " + placeholder
			if v := d.GetDefaultText(); v != "" && v != `""` {
				usage += " (default " + v + ")"
			}
		}
		if vars := f.envVars(flag); len(vars) > 0 {
			usage += " [$" + strings.Join(vars, ", $") + "]"
		}
		items = append(items, [2]string{name, usage})
	}
	return items
}

// unquote returns the word in backquotes, which names a flag's value, and the
// usage without the quotes.
func unquote(usage string) (placeholder, plain string) {
	before, rest, ok := strings.Cut(usage, "`")
	word, after, closed := strings.Cut(rest, "`")
	if !ok || !closed {
		return "", usage
	}
	return word, before + word + after
}

// help writes the help text of the command that was named.
func (f *frame) help(w io.Writer) error {
	var external []*Command
	if f.external != nil && len(f.inv.path) == 1 {
		external = f.externalCommands()
	}
	_, err := io.WriteString(w, f.manualOf(f.inv.path, external, false).text())
	return err
}

// externalCommands lists the commands that are no part of the program and can
// be called: a built-in command of the same name goes before.
func (f *frame) externalCommands() []*Command {
	return slices.DeleteFunc(f.external.List(f.env), func(c *Command) bool { return f.root.Command(c.Name) != nil })
}

// text writes the manual for a terminal.
func (m manual) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s - %s\n", m.name, m.usage)
	for _, s := range m.sections {
		b.WriteString("\n")
		indent := ""
		if s.title != "" {
			fmt.Fprintf(&b, "%s:\n", s.title)
			indent = "  "
		}
		switch {
		case s.items != nil:
			writeItems(&b, s.items)
		case s.plain:
			for line := range strings.Lines(strings.Trim(s.text, "\n")) {
				b.WriteString(indent + strings.TrimRight(line, "\n") + "\n")
			}
		default:
			writeWrapped(&b, s.text, indent)
		}
	}
	return b.String()
}

// writeItems writes names in one column and texts in another.
func writeItems(b *strings.Builder, items [][2]string) {
	const widest = 24
	column := 0
	for _, it := range items {
		if n := len(it[0]); n <= widest {
			column = max(column, n)
		}
	}
	column += 4
	for _, it := range items {
		lines := wrap(it[1], helpWidth-column)
		head := "  " + it[0]
		if len(head)+2 > column {
			fmt.Fprintf(b, "%s\n", head)
			head = ""
		}
		for _, line := range lines {
			fmt.Fprintf(b, "%-*s%s\n", column, head, line)
			head = ""
		}
		if len(lines) == 0 && head != "" {
			fmt.Fprintf(b, "%s\n", head)
		}
	}
}

// writeWrapped writes paragraphs, which blank lines separate; lines that begin
// with a space stay as they are.
func writeWrapped(b *strings.Builder, text, indent string) {
	for i, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		var flow []string
		flush := func() {
			for _, line := range wrap(strings.Join(flow, " "), helpWidth-len(indent)) {
				b.WriteString(indent + line + "\n")
			}
			flow = nil
		}
		for _, line := range strings.Split(paragraph, "\n") {
			if strings.HasPrefix(line, " ") {
				flush()
				b.WriteString(indent + line + "\n")
				continue
			}
			flow = append(flow, line)
		}
		flush()
	}
}

// wrap breaks text into lines of at most width bytes where words allow it.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
