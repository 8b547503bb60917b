package context

import (
	stdcontext "context"
	"crypto/rand"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/clitest"
	"github.com/enmanuel/unibus/lib/identity"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func() int{"unibus-context": func() int { return cli.Main(Command()) }})
}

func TestScripts(t *testing.T) {
	clitest.Run(t, clitest.Params{
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"node": startNode},
	})
}

// startNode starts a node whose admin is admin.id, beside a stranger.id, and
// sets $URL, $SERVER and $BUS_ID. $DEAD is an address where nobody listens.
func startNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: node")
	}
	root, err := identity.GenerateRoot(rand.Reader)
	ts.Check(err)
	var admin *identity.Identity
	for _, name := range []string{"stranger.id", "admin.id"} {
		admin, err = identity.Generate(rand.Reader)
		ts.Check(err)
		ts.Check(admin.Create(ts.MkAbs(name), ""))
	}
	ctx, cancel := stdcontext.WithTimeout(stdcontext.Background(), 30*time.Second)
	defer cancel()
	n, err := node.Start(ctx, node.Config{
		BusID: root.BusID(), DataDir: ts.MkAbs("data"), Name: "n1",
		ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: admin.SignPub()},
		Logger:         slog.New(slog.DiscardHandler),
	})
	ts.Check(err)
	ts.Defer(func() {
		ctx, cancel := stdcontext.WithTimeout(stdcontext.Background(), 30*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			ts.Logf("stop node: %v", err)
		}
	})
	// A port that was just free and is bound by nobody else's listener here.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Check(free.Close())
	ts.Setenv("URL", n.URL())
	ts.Setenv("SERVER", n.ServerURL())
	ts.Setenv("BUS_ID", root.BusID().String())
	ts.Setenv("DEAD", free.Addr().String())
}
