// Package about has the commands that a program has about itself: completion
// prints scripts with which shells complete its command lines, man its manual
// pages. Both are made from the declarations that help is made from. The
// dispatcher and the daemon have them.
package about

import "github.com/enmanuel/unibus/lib/cli"

// Completion returns the command "completion" of a program.
func Completion(program string) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		ArgsUsage: "SHELL",
		Description: "Shells are bash, fish and zsh. The script asks the program itself for candidates, so it needs no renewal when\n" +
			"commands change. For the running shell alone: source <(" + program + " completion bash)",
		UsageText: program + " completion bash > /etc/bash_completion.d/" + program + "\n" +
			program + " completion zsh > \"${fpath[1]}/_" + program + "\"\n" +
			program + " completion fish > ~/.config/fish/completions/" + program + ".fish",
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
