package cli

import (
	"github.com/enmanuel/unibus/lib/bus"
)

// Exit is a status a program ends with. Beside these, a program that a signal
// ended has 128 and the number of the signal, as shells count, and a plug-in
// or child has whatever status it chose.
type Exit int

// The exit statuses, the same for every tool.
const (
	ExitOK          Exit = 0 // did what was asked
	ExitFailed      Exit = 1 // did not, and no other status says why
	ExitUsage       Exit = 2 // was called wrongly; nothing was tried
	ExitPartial     Exit = 3 // did a part, or lost messages, or cannot tell
	ExitDenied      Exit = 4 // may not; trying again will not help
	ExitUnavailable Exit = 5 // could not reach the bus; trying again may help
)

// exitText is the section of every help text.
const exitText = `0 ok, 1 failed, 2 wrong usage, 3 partial or lost messages, 4 denied,
5 unavailable; 128+N ended by signal N`

// Advice is what to tell people about an error code.
type Advice struct {
	Exit Exit
	Hint string // the command or the act that most likely helps, "" for [Command] --help
	Why  string // how it comes about
	Do   string // what to do about it
}

// AdviceFor returns the advice for a code; one that is not known is treated as
// [bus.CodeInternal].
func AdviceFor(code bus.Code) Advice {
	if a, ok := advice[code]; ok {
		return a
	}
	return advice[bus.CodeInternal]
}
