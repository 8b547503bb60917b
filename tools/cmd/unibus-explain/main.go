// Command unibus-explain is the command explain on its own; see tools/explain.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/explain"
)

func main() { os.Exit(cli.Main(explain.Command())) }
