// Package completion is the command that prints scripts with which shells
// complete the command lines of its program. Only the dispatcher has it.
package completion

import "github.com/enmanuel/unibus/lib/cli"

// Command returns the command "completion".
func Command() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		ArgsUsage: "SHELL",
		Description: "Shells are bash, fish and zsh. The script asks the program itself for candidates, so it needs no renewal when\n" +
			"commands change.",
		UsageText: "source <(unibus completion bash)\nsource <(unibus completion zsh)\nunibus completion fish | source",
		Action: cli.Action(func(c *cli.Call) error {
			script, err := c.CompletionScript(c.Arg(0))
			if err != nil {
				return err
			}
			if c.WantsJSON() {
				return c.JSON(struct {
					Shell  string `json:"shell"`
					Script string `json:"script"`
				}{c.Arg(0), script})
			}
			c.Printf("%s", script)
			return nil
		}),
	}
}
