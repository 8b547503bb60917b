// Command unibus-request asks a room for a reply.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/request"
)

func main() { os.Exit(cli.Main(request.Command())) }
