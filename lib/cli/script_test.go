package cli

import (
	"fmt"
	"testing"

	"github.com/enmanuel/unibus/lib/cli/clitest"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func() int{"toy": func() int { return toyProcess().Main() }})
}

func TestScripts(t *testing.T) { clitest.Run(t, clitest.Params{}) }

// toyProcess is a program for what only shows in a real process: signals,
// pipes and terminals.
func toyProcess() Program {
	command := func(name string, run func(c *Call) error) *Command {
		return &Command{Name: name, Usage: "try " + name, Action: Action(run)}
	}
	return Program{Root: &Command{
		Name:  "toy",
		Usage: "try things",
		Subcommands: []*Command{
			command("wait", func(c *Call) error {
				c.Note("waiting")
				<-c.Done()
				c.Note("putting things away")
				return c.Err()
			}),
			command("stubborn", func(c *Call) error {
				c.Note("waiting")
				<-c.Done()
				c.Note("not now")
				select {}
			}),
			command("flood", func(c *Call) error {
				for c.Err() == nil {
					c.Printf("a line\n")
				}
				c.Note("putting things away")
				return c.Err()
			}),
			command("unlock", func(c *Call) error {
				p, err := c.Passphrase("alice.id")
				c.Printf("%q\n", p)
				return err
			}),
			command("unlock-two", func(c *Call) error {
				for _, what := range []string{"alice.id", "bob.id", "alice.id"} {
					p, err := c.Passphrase(what)
					if err != nil {
						return err
					}
					c.Printf("%q\n", p)
				}
				return nil
			}),
			command("lock", func(c *Call) error {
				p, err := c.NewPassphrase("alice.id")
				c.Printf("%q\n", p)
				return err
			}),
			command("delete", func(c *Call) error {
				if err := c.Confirm("delete %s?", "everything"); err != nil {
					return err
				}
				c.Printf("deleted\n")
				return nil
			}),
			command("config", func(c *Call) error {
				cfg, err := c.Config(NeedServers, NeedIdentity)
				if err != nil {
					return err
				}
				for _, field := range configFields {
					c.Printf("%s from %s\n", field, cfg.Sources[field])
				}
				c.Printf("%s %s %s %s %s %s\n", cfg.Servers, cfg.URLs, cfg.CA, cfg.BusID.Fingerprint(), cfg.Identity, cfg.Timeout)
				return nil
			}),
			command("list", func(c *Call) error {
				rows := [][]string{{"alice", "member", "active"}, {"bob-the-builder", "admin", "revoked \x1b[31m"}}
				if c.WantsJSON() {
					for _, r := range rows {
						if err := c.JSON(struct {
							Handle string `json:"handle"`
						}{r[0]}); err != nil {
							return err
						}
					}
					return nil
				}
				c.Note("two users")
				c.Detail("asked nobody")
				c.Warn("bob is %s", "revoked")
				c.Table([]string{"handle", "role", "status"}, rows)
				return nil
			}),
			command("environ", func(c *Call) error {
				for _, kv := range c.ChildEnviron() {
					if len(kv) > 7 && kv[:7] == "UNIBUS_" {
						fmt.Fprintln(c.Stdout, kv)
					}
				}
				return nil
			}),
		},
	}}
}
