// Command unibusd is a node of a bus: the message server and the control plane
// in one process. Every flag has its UNIBUSD_ variable, and there is nothing
// else to configure; `unibusd settings` prints what is in effect and why.
//
// It serves one bus, the one it was told the id of; `unibus init` makes one.
// SIGTERM and SIGINT end it gracefully. Exit status 2 is wrong configuration,
// 1 any other failure, so that a supervisor can restart it.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
)

func main() { os.Exit(program().Main()) }

// program is the daemon.
func program() cli.Program {
	return cli.Program{
		Root:  command(),
		Local: true,
		Files: [][2]string{
			{"DIR/unibus.db", "users, cards, heads, records, sealed keys, spent nonces (SQLite); DIR is the one of --data"},
			{"DIR/jetstream/", "the frames of persisted rooms, as ciphertext"},
			{"DIR/control.sock", "the local door: user administration for root and the daemon's own user"},
		},
	}
}
