// Command flood shows what a node does to its members while strangers flood it.
//
// It starts a node in a process of its own, with TLS and listening on every
// address, and floods it from a second process: connections on which nobody
// says anything, request bodies that trickle, signatures that do not hold and
// logins that are wrong; from the address of the members, and from many. In
// this process meanwhile one member publishes to a persisted room at a steady
// pace, and a newcomer signs in every second. The table has what they saw
// before, during and after each flood, and how the node was doing.
//
// Start with command.go; node.go and attack.go are the two other processes,
// member.go is who must not suffer, run.go the order of things.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
)

func main() {
	os.Exit(cli.Program{Root: command(), Local: true}.Main())
}
