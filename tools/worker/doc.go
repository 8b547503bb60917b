// Package worker is the command worker: it runs a program for each message of a
// room and answers with what that writes.
//
// Start with [Command]. execute.go runs the program; what comes when, how often
// and what is acknowledged is settled by package client ([client.Room.Work]).
//
// It guarantees that a message of a stored room counts as done only when its
// answer is stored, and that the program's output, however long, takes no more
// memory than a message holds. It does not confine the program: whoever may
// write to the room chooses its input.
package worker
