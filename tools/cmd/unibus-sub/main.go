// Command unibus-sub prints what is sent to a room.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/sub"
)

func main() { os.Exit(cli.Main(sub.Command())) }
