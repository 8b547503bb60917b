// Package schema holds the shapes of what the tools print with --json, as JSON
// Schemas (draft 2020-12): one for each command, called as its words joined
// with dashes, "error" for what a command that failed prints on standard error,
// and "version" for --version. They are the contract: scripts may rely on
// required fields and on what a field means, and have to put up with fields
// that are added. "unibus schema" prints them; docs/json.md tells how to use
// them.
//
// Start with [Of]. The package checks nothing; the tests of the tools do, with
// what the commands really print.
package schema

import (
	"embed"
	"io/fs"
	"path"
	"strings"
)

//go:embed *.json
var files embed.FS

// Of returns the schema of a command, whose words are joined with dashes:
// "room-ls".
func Of(name string) (text []byte, ok bool) {
	text, err := files.ReadFile(name + ".json")
	return text, err == nil
}

// Names returns the names of all schemas, sorted.
func Names() []string {
	paths, err := fs.Glob(files, "*.json")
	if err != nil {
		panic("schema: " + err.Error()) // of a pattern that does not change
	}
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = strings.TrimSuffix(path.Base(p), ".json")
	}
	return names
}
