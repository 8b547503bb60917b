package tooltest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/clitest"
	"github.com/enmanuel/unibus/tools/blob"
	"github.com/enmanuel/unibus/tools/chat"
	contextcmd "github.com/enmanuel/unibus/tools/context"
	initcmd "github.com/enmanuel/unibus/tools/init"
	"github.com/enmanuel/unibus/tools/keygen"
	"github.com/enmanuel/unibus/tools/plugin"
	"github.com/enmanuel/unibus/tools/pub"
	"github.com/enmanuel/unibus/tools/request"
	"github.com/enmanuel/unibus/tools/room"
	"github.com/enmanuel/unibus/tools/sub"
	"github.com/enmanuel/unibus/tools/usermgr"
	"github.com/enmanuel/unibus/tools/worker"
)

// commands are the commands under test, as the dispatcher has them.
func commands() []*cli.Command {
	return []*cli.Command{
		contextcmd.Command(),
		initcmd.Command(),
		keygen.Command(),
		usermgr.Command(),
		room.Command(),
		pub.Command(),
		sub.Command(),
		blob.Command(),
		request.Command(),
		worker.Command(),
		chat.Command(),
	}
}

// program is a dispatcher of the commands under test.
func program() cli.Program {
	return cli.Program{
		Root:     &cli.Command{Name: "unibus", Usage: "the commands under test", Subcommands: append(commands(), plugin.Command())},
		External: plugin.Finder{Exec: syscall.Exec},
	}
}

// later runs a command with a clock that is $LATER ahead, which is at most as
// much as servers put up with.
func later() int {
	env := cli.System()
	ahead, err := time.ParseDuration(env.Getenv("LATER"))
	if err != nil {
		panic(err)
	}
	env.Now = func() time.Time { return time.Now().Add(ahead) }
	return program().Run(context.Background(), env)
}

func TestMain(m *testing.M) {
	mains := map[string]func() int{
		"unibus":       func() int { return program().Main() },
		"unibus-later": later,
	}
	for i, cmd := range commands() {
		mains["unibus-"+cmd.Name] = func() int { return cli.Main(commands()[i]) }
	}
	clitest.Main(m, mains)
}

func TestScripts(t *testing.T) {
	d := &daemon{dir: t.TempDir()}
	clitest.Run(t, clitest.Params{
		Setup: func(env *testscript.Env) error {
			env.Setenv("STORE", storeURL(env.WorkDir+"/data"))
			return nil
		},
		Conds: map[string]func() bool{"disk": canMount},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"bus":     cmdBus,
			"node":    cmdNode,
			"user":    cmdUser,
			"capture": cmdCapture,
			"waitfor": cmdWaitFor,
			"make":    cmdMake,

			"blackhole": cmdBlackHole,
			"badserver": cmdBadServer,
			"disk":      cmdDisk,

			"unibusd":   d.cmd,
			"goinstall": cmdGoInstall,
			"freeports": cmdFreePorts,
		},
	})
}
