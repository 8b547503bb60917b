// Package explain is the command that tells what an error code means, why it
// comes about and what to do. What it says is in package cli, beside the hints
// and exit statuses that go with the codes.
package explain

import (
	"slices"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// Command returns the command "explain".
func Command() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "tell what an error code means and what to do",
		ArgsUsage: "[CODE]",
		Description: "Errors of unibus have a code, which --json prints and logs carry. Without a code\n" +
			"all of them are listed.",
		UsageText: "unibus explain not_member",
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
}

func explain(code bus.Code) explanation {
	a := cli.AdviceFor(code)
	return explanation{Code: code, Title: code.Title(), Exit: a.Exit, Why: a.Why, Do: a.Do, Hint: a.Hint}
}

func run(c *cli.Call) error {
	if c.NArg() == 0 {
		return list(c)
	}
	code := bus.Code(c.Arg(0))
	if !slices.Contains(bus.Codes(), code) {
		return cli.WithHint(cli.Usagef("unknown code %q", c.Arg(0)), "%s", c.CommandLine())
	}
	e := explain(code)
	if c.WantsJSON() {
		return c.JSON(e)
	}
	c.Printf("%s: %s\n\n%s\n%s\n\nExit status %d.\n", e.Code, e.Title, e.Why, e.Do, e.Exit)
	return nil
}

func list(c *cli.Call) error {
	var all []explanation
	var rows [][]string
	for _, code := range bus.Codes() {
		e := explain(code)
		all = append(all, e)
		rows = append(rows, []string{string(e.Code), e.Title})
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Codes []explanation `json:"codes"`
		}{all})
	}
	c.Table([]string{"code", "meaning"}, rows)
	return nil
}
