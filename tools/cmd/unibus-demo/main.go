// Command unibus-demo is `unibus demo` on its own.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/demo"
)

func main() { os.Exit(cli.Main(demo.Command())) }
