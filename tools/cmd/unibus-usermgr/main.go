// Command unibus-usermgr adds, lists and revokes the accounts of a bus.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/usermgr"
)

func main() { os.Exit(cli.Main(usermgr.Command())) }
