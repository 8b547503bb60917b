// Package pub is the command pub: it sends what comes in on standard input, or
// what is in files, to a room.
//
// Start with [Command]. split.go cuts a stream into the bodies of messages so
// that the command sub puts it together again byte for byte; send.go keeps a
// bounded number of messages on their way and counts what became of them.
//
// It guarantees that every message it took in is accounted for at the end, as
// acknowledged, refused or unknown, and that its memory does not grow with its
// input. It does not repeat what was refused.
package pub
