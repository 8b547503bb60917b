package cli

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	ucli "github.com/urfave/cli/v2"

	"github.com/enmanuel/unibus/lib/bus"
)

// invocation is a command line, understood. urfave/cli wants flags before
// arguments and each flag behind the command that declares it; people write
// them in any order. So the line is taken apart here, where the commands and
// their flags are known, and put together again as urfave/cli wants it.
type invocation struct {
	path    []*Command // from the root to the command that runs
	given   []setting  // flags in the order they came
	args    []string   // what is no flag
	help    bool       // --help was seen, or the word help
	version bool
	rest    []string // of the line, behind what could not be understood
}

// setting is one flag with its value, and where it came from.
type setting struct {
	owner  *Command // of path
	name   string   // first of the flag's names
	value  string
	source string // "flag", or "env NAME"
}

// leaf is the command that runs.
func (inv *invocation) leaf() *Command { return inv.path[len(inv.path)-1] }

// command is what the user would type to run the leaf again.
func (inv *invocation) command() string {
	names := make([]string, len(inv.path))
	for i, c := range inv.path {
		names[i] = c.Name
	}
	return strings.Join(names, " ")
}

// canonical is the line as urfave/cli wants it.
func (inv *invocation) canonical() []string {
	var line []string
	for _, cmd := range inv.path {
		line = append(line, cmd.Name)
		for _, s := range inv.given {
			if s.owner == cmd {
				line = append(line, "--"+s.name+"="+s.value)
			}
		}
	}
	if !inv.leaf().SkipFlagParsing {
		line = append(line, "--")
	}
	return append(line, inv.args...)
}

// source says where the value of a flag comes from: "flag", "env NAME", or
// "default".
func (inv *invocation) source(name string) string {
	for _, s := range inv.given {
		if s.name == name {
			return s.source
		}
	}
	return "default"
}

// findFlag returns the flag of that name on the path, the leaf's own first.
func (inv *invocation) findFlag(name string) (owner *Command, f Flag) {
	for _, cmd := range slices.Backward(inv.path) {
		for _, f := range cmd.Flags {
			if slices.Contains(f.Names(), name) {
				return cmd, f
			}
		}
	}
	return nil, nil
}

// External finds commands that are no part of the program. Neither method
// runs anything.
type External interface {
	// Lookup returns the command of that name, or nil if there is none. Its
	// SkipFlagParsing is set.
	Lookup(env *Env, name string) (*Command, error)
	// List returns all of them, sorted by name.
	List(env *Env) []*Command
}

// parse takes the command line apart. The invocation is usable as far as it
// got when there is an error, which has [bus.CodeUsage].
func parse(root *Command, external External, env *Env) (*invocation, error) {
	inv := &invocation{path: []*Command{root}}
	words := slices.Clone(env.Args)
	if len(words) > 0 {
		words = words[1:]
	}
	for len(words) > 0 {
		if inv.leaf().SkipFlagParsing {
			inv.args = append(inv.args, words...)
			break
		}
		word := words[0]
		words = words[1:]
		var err error
		switch {
		case word == "--":
			inv.args, words = append(inv.args, words...), nil
		case strings.HasPrefix(word, "--"):
			words, err = inv.longFlag(word, words)
		case strings.HasPrefix(word, "-") && word != "-":
			words, err = inv.shortFlags(word, words)
		case len(inv.args) == 0 && len(inv.leaf().Subcommands) > 0:
			// Help of what does not exist is no help.
			if err = inv.subcommand(word, external, env); err != nil {
				inv.rest = words
				return inv, err
			}
		default:
			inv.args = append(inv.args, word)
		}
		if err != nil && !inv.help {
			inv.rest = words
			return inv, err
		}
	}
	return inv, nil
}

// subcommand goes one command down.
func (inv *invocation) subcommand(word string, external External, env *Env) error {
	parent := inv.leaf()
	if cmd := parent.Command(word); cmd != nil {
		inv.path = append(inv.path, cmd)
		return nil
	}
	if word == "help" {
		inv.help = true
		return nil
	}
	candidates := commandNames(parent.Subcommands)
	if inv.leaf() == inv.path[0] {
		candidates = append(candidates, "help")
	}
	if len(inv.path) == 1 && external != nil {
		cmd, err := external.Lookup(env, word)
		if err != nil {
			return err
		}
		if cmd != nil {
			inv.path = append(inv.path, cmd)
			return nil
		}
		candidates = append(candidates, commandNames(external.List(env))...)
	}
	if parent.Action != nil {
		inv.args = append(inv.args, word)
		return nil
	}
	err := Usagef("unknown command %q", inv.command()+" "+word)
	if s := closest(word, candidates); s != "" {
		return WithHint(err, "%s %s", inv.command(), s)
	}
	return err
}

// longFlag takes --name, --name=value, or --name and the next word.
func (inv *invocation) longFlag(word string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(word[2:], "=")
	owner, f := inv.findFlag(name)
	if f == nil || len(name) == 1 {
		return rest, inv.unknownFlag(word, name)
	}
	switch {
	case hasValue:
	case !takesValue(f):
		value = "true"
	case len(rest) == 0:
		return rest, Usagef("flag --%s needs a value", name)
	default:
		value, rest = rest[0], rest[1:]
	}
	inv.set(owner, f, value)
	return rest, nil
}

// shortFlags takes -x, -x value, -xvalue, -x=value, and several letters of
// flags without value in one word.
func (inv *invocation) shortFlags(word string, rest []string) ([]string, error) {
	for letters := word[1:]; letters != ""; {
		letter := letters[:1]
		letters = letters[1:]
		owner, f := inv.findFlag(letter)
		if f == nil {
			return rest, inv.unknownFlag(word, strings.TrimLeft(word, "-"))
		}
		if !takesValue(f) {
			inv.set(owner, f, "true")
			continue
		}
		value := strings.TrimPrefix(letters, "=")
		if letters == "" {
			if len(rest) == 0 {
				return rest, Usagef("flag -%s needs a value", letter)
			}
			value, rest = rest[0], rest[1:]
		}
		inv.set(owner, f, value)
		letters = ""
	}
	return rest, nil
}

// set remembers a flag, the last of several values unless it takes many.
func (inv *invocation) set(owner *Command, f Flag, value string) {
	name := f.Names()[0]
	switch {
	case owner == inv.path[0] && name == "help":
		inv.help = true
		return
	case owner == inv.path[0] && name == "version":
		inv.version = true
		return
	}
	inv.given = append(inv.given, setting{owner, name, value, "flag"})
}

func (inv *invocation) unknownFlag(word, name string) error {
	word, _, _ = strings.Cut(word, "=")
	err := Usagef("unknown flag %q for %s", word, inv.command())
	var names []string
	for _, cmd := range inv.path {
		for _, f := range visibleFlags(cmd) {
			for _, n := range f.Names() {
				if len(n) > 1 {
					names = append(names, n)
				}
			}
		}
	}
	if s := closest(name, names); s != "" {
		return WithHint(err, "did you mean --%s? see %s --help", s, inv.command())
	}
	return err
}

// fromEnvironment adds the flags that were not given but whose variable is set.
func (inv *invocation) fromEnvironment(env *Env) {
	for _, cmd := range inv.path {
		for _, f := range cmd.Flags {
			name := f.Names()[0]
			if inv.source(name) != "default" {
				continue
			}
			for _, variable := range envVars(f) {
				if value := env.Getenv(variable); value != "" {
					inv.given = append(inv.given, setting{cmd, name, value, "env " + variable})
					break
				}
			}
		}
	}
}

// check asks for required flags and for as many arguments as ArgsUsage says.
func (inv *invocation) check() error {
	for _, cmd := range inv.path {
		for _, f := range cmd.Flags {
			r, ok := f.(ucli.RequiredFlag)
			if ok && r.IsRequired() && inv.source(f.Names()[0]) == "default" {
				return Usagef("flag --%s is needed", f.Names()[0])
			}
		}
	}
	shape, err := parseArgsUsage(inv.leaf().ArgsUsage)
	if err != nil {
		return err
	}
	return shape.check(inv.args)
}

// forgetEnvVars keeps urfave/cli from reading the process's environment, which
// is not always the one the command runs in. It goes by the name of the field
// because the many flag types share no way to set it.
func forgetEnvVars(f Flag) {
	if field := reflect.Indirect(reflect.ValueOf(f)).FieldByName("EnvVars"); field.IsValid() {
		field.SetZero()
	}
}

func envVars(f Flag) []string {
	if d, ok := f.(ucli.DocGenerationFlag); ok {
		return d.GetEnvVars()
	}
	return nil
}

// envVars returns the variables of a flag, also after they were forgotten.
func (f *frame) envVars(flag Flag) []string {
	if vars, ok := f.vars[flag]; ok {
		return vars
	}
	return envVars(flag)
}

func takesValue(f Flag) bool {
	d, ok := f.(ucli.DocGenerationFlag)
	return !ok || d.TakesValue()
}

func visibleFlags(cmd *Command) []Flag {
	return slices.DeleteFunc(slices.Clone(cmd.Flags), func(f Flag) bool {
		v, ok := f.(ucli.VisibleFlag)
		return ok && !v.IsVisible()
	})
}

func commandNames(cmds []*Command) []string {
	var names []string
	for _, c := range cmds {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

// badValue matches what package flag says of a value that does not parse.
var badValue = regexp.MustCompile(`^invalid (?:boolean )?value "((?s).*)" for (?:flag )?-([^:]+): (?:parse error|.*)$`)

// flagError turns an error of package flag into ours.
func (inv *invocation) flagError(err error) error {
	m := badValue.FindStringSubmatch(err.Error())
	if m == nil {
		return bus.Errorf(bus.CodeUsage, "read flags: %w", err)
	}
	where := "--" + m[2]
	if variable, ok := strings.CutPrefix(inv.source(m[2]), "env "); ok {
		where = "$" + variable
	}
	want := ""
	if _, f := inv.findFlag(m[2]); f != nil {
		want = ": want " + kindOf(f)
	}
	return Usagef("invalid value %q for %s%s", m[1], where, want)
}

// kindOf says what a flag's value has to look like.
func kindOf(f Flag) string {
	switch f.(type) {
	case *BoolFlag:
		return "true or false"
	case *DurationFlag:
		return "a time such as 30s or 5m"
	case *IntFlag, *Int64Flag:
		return "a whole number"
	case *Uint64Flag, *ucli.UintFlag:
		return "a whole number that is not negative"
	case *Float64Flag:
		return "a number"
	}
	return "text"
}
