package about

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/schema"
)

// Schema returns the command "schema".
func Schema(program string) *cli.Command {
	return &cli.Command{
		Name:      "schema",
		Usage:     "print the JSON Schema of what a command prints with --json",
		ArgsUsage: "[COMMAND...]",
		Description: "COMMAND is the words of a command, such as room ls; \"error\" is what a command that\n" +
			"failed prints on standard error. Without it the schemas are listed.",
		UsageText: program + " schema room ls > room-ls.json\n" + program + " schema error",
		Action:    cli.Action(printSchema),
	}
}

func printSchema(c *cli.Call) error {
	if c.NArg() == 0 {
		return listSchemas(c)
	}
	words := strings.Join(c.Args().Slice(), " ")
	name := strings.ReplaceAll(words, " ", "-")
	text, ok := schema.Of(name)
	if !ok {
		err := bus.Errorf(bus.CodeUsage, "no schema of %q", words)
		if near := cli.Closest(name, schema.Names()); near != "" {
			return cli.WithHint(err, "%s %s", c.CommandLine(), near)
		}
		return cli.WithHint(err, "%s", c.CommandLine())
	}
	if !c.WantsJSON() {
		c.Printf("%s", text)
		return nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return fmt.Errorf("print schema: %w", err)
	}
	c.Printf("%s\n", &line) // a schema is no result of this format, and has no version of it
	return nil
}

func listSchemas(c *cli.Call) error {
	if c.WantsJSON() {
		return c.JSON(struct {
			Schemas []string `json:"schemas"`
		}{schema.Names()})
	}
	for _, name := range schema.Names() {
		c.Printf("%s\n", name)
	}
	return nil
}
