package clitest

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/enmanuel/unibus/lib/cli/schema"
)

// CheckShape checks that text is one line or more, each of which is an object
// of the published schema of that name, see package schema. It is stricter than
// the schema in one thing: there must be no field that is not in it.
func CheckShape(name, text string) error {
	s, err := strictSchema(name)
	if err != nil {
		return err
	}
	if text == "" {
		return fmt.Errorf("check shape %s: there is no output", name)
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, `{"v":1`) {
			return fmt.Errorf("check shape %s: %q does not begin {\"v\":1", name, line)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			return fmt.Errorf("check shape %s: %w in %q", name, err, line)
		}
		if err := s.Validate(v); err != nil {
			return fmt.Errorf("check shape %s: %w in %q", name, err, line)
		}
	}
	return nil
}

func strictSchema(name string) (*jsonschema.Schema, error) {
	text, ok := schema.Of(name)
	if !ok {
		return nil, fmt.Errorf("check shape: there is no schema %q; write lib/cli/schema/%s.json", name, name)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read schema %s: %w", name, err)
	}
	closeObjects(doc)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("read schema %s: %w", name, err)
	}
	s, err := c.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("compile schema %s: %w", name, err)
	}
	return s, nil
}

// closeObjects forbids fields that no schema of an object names.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"]; ok && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, below := range v {
			closeObjects(below)
		}
	case []any:
		for _, below := range v {
			closeObjects(below)
		}
	}
}

// cmdShape checks output against the published schema of a command.
func cmdShape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shape SCHEMA stdout|stderr|FILE")
	}
	ts.Check(CheckShape(args[0], ts.ReadFile(args[1])))
}
