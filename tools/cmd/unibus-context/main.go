// Command unibus-context is the command context on its own; see tools/context.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/context"
)

func main() { os.Exit(cli.Main(context.Command())) }
