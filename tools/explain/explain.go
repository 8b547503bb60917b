// Package explain is the command that tells what an error code or an exit
// status means, why it comes about and what to do. What it says is in package
// cli, beside the hints and exit statuses that go with the codes.
package explain

import (
	"slices"
	"strconv"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// Command returns the command "explain".
func Command() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "tell what an error code or an exit status means and what to do",
		ArgsUsage: "[CODE]",
		Description: "Errors of unibus have a code, which --json prints and logs carry. CODE is one, in\n" +
			"upper or lower case, or the exit status of a command. Without it all codes are\n" +
			"listed by what they are about.",
		UsageText: "unibus explain not_member\nunibus explain 4",
		Action:    cli.Action(run),
	}
}

// explanation is the JSON form.
type explanation struct {
	Code  bus.Code `json:"code"`
	Title string   `json:"title"`
	Exit  cli.Exit `json:"exit"`
	Why   string   `json:"why"`
	Do    string   `json:"do"`
	Hint  string   `json:"hint,omitempty"`
	Group string   `json:"group"`
}

func explain(code bus.Code) explanation {
	a := cli.AdviceFor(code)
	e := explanation{Code: code, Title: code.Title(), Exit: a.Exit, Why: a.Why, Do: a.Do, Hint: a.Hint}
	for _, g := range cli.AdviceGroups() {
		if slices.Contains(g.Codes(), code) {
			e.Group = g.Title
		}
	}
	return e
}

func run(c *cli.Call) error {
	if c.NArg() == 0 {
		return list(c)
	}
	if status, err := strconv.Atoi(c.Arg(0)); err == nil {
		return explainExit(c, status)
	}
	code, err := find(c.Arg(0))
	if err != nil {
		return cli.WithHint(err, "%s", hint(c))
	}
	e := explain(code)
	if c.WantsJSON() {
		return c.JSON(e)
	}
	c.Printf("%s: %s\n\n%s\n%s\n\nExit status %d.\n", e.Code, e.Title, e.Why, e.Do, e.Exit)
	return nil
}

// find reads a code as people write it: in any case, with dashes or blanks, as
// the URN of a problem document.
func find(text string) (bus.Code, error) {
	word := strings.TrimPrefix(strings.ToLower(text), "urn:unibus:")
	code := bus.Code(strings.NewReplacer("-", "_", " ", "_").Replace(word))
	if !code.Known() {
		return "", cli.Usagef("unknown code %q", text)
	}
	return code, nil
}

// hint names the code that was probably meant, or the list of all.
func hint(c *cli.Call) string {
	var names []string
	for _, code := range bus.Codes() {
		names = append(names, string(code))
	}
	if near := cli.Closest(c.Arg(0), names); near != "" {
		return c.CommandLine() + " " + near
	}
	return c.CommandLine()
}

// explainExit tells what an exit status means and which codes lead to it.
func explainExit(c *cli.Call, status int) error {
	e := cli.Exit(status)
	out := struct {
		Exit    cli.Exit      `json:"exit"`
		Meaning string        `json:"meaning"`
		Codes   []explanation `json:"codes"`
	}{Exit: e, Meaning: e.Meaning(), Codes: []explanation{}}
	switch {
	case out.Meaning != "":
	case status > 128 && status < 128+65:
		out.Meaning = "ended by signal " + strconv.Itoa(status-128)
		if status == 130 {
			out.Meaning += ", which is Ctrl-C"
		}
	default:
		return cli.WithHint(cli.Usagef("unknown exit status %d", status), "%s 1, to 5, or 128 and the number of a signal", c.CommandLine())
	}
	var rows [][]string
	for _, code := range bus.Codes() {
		if e := explain(code); e.Exit == out.Exit {
			out.Codes = append(out.Codes, e)
			rows = append(rows, []string{string(e.Code), e.Title})
		}
	}
	if c.WantsJSON() {
		return c.JSON(out)
	}
	c.Printf("Exit status %d: %s.\n", status, out.Meaning)
	if len(rows) > 0 {
		c.Printf("\n")
	}
	c.Table([]string{"code", "meaning"}, rows)
	return nil
}

func list(c *cli.Call) error {
	var all []explanation
	for i, g := range cli.AdviceGroups() {
		var rows [][]string
		for _, code := range g.Codes() {
			e := explain(code)
			all = append(all, e)
			rows = append(rows, []string{string(e.Code), strconv.Itoa(int(e.Exit)), e.Title})
		}
		if c.WantsJSON() {
			continue
		}
		if i > 0 {
			c.Printf("\n")
		}
		c.Printf("%s:\n\n", strings.ToUpper(g.Title[:1])+g.Title[1:])
		c.Table([]string{"code", "exit", "meaning"}, rows)
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Codes []explanation `json:"codes"`
		}{all})
	}
	return nil
}
