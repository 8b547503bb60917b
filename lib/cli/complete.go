package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	ucli "github.com/urfave/cli/v2"
)

// completeCommand is what completion scripts call: the words typed so far
// follow, the last of them unfinished and perhaps empty. Candidates come back
// one a line, each with a tab and its description. It is no command of the
// program, so that none has to be declared for it.
const completeCommand = "__complete"

// Lines that stand for what the shell itself knows best. No candidate begins
// with a colon.
const (
	completeFiles = ":files"
	completeDirs  = ":dirs"
)

// Candidate is a word that a command line may go on with.
type Candidate struct {
	Word  string
	About string // what it is, in a few words
}

// A Completer proposes words where a value is to come. What kind of value it is
// tells the word that ArgsUsage has in its place, or the usage of a flag in
// backquotes, such as "ROOM". It sees the flags that every command has and no
// others, may look at files but not at the network, and returns nothing where
// something is wrong: running the command tells what.
type Completer func(c *Call, kind string) []Candidate

// Complete makes a Completer the one of a command and of those below it:
//
//	BashComplete: cli.Complete(connect.Candidates),
//
// The frame knows these kinds itself: FILE and PATH are files, DIR is a
// directory, CONTEXT, SHELL, CODE (of an error) and COMMAND what they say, and
// alternatives such as "reader|writer" are each a word.
func Complete(complete Completer) ucli.BashCompleteFunc {
	return func(c *ucli.Context) {
		if q, ok := c.Context.Value(questionKey{}).(*question); ok {
			q.candidates = complete(q.call, q.kind)
		}
	}
}

// question is what a Completer is asked, and its answer.
type question struct {
	call       *Call
	kind       string
	candidates []Candidate
}

type questionKey struct{}

// complete prints what the last word could become, or who else knows. It prints
// nothing where some other text is to come.
func (f *frame) complete(ctx context.Context, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	env := *f.env
	env.Args = append([]string{f.root.Name}, words[:len(words)-1]...)
	last := words[len(words)-1]
	inv, _ := parse(f.root, f.external, &env) // unfinished lines have errors
	for _, candidate := range f.candidates(ctx, inv, words[:len(words)-1], last) {
		switch {
		case candidate.Word == completeFiles || candidate.Word == completeDirs:
			fmt.Fprintln(f.stdout, candidate.Word)
		case strings.HasPrefix(candidate.Word, last):
			fmt.Fprintf(f.stdout, "%s\t%s\n", candidate.Word, candidate.About)
		}
	}
	return nil
}

// candidates returns what may come behind before. They need not begin with last.
func (f *frame) candidates(ctx context.Context, inv *invocation, before []string, last string) []Candidate {
	leaf := inv.leaf()
	if leaf.SkipFlagParsing {
		return []Candidate{{Word: completeFiles}} // a plug-in, of which no more is known
	}
	literal := slices.Contains(before, "--")
	if !literal {
		if flag := inv.waitingFlag(before); flag != nil {
			return f.values(ctx, inv, flagKind(flag))
		}
		if name, _, ok := strings.Cut(last, "="); ok && strings.HasPrefix(name, "--") {
			return f.flagValues(ctx, inv, name)
		}
		if strings.HasPrefix(last, "-") && last != "-" || last == "-" && len(argKinds(leaf)) == 0 {
			return flagCandidates(inv)
		}
	}
	if len(inv.args) == 0 && len(leaf.Subcommands) > 0 && !literal {
		return f.commandCandidates(inv)
	}
	kinds := argKinds(leaf)
	n := len(inv.args)
	if shape, err := parseArgsUsage(leaf.ArgsUsage); err == nil && shape.max < 0 {
		n = min(n, len(kinds)-1)
	}
	if n < 0 || n >= len(kinds) {
		return nil
	}
	if kinds[n] == "COMMAND" {
		return commandsBelow(f.root, inv.args)
	}
	return f.values(ctx, inv, kinds[n])
}

// flagValues are the values of --name in the same word.
func (f *frame) flagValues(ctx context.Context, inv *invocation, name string) []Candidate {
	_, flag := inv.findFlag(strings.TrimLeft(name, "-"))
	if flag == nil || !takesValue(flag) {
		return nil
	}
	candidates := f.values(ctx, inv, flagKind(flag))
	for i, c := range candidates {
		if !strings.HasPrefix(c.Word, ":") {
			candidates[i].Word = name + "=" + c.Word
		}
	}
	return candidates
}

func flagCandidates(inv *invocation) []Candidate {
	var candidates []Candidate
	for _, cmd := range slices.Backward(inv.path) {
		for _, flag := range visibleFlags(cmd) {
			if d, ok := flag.(ucli.DocGenerationFlag); ok {
				_, usage := unquote(d.GetUsage())
				candidates = append(candidates, Candidate{"--" + flag.Names()[0], usage})
			}
		}
	}
	return candidates
}

// commandCandidates are the commands below the leaf, and plug-ins at the root.
func (f *frame) commandCandidates(inv *invocation) []Candidate {
	candidates := commandsBelow(inv.leaf(), nil)
	if len(inv.path) > 1 {
		return candidates
	}
	if f.external != nil {
		for _, cmd := range f.externalCommands() {
			candidates = append(candidates, Candidate{cmd.Name, cmd.Usage})
		}
	}
	if !inv.help {
		candidates = append(candidates, Candidate{"help", "show the help of a command"})
	}
	return candidates
}

// commandsBelow are the commands that may follow names.
func commandsBelow(cmd *Command, names []string) []Candidate {
	for _, name := range names {
		if cmd = cmd.Command(name); cmd == nil {
			return nil
		}
	}
	var candidates []Candidate
	for _, sub := range cmd.Subcommands {
		if !sub.Hidden {
			candidates = append(candidates, Candidate{sub.Name, sub.Usage})
		}
	}
	return candidates
}

// values proposes values of a kind.
func (f *frame) values(ctx context.Context, inv *invocation, kind string) []Candidate {
	switch kind {
	case "":
		return nil
	case "FILE", "PATH":
		return []Candidate{{Word: completeFiles}}
	case "DIR":
		return []Candidate{{Word: completeDirs}}
	case "CONTEXT":
		return f.contextCandidates()
	case "SHELL":
		return wordCandidates(Shells, "")
	case "CODE":
		return codeCandidates()
	}
	if strings.Contains(kind, "|") && kind != strings.ToUpper(kind) {
		return wordCandidates(strings.Split(kind, "|"), "")
	}
	for _, cmd := range slices.Backward(inv.path) {
		if cmd.BashComplete == nil {
			continue
		}
		call, err := f.quietCall(ctx, inv)
		if err != nil {
			return nil
		}
		q := &question{call: call, kind: kind}
		cmd.BashComplete(ucli.NewContext(nil, nil, &ucli.Context{Context: context.WithValue(ctx, questionKey{}, q)}))
		return q.candidates
	}
	return nil
}

// quietCall is a call with the flags of every command that the line has so far.
func (f *frame) quietCall(ctx context.Context, inv *invocation) (*Call, error) {
	var args []string
	for _, s := range inv.given {
		if s.owner == f.root && slices.ContainsFunc(f.globals, func(g Flag) bool { return g.Names()[0] == s.name }) {
			args = append(args, "--"+s.name+"="+s.value)
		}
	}
	return detached(ctx, f.env, args)
}

func wordCandidates(words []string, about string) []Candidate {
	candidates := make([]Candidate, len(words))
	for i, w := range words {
		candidates[i] = Candidate{w, about}
	}
	return candidates
}

func codeCandidates() []Candidate {
	var candidates []Candidate
	for _, g := range adviceGroups {
		for _, code := range g.Codes() {
			candidates = append(candidates, Candidate{string(code), code.Title()})
		}
	}
	for _, e := range Exits() {
		candidates = append(candidates, Candidate{strconv.Itoa(int(e)), "exit status: " + e.Meaning()})
	}
	return candidates
}

// argKinds are the kinds of a command's arguments, in order.
func argKinds(cmd *Command) []string {
	var kinds []string
	for word := range strings.FieldsSeq(cmd.ArgsUsage) {
		if m := argWord.FindStringSubmatch(word); m != nil {
			kinds = append(kinds, m[2])
		}
	}
	return kinds
}

// flagKind is what the usage of a flag calls its value.
func flagKind(flag Flag) string {
	d, ok := flag.(ucli.DocGenerationFlag)
	if !ok {
		return ""
	}
	kind, _ := unquote(d.GetUsage())
	return kind
}

// waitingFlag returns the flag that the next word is the value of, or nil.
func (inv *invocation) waitingFlag(before []string) Flag {
	if len(before) == 0 {
		return nil
	}
	word := before[len(before)-1]
	name := strings.TrimLeft(word, "-")
	if name == word || strings.Contains(word, "=") {
		return nil
	}
	if !strings.HasPrefix(word, "--") {
		name = name[len(name)-1:] // of -qn it is n that waits
	}
	if _, f := inv.findFlag(name); f != nil && takesValue(f) {
		return f
	}
	return nil
}

// contextCandidates are the names of saved contexts.
func (f *frame) contextCandidates() []Candidate {
	contexts, err := f.env.Contexts()
	if err != nil {
		return nil
	}
	names, err := contexts.Names()
	if err != nil {
		return nil
	}
	return wordCandidates(names, "saved context")
}
