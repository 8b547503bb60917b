// Package room is the command room: it makes rooms and changes who is in them.
//
// Start with [Command]. Every change is a record signed by this identity and
// appended to the room's history by package client, which verifies that history
// first; the command shows what was verified and nothing that a server merely
// claims. history.go tells two records apart in words.
//
// A room is named by its name, if it was made or accepted here, or by its id.
// An id may be written "id:" and the id, since some begin with a dash.
package room
