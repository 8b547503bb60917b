// Command unibus-pub sends lines or files to a room.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/pub"
)

func main() { os.Exit(cli.Main(pub.Command())) }
