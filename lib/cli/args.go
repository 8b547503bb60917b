package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// argsShape is how many arguments a command takes.
type argsShape struct {
	names []string // of the arguments that are needed
	max   int      // -1 is any number
}

var argWord = regexp.MustCompile(`^(\[)?([A-Z][A-Z0-9_|-]*)(\.\.\.)?(\])?$`)

var errArgsUsage = errors.New(`want words such as "ROOM", "[FILE]" or "FILE..."`)

// parseArgsUsage reads the ArgsUsage of a command: capital words in order,
// optional ones in brackets, "..." behind a last one that may be repeated. A
// word "--" is for the reader's eye only.
func parseArgsUsage(usage string) (argsShape, error) {
	var shape argsShape
	optional := false
	for word := range strings.FieldsSeq(usage) {
		if word == "--" {
			continue
		}
		m := argWord.FindStringSubmatch(word)
		if m == nil || (m[1] == "") != (m[4] == "") || shape.max < 0 || (optional && m[1] == "") {
			return shape, fmt.Errorf("read arguments %q: at %q: %w", usage, word, errArgsUsage)
		}
		if m[1] == "" {
			shape.names = append(shape.names, m[2])
		} else {
			optional = true
		}
		shape.max++
		if m[3] != "" {
			shape.max = -1
		}
	}
	return shape, nil
}

func (s argsShape) check(args []string) error {
	switch {
	case len(args) < len(s.names):
		return Usagef("missing %s", strings.Join(s.names[len(args):], " "))
	case s.max >= 0 && len(args) > s.max:
		return Usagef("unexpected argument %q", args[s.max])
	}
	return nil
}
