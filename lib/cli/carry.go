package cli

import (
	"regexp"
	"slices"
	"strings"
)

// carriedFlags say on which bus and as whom a command acts: those that every
// command has, and those of single ones.
var (
	carriedFlags    = []string{flagContext, flagServer, flagURL, flagCA, flagBusID, flagIdentity}
	ownCarriedFlags = []string{"socket", "data", "store"}
)

// elsewhere are commands that act on no bus.
var elsewhere = []string{"completion", "context", "demo", "explain", "help", "init", "man", "schema"}

// Carry returns a command of the tools with the flags of this call that say on
// which bus and as whom it acts, quoted for a shell, so that whoever pastes it acts
// there too: "unibus room ls" becomes "unibus --context b room ls". What does not
// begin with such a command is returned as it is.
func (c *Call) Carry(command string) string { return c.frame.inv.carry(command) }

func (inv *invocation) carry(text string) string {
	program, rest, ok := strings.Cut(text, " ")
	if !ok || program != "unibus" || len(inv.path) == 0 || strings.Contains(rest, "--help") || strings.Contains(rest, "--"+flagContext) {
		return text
	}
	next, _, _ := strings.Cut(rest, " ")
	if slices.Contains(elsewhere, next) {
		return text
	}
	words := append([]string{program}, inv.flagsOf(inv.path[0], carriedFlags)...)
	for i, cmd := range inv.path {
		name := cmd.Name
		if i == 0 {
			// A tool of its own is what the word behind unibus calls.
			if name, ok = strings.CutPrefix(name, program+"-"); !ok {
				continue
			}
		}
		word, after, _ := strings.Cut(rest, " ")
		if word != name {
			break
		}
		words, rest = append(append(words, word), inv.flagsOf(cmd, ownCarriedFlags)...), after
	}
	if rest != "" {
		words = append(words, rest)
	}
	return strings.Join(words, " ")
}

// flagsOf returns those of some flags that were given to one command of the path.
func (inv *invocation) flagsOf(cmd *Command, which []string) []string {
	var words []string
	for _, s := range inv.given {
		if s.owner == cmd && s.source == "flag" && slices.Contains(which, s.name) {
			words = append(words, "--"+s.name, shellWord(s.value))
		}
	}
	return words
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// shellWord quotes what a POSIX shell would not take as one plain word.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
