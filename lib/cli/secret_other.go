//go:build !unix

package cli

// checkInherited takes every number: here they are handles, whose values nobody
// guesses, and reading tells the wrong ones.
func checkInherited(int) error { return nil }
