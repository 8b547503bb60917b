// Command unibus-init makes a bus in an empty directory.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	initcmd "github.com/enmanuel/unibus/tools/init"
)

func main() { os.Exit(cli.Main(initcmd.Command())) }
