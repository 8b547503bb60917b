package cli

import (
	"fmt"
	"strings"
)

// ManualPage returns the manual page, section 1, of a command of this program
// as roff source; no name means the program itself. A name that is no command
// has [bus.CodeUsage].
func (c *Call) ManualPage(names ...string) (string, error) {
	path := []*Command{c.frame.root}
	for _, name := range names {
		cmd := path[len(path)-1].Command(name)
		if cmd == nil || cmd.Hidden {
			return "", Usagef("unknown command %q", strings.Join(append([]string{c.frame.root.Name}, names...), " "))
		}
		path = append(path, cmd)
	}
	return manualOf(path, c.frame.globals, nil, true).roff(c.Env.Version), nil
}

// roff writes the manual for man(1).
func (m manual) roff(version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"\" \"unibus %s\" \"unibus manual\"\n", roffText(strings.ToUpper(strings.ReplaceAll(m.name, " ", "-"))), roffText(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roffText(strings.ReplaceAll(m.name, " ", "-")), roffText(m.usage))
	for _, s := range m.sections {
		title := s.title
		switch title {
		case "":
			title = "Description"
		case "Usage":
			title = "Synopsis"
		}
		fmt.Fprintf(&b, ".SH %s\n", roffText(strings.ToUpper(title)))
		for _, item := range s.items {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roffText(item[0]), roffText(item[1]))
		}
		switch {
		case s.items != nil:
		case s.plain:
			fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roffText(strings.Trim(s.text, "\n")))
		default:
			for i, paragraph := range strings.Split(strings.Trim(s.text, "\n"), "\n\n") {
				if i > 0 {
					b.WriteString(".PP\n")
				}
				for line := range strings.SplitSeq(paragraph, "\n") {
					if strings.HasPrefix(line, " ") {
						line = ".nf\n" + roffText(line) + "\n.fi"
					} else {
						line = roffText(line)
					}
					b.WriteString(line + "\n")
				}
			}
		}
	}
	return b.String()
}

// roffText escapes what roff would take for a request or a hyphenation point.
func roffText(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
