package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
)

// private is the widest mode of a file that holds a secret.
const private fs.FileMode = 0o600

// CheckPrivate refuses a file that anybody but its owner could read or change:
// an error with [bus.CodeFileMode] names the mode and the chmod command that
// mends it. It looks through symbolic links, since what counts is the file
// that will be read. A file that is missing is [bus.CodeNotFound] and wraps
// [fs.ErrNotExist].
//
// Access control lists are seen only as far as they show in the group bits,
// and on Windows, where modes mean nothing, every file that exists passes.
func CheckPrivate(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bus.Errorf(bus.CodeNotFound, "check file mode: %w", err)
	case err != nil:
		return fmt.Errorf("check file mode: %w", err)
	case info.IsDir():
		return bus.Errorf(bus.CodeMalformed, "check file mode of %s: it is a directory", path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&^private != 0:
		return bus.Errorf(bus.CodeFileMode, "check file mode of %s: it is %#o and holds a secret; run: chmod 600 %s",
			path, info.Mode().Perm(), shellQuote(path))
	}
	return nil
}

// shellQuote returns path as one word of a POSIX shell that no command takes
// for an option.
func shellQuote(path string) string {
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	plain := strings.IndexFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@,:", r))
	}) < 0
	if plain && path != "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
