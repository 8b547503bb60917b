// Command unibus-worker runs a command for each message of a room.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/worker"
)

func main() { os.Exit(cli.Main(worker.Command())) }
