package cli

import (
	"maps"
	"slices"

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

var exitMeanings = map[Exit]string{
	ExitOK:          "did what was asked",
	ExitFailed:      "did not, and no other status says why",
	ExitUsage:       "was called wrongly; nothing was tried",
	ExitPartial:     "did a part, or lost messages, or cannot tell",
	ExitDenied:      "may not; trying again will not help",
	ExitUnavailable: "could not reach the bus; trying again may help",
}

// Exits returns the exit statuses in ascending order.
func Exits() []Exit { return slices.Sorted(maps.Keys(exitMeanings)) }

// Meaning says in a few words what the status stands for, "" for one that is
// not among [Exits].
func (e Exit) Meaning() string { return exitMeanings[e] }

// exitText is the section of every help text.
const exitText = `0 ok, 1 failed, 2 wrong usage, 3 partial or lost messages, 4 denied,
5 unavailable; 128+N ended by signal N`

// Advice is what to tell people about an error code.
type Advice struct {
	Exit Exit
	Hint string // the command or the act that most likely helps, "" where none is likelier than another
	Why  string // how it comes about
	Do   string // what to do about it
}

// AdviceGroup is the advice for codes of one kind.
type AdviceGroup struct {
	Title  string
	advice map[bus.Code]Advice
}

// Codes returns the codes of the group, sorted.
func (g AdviceGroup) Codes() []bus.Code { return slices.Sorted(maps.Keys(g.advice)) }

// AdviceGroups returns all groups, in the order to show them. Each code is in
// one of them.
func AdviceGroups() []AdviceGroup { return slices.Clone(adviceGroups) }

// AdviceFor returns the advice for a code; one that is not known is treated as
// [bus.CodeInternal].
func AdviceFor(code bus.Code) Advice {
	for _, g := range adviceGroups {
		if a, ok := g.advice[code]; ok {
			return a
		}
	}
	return reachAdvice[bus.CodeInternal]
}
