// Command unibus-room makes rooms and says who is in them.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/room"
)

func main() { os.Exit(cli.Main(room.Command())) }
