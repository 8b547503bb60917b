package tooltest

import (
	"testing"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/clitest"
	initcmd "github.com/enmanuel/unibus/tools/init"
)

// commands are the commands under test, as the dispatcher has them.
func commands() []*cli.Command {
	return []*cli.Command{
		initcmd.Command(),
	}
}

func TestMain(m *testing.M) {
	mains := map[string]func() int{
		"unibus": func() int {
			return cli.Program{Root: &cli.Command{Name: "unibus", Usage: "the commands under test", Subcommands: commands()}}.Main()
		},
	}
	for i, cmd := range commands() {
		mains["unibus-"+cmd.Name] = func() int { return cli.Main(commands()[i]) }
	}
	clitest.Main(m, mains)
}

func TestScripts(t *testing.T) { clitest.Run(t, clitest.Params{}) }
