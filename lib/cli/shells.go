package cli

import (
	"fmt"
	"strings"
)

// Shells are those that [Call.CompletionScript] knows.
var Shells = []string{"bash", "fish", "zsh"}

// CompletionScript returns a script that makes a shell complete the command
// lines of this program, and of the programs that each of its commands is on
// its own. An unknown shell has [bus.CodeUsage].
func (c *Call) CompletionScript(shell string) (string, error) {
	program := c.frame.root.Name
	names := []string{program}
	for _, cmd := range c.frame.root.Subcommands {
		if !cmd.Hidden && c.frame.root.Action == nil {
			names = append(names, program+"-"+cmd.Name)
		}
	}
	script, ok := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[shell]
	if !ok {
		return "", Usagef("unknown shell %q: want %s", shell, strings.Join(Shells, ", "))
	}
	// Each program has functions of its own, so that the scripts of two of them
	// can be loaded into one shell.
	return strings.NewReplacer("@PROGRAM@", program, "@FUNCTION@", "_"+strings.ReplaceAll(program, "-", "_")+"_complete",
		"@NAMES@", strings.Join(names, " "), "@EACH@", fishLines(program, names)).Replace(script), nil
}

func fishLines(program string, names []string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "complete -c %s -f -a '(__%s_complete)'\n", name, strings.ReplaceAll(program, "-", "_"))
	}
	return b.String()
}

// bash takes "=" and ":" for the ends of words, so the words are put together
// again, and of the candidates only what follows the last of them is given back.
const bashScript = `# bash completion of @PROGRAM@; load it with: source <(@PROGRAM@ completion bash)
@FUNCTION@() {
	local piece cur='' joined='' line path head i
	local -a words=()
	COMPREPLY=()
	for ((i = 1; i <= COMP_CWORD; i++)); do
		piece=${COMP_WORDS[i]}
		if [[ $i -gt 1 && ( $joined || $piece =~ ^[=:]+$ ) ]]; then
			words[${#words[@]}-1]+=$piece
		else
			words+=("$piece")
		fi
		joined=''
		if [[ $piece =~ ^[=:]+$ ]]; then joined=1 piece=''; fi
	done
	if [[ ${#words[@]} -gt 0 ]]; then cur=${words[${#words[@]}-1]}; fi
	head=${cur%"$piece"}
	while IFS= read -r line; do
		case $line in
		:files | :dirs)
			compopt -o filenames 2>/dev/null
			line=${line/:files/-f}
			while IFS= read -r path; do
				COMPREPLY+=("$path")
			done < <(compgen "${line/:dirs/-d}" -- "$piece")
			;;
		*)
			line=${line%%$'\t'*}
			COMPREPLY+=("${line#"$head"}")
			;;
		esac
	done < <("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null)
}
complete -F @FUNCTION@ @NAMES@
`

const zshScript = `#compdef @NAMES@
# zsh completion of @PROGRAM@; load it with: source <(@PROGRAM@ completion zsh)
# or save it as _@PROGRAM@ in a directory of $fpath.
@FUNCTION@() {
	local line word
	local -a candidates
	for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		case $line in
		'') ;;
		:files)
			compset -P '--*='
			_files
			return
			;;
		:dirs)
			compset -P '--*='
			_files -/
			return
			;;
		*)
			word=${line%%$'\t'*}
			candidates+=("${word//:/\\:}:${line#*$'\t'}")
			;;
		esac
	done
	_describe '@PROGRAM@' candidates
}
compdef @FUNCTION@ @NAMES@
if [[ $funcstack[1] = _@PROGRAM@ ]]; then
	@FUNCTION@ "$@"
fi
`

const fishScript = `# fish completion of @PROGRAM@; load it with: @PROGRAM@ completion fish | source
function _@FUNCTION@
	set -l words (commandline -opc)
	set -l last (commandline -ct)
	set -l head (string match -r -- '^--[^=]*=' "$last")
	set -l tail (string replace -r -- '^--[^=]*=' '' "$last")
	for line in ($words[1] __complete $words[2..-1] "$last" 2>/dev/null)
		switch $line
			case :files
				for path in (__fish_complete_path "$tail")
					echo "$head$path"
				end
			case :dirs
				for path in (__fish_complete_directories "$tail" '')
					echo "$head$path"
				end
			case '*'
				echo $line
		end
	end
end
@EACH@`
