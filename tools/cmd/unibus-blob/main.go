// Command unibus-blob sends files through a room and fetches them.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/blob"
)

func main() { os.Exit(cli.Main(blob.Command())) }
