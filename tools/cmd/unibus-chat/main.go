// Command unibus-chat is a room on a terminal.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/tools/chat"
)

func main() { os.Exit(cli.Main(chat.Command())) }
