// Package initcmd is the command init: it makes a bus out of an empty directory.
// (A package cannot be called init, since Go keeps that name for functions.)
//
// Start with [Command]. In the directory it makes the root key of the bus, the
// identity of its first administrator and the settings of a node that serves on
// this machine, and it saves a context that reaches this node.
//
// It guarantees that nothing is overwritten and that nothing is left behind
// when it fails. It starts no node and connects to none.
package initcmd
