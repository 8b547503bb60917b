// Command unibus is every tool of unibus under one name, and the plug-ins of
// this machine; see tools/plugin for those.
package main

import (
	"os"
	"syscall"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/about"
	"github.com/enmanuel/unibus/tools/blob"
	"github.com/enmanuel/unibus/tools/chat"
	"github.com/enmanuel/unibus/tools/context"
	"github.com/enmanuel/unibus/tools/demo"
	"github.com/enmanuel/unibus/tools/explain"
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

// commands are the built-in commands in the order help shows them.
func commands() []*cli.Command {
	return []*cli.Command{
		demo.Command(),
		initcmd.Command(),
		keygen.Command(),
		context.Command(),
		usermgr.Command(),
		room.Command(),
		pub.Command(),
		sub.Command(),
		blob.Command(),
		request.Command(),
		worker.Command(),
		chat.Command(),
		explain.Command(),
		plugin.Command(),
		about.Completion("unibus"),
		about.Man("unibus"),
		about.Schema("unibus"),
	}
}

// program is the dispatcher.
func program() cli.Program {
	return cli.Program{
		Root: &cli.Command{
			Name:        "unibus",
			Usage:       "an end-to-end encrypted message bus of your own",
			UsageText:   "unibus init\nunibus help room invite\nunibus explain not_member",
			Subcommands: commands(),
		},
		External: plugin.Finder{Exec: syscall.Exec},
	}
}

func main() { os.Exit(program().Main()) }
