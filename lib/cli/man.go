package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ManualPage returns the manual page, section 1, of a command of this program
// as roff source; no name means the program itself. It is dated by
// SOURCE_DATE_EPOCH (reproducible-builds.org), else by the commit the program
// was built from, else by today. A name that is no command has [bus.CodeUsage].
func (c *Call) ManualPage(names ...string) (string, error) {
	path := []*Command{c.frame.root}
	for _, name := range names {
		cmd := path[len(path)-1].Command(name)
		if cmd == nil || cmd.Hidden {
			return "", Usagef("unknown command %q", strings.Join(append([]string{c.frame.root.Name}, names...), " "))
		}
		path = append(path, cmd)
	}
	m := c.frame.manualOf(path, nil, true)
	m.sections = append(m.sections, c.frame.appendix(path)...)
	return m.roff(c.Env.Version, c.Env.date()), nil
}

// date is the day manual pages carry.
func (e *Env) date() time.Time {
	if epoch, err := strconv.ParseInt(e.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(epoch, 0).UTC()
	}
	if !e.Committed.IsZero() {
		return e.Committed.UTC()
	}
	return e.Now().UTC()
}

// appendix is what a manual page has and help has not.
func (f *frame) appendix(path []*Command) []section {
	var variables [][2]string
	for _, cmd := range slices.Backward(path) {
		for _, flag := range visibleFlags(cmd) {
			for _, name := range f.envVars(flag) {
				variables = append(variables, [2]string{name, "the same as --" + flag.Names()[0]})
			}
		}
	}
	files := slices.Clone(f.files)
	if !f.local {
		variables = append(variables,
			[2]string{passphraseFileVariable, "file whose first line is the passphrase of the identity; only its owner may be able to read it"},
			[2]string{"XDG_CONFIG_HOME", "where configuration is, ~/.config if it is not an absolute path"},
			[2]string{"XDG_STATE_HOME", "where state is, ~/.local/state if it is not an absolute path"})
		files = append([][2]string{
			{"$XDG_CONFIG_HOME/unibus/context/NAME.json", "saved contexts; " + f.root.Name + " context writes them"},
			{"$XDG_CONFIG_HOME/unibus/context.txt", "name of the selected context"},
			{"$XDG_STATE_HOME/unibus/BUS/ID/", "what must not be forgotten of a bus: pins of rooms, cards and handles, names of rooms, places of readers"},
		}, files...)
	}
	if f.external != nil {
		variables = append(variables, [2]string{"UNIBUS_PLUGIN_PATH", "directories to look for plug-ins in, before those of PATH"})
	}
	variables = append(variables, [2]string{"NO_COLOR", "no colours, if it is not empty"})
	var exits [][2]string
	for _, e := range Exits() {
		exits = append(exits, [2]string{strconv.Itoa(int(e)), e.Meaning()})
	}
	exits = append(exits, [2]string{"128+N", "ended by signal N, so 130 after Ctrl-C"})
	sections := []section{{title: "Environment", items: variables}}
	if len(files) > 0 {
		sections = append(sections, section{title: "Files", items: files})
	}
	sections = append(sections, section{title: exitTitle, items: exits})
	if see := seeAlso(path); see != "" {
		sections = append(sections, section{title: "See also", text: see})
	}
	return sections
}

// seeAlso names the pages above and below.
func seeAlso(path []*Command) string {
	var pages []string
	name := ""
	for i, cmd := range path {
		name = strings.TrimPrefix(name+"-"+cmd.Name, "-")
		if i < len(path)-1 {
			pages = append(pages, name+"(1)")
		}
	}
	for _, sub := range path[len(path)-1].Subcommands {
		if !sub.Hidden {
			pages = append(pages, name+"-"+sub.Name+"(1)")
		}
	}
	return strings.Join(pages, ", ")
}

// roff writes the manual for man(1).
func (m manual) roff(version string, date time.Time) string {
	var b strings.Builder
	page := strings.ReplaceAll(m.name, " ", "-")
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"%s\" \"unibus %s\" \"unibus manual\"\n", roffText(strings.ToUpper(page)), date.Format(time.DateOnly), roffText(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roffText(page), roffText(m.usage))
	for _, s := range m.sections {
		title := s.title
		switch title {
		case "":
			title = "Description"
		case "Usage":
			title = "Synopsis"
		}
		fmt.Fprintf(&b, ".SH %s\n", roffText(strings.ToUpper(title)))
		switch {
		case s.items != nil:
			for _, item := range s.items {
				fmt.Fprintf(&b, ".TP\n.B %s\n", roffText(item[0]))
				roffFlow(&b, item[1])
			}
		case s.plain:
			fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roffText(strings.Trim(s.text, "\n")))
		default:
			roffParagraphs(&b, s.text)
		}
	}
	return b.String()
}

// roffParagraphs writes paragraphs, which blank lines separate; lines that begin
// with a space stay as they are.
func roffParagraphs(b *strings.Builder, text string) {
	for i, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		var flow, fixed []string
		flush := func() {
			roffFlow(b, strings.Join(flow, " "))
			if len(fixed) > 0 {
				fmt.Fprintf(b, ".nf\n%s\n.fi\n", roffText(strings.Join(fixed, "\n")))
			}
			flow, fixed = nil, nil
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			if strings.HasPrefix(line, " ") {
				fixed = append(fixed, line)
				continue
			}
			if len(fixed) > 0 {
				flush()
			}
			flow = append(flow, line)
		}
		flush()
	}
}

// roffFlow writes running text in short lines, as the language wants it.
func roffFlow(b *strings.Builder, text string) {
	for _, line := range wrap(text, 66) { // escapes make it longer
		b.WriteString(roffText(line) + "\n")
	}
}

// roffText escapes what roff would take for a request or a hyphenation point,
// and what it could not read.
func roffText(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		var b strings.Builder
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			b.WriteString(`\&`)
		}
		for _, r := range line {
			switch {
			case r == '\\':
				b.WriteString(`\e`)
			case r == '-':
				b.WriteString(`\-`)
			case r > '~':
				fmt.Fprintf(&b, `\[u%04X]`, r)
			default:
				b.WriteRune(r)
			}
		}
		lines[i] = b.String()
	}
	return strings.Join(lines, "\n")
}
