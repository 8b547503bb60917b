// Package access decides what a member's connection to the message server may
// do, and takes it back when that changes.
//
// Start with [New]. The [Access] it returns is the authenticator that
// broker.Open wants ([Access.Check], in check.go); it follows the directory's
// view by itself (changes.go) and makes the consumers that a member reads its
// persisted rooms through ([Access.Cursors]). rights.go has the whole list of
// what a member may do.
//
// What it guarantees:
//
//   - a connection is let in only if it proves to hold the transport key of an
//     active user's current card; any doubt denies, and the log says why;
//   - a connection may do exactly what the room heads in the view give its
//     identity. What a change adds, open connections get, and what it takes away
//     they lose, where they are; those that read a room that was lost are cut,
//     also one that comes in at the same moment, and the identity's consumers
//     of that room go with them;
//   - nobody fetches from a consumer of another identity, whatever session it
//     claims.
//
// It trusts the view, which trails the store by milliseconds, and the Ready
// function of its configuration to say when the view cannot be trusted. It
// checks no frames: that is for their readers.
package access
