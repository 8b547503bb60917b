// Command unibus-keygen is the command keygen on its own; see tools/keygen.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/keygen"
)

func main() { os.Exit(cli.Main(keygen.Command())) }
