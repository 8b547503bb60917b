// Package node assembles a running node: the store, the directory and its live
// view, the message server, access to it, and the control plane. It is the only
// package that knows all of them.
//
// Start with [Start]: a [Config] in, a [Node] that serves out, on free ports if
// asked. The daemon is a main function around it, and tests start nodes with it.
//
// What it guarantees: Start returns a node that is ready or an error that says
// why, with everything it had begun undone; a node that can no longer promise
// what it serves says so through [Node.Ready] and denies what changes anything
// ([lease.go]); one that can only be restarted says so through [Node.Failed];
// Stop leaves nothing running and loses nothing that was acknowledged.
//
// What it does not do: it reads no environment, installs no signal handlers and
// never exits the process.
package node
