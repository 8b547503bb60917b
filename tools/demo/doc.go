// Package demo shows a whole bus in one process: a node in a temporary
// directory, a root, an admin, two members and a persisted room, with real
// messages both ways through the real daemon.
//
// Start with [Command]. What the members read comes from the client library;
// what the server stored is read back from the node's own files, so that
// nothing is claimed that is not shown. The command fails if a line of the
// conversation is found in any file of the node, or if a removed member can
// read on.
//
// It leaves nothing behind, and measures nothing.
package demo
