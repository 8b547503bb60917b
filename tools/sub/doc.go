// Package sub is the command sub: it writes what is sent to a room to standard
// output.
//
// Start with [Command]. read.go takes messages and errors from the room and
// decides when to end; write.go puts a message out, as bytes or as JSON.
//
// It guarantees that what the command pub was given comes out byte for byte,
// that nothing is put out that failed a check, and that messages that are known
// to be missing are told on standard error and in the exit status. It keeps no
// place: two runs from the start put out the same twice.
package sub
