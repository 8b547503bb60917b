package cli

import (
	"fmt"
	"slices"
	"strings"

	ucli "github.com/urfave/cli/v2"
)

// completeCommand is what completion scripts call: the words typed so far
// follow, the last of them unfinished and perhaps empty. Candidates come back
// one a line, each with a tab and its description. It is no command of the
// program, so that none has to be declared for it.
const completeCommand = "__complete"

// complete prints what the last word could become. It prints nothing where a
// file or some other text is to come; scripts offer files then.
func (f *frame) complete(words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	env := *f.env
	env.Args = append([]string{f.root.Name}, words[:len(words)-1]...)
	last := words[len(words)-1]
	inv, _ := parse(f.root, f.external, &env) // unfinished lines have errors
	for _, candidate := range f.candidates(inv, words[:len(words)-1], last) {
		if strings.HasPrefix(candidate[0], last) {
			fmt.Fprintf(f.stdout, "%s\t%s\n", candidate[0], candidate[1])
		}
	}
	return nil
}

// candidates returns words and their descriptions for the place behind before.
func (f *frame) candidates(inv *invocation, before []string, last string) [][2]string {
	if slices.Contains(before, "--") || inv.leaf().SkipFlagParsing {
		return nil
	}
	if waiting := inv.waitingFlag(before); waiting != "" {
		if waiting != flagContext {
			return nil
		}
		return f.contextCandidates()
	}
	if strings.HasPrefix(last, "-") {
		var flags [][2]string
		for _, cmd := range slices.Backward(inv.path) {
			for _, flag := range visibleFlags(cmd) {
				if d, ok := flag.(ucli.DocGenerationFlag); ok {
					_, usage := unquote(d.GetUsage())
					flags = append(flags, [2]string{"--" + flag.Names()[0], usage})
				}
			}
		}
		return flags
	}
	if len(inv.args) > 0 {
		return nil
	}
	var commands [][2]string
	for _, cmd := range inv.leaf().Subcommands {
		if !cmd.Hidden {
			commands = append(commands, [2]string{cmd.Name, cmd.Usage})
		}
	}
	if f.external != nil && len(inv.path) == 1 {
		for _, cmd := range f.externalCommands() {
			commands = append(commands, [2]string{cmd.Name, cmd.Usage})
		}
	}
	return commands
}

// waitingFlag returns the flag that the next word is the value of, or "".
func (inv *invocation) waitingFlag(before []string) string {
	if len(before) == 0 {
		return ""
	}
	word := before[len(before)-1]
	name := strings.TrimLeft(word, "-")
	if name == word || strings.Contains(word, "=") {
		return ""
	}
	if _, f := inv.findFlag(name); f != nil && takesValue(f) {
		return f.Names()[0]
	}
	return ""
}

// contextCandidates are the names of saved contexts. Somebody who presses tab
// is not told about errors; running the command does that.
func (f *frame) contextCandidates() [][2]string {
	contexts, err := f.env.Contexts()
	if err != nil {
		return nil
	}
	names, err := contexts.Names()
	if err != nil {
		return nil
	}
	var candidates [][2]string
	for _, n := range names {
		candidates = append(candidates, [2]string{n, "saved context"})
	}
	return candidates
}

// Shells are those that [Call.CompletionScript] knows.
var Shells = []string{"bash", "fish", "zsh"}

// CompletionScript returns a script that makes a shell complete the command
// lines of this program, and of the programs that each of its commands is on
// its own. An unknown shell has [bus.CodeUsage].
func (c *Call) CompletionScript(shell string) (string, error) {
	names := []string{c.frame.root.Name}
	for _, name := range commandNames(c.frame.root.Subcommands) {
		names = append(names, c.frame.root.Name+"-"+name)
	}
	all := strings.Join(names, " ")
	switch shell {
	case "bash":
		return fmt.Sprintf(bashScript, all), nil
	case "zsh":
		return fmt.Sprintf(zshScript, all), nil
	case "fish":
		var b strings.Builder
		b.WriteString(fishScript)
		for _, name := range names {
			fmt.Fprintf(&b, "complete -c %s -a '(__unibus_complete)'\n", name)
		}
		return b.String(), nil
	}
	return "", Usagef("unknown shell %q: want %s", shell, strings.Join(Shells, ", "))
}

const bashScript = `# bash completion of unibus; load it with: source <(unibus completion bash)
_unibus_complete() {
	local candidate
	COMPREPLY=()
	while IFS=$'\t' read -r candidate _; do
		COMPREPLY+=("$candidate")
	done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _unibus_complete %s
`

const zshScript = `#compdef %[1]s
# zsh completion of unibus; load it with: source <(unibus completion zsh)
_unibus_complete() {
	local line
	local -a candidates
	for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		[[ -n $line ]] && candidates+=("${line%%%%$'\t'*}:${line#*$'\t'}")
	done
	if (( ${#candidates} )); then
		_describe 'unibus' candidates
	else
		_files
	fi
}
compdef _unibus_complete %[1]s
`

const fishScript = `# fish completion of unibus; load it with: unibus completion fish | source
function __unibus_complete
	set -l words (commandline -opc)
	set -l last (commandline -ct)
	$words[1] __complete $words[2..-1] "$last" 2>/dev/null
end
`
