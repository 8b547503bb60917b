package cli

import (
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/enmanuel/unibus/lib/bus"
)

// Env is everything a command sees of the world around it. Main functions take
// [System]; tests make their own and look at what was written.
type Env struct {
	Args    []string // as in [os.Args]: the program first
	Environ []string // as from [os.Environ]; of a variable given twice the last counts

	Stdin  io.Reader
	Stdout io.Writer // results only
	Stderr io.Writer // everything else

	Now  func() time.Time
	Zone *time.Location // that people see times in, nil for UTC
	Rand io.Reader

	Executable string    // absolute path of the running program, "" if not known
	Version    string    // of the running program, for --version
	Commit     string    // that it was built from, "" if not known
	Committed  time.Time // when that was, zero if not known
	Terminal   string    // path of the controlling terminal, "" to never ask anybody
}

// System returns the environment of this process.
func System() *Env {
	exe, err := os.Executable()
	if err != nil {
		exe = "" // it only helps finding plug-ins, and PATH does too
	}
	version, commit, committed := build()
	return &Env{
		Args:       os.Args,
		Environ:    os.Environ(),
		Stdin:      os.Stdin,
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		Now:        time.Now,
		Zone:       time.Local,
		Rand:       rand.Reader,
		Executable: exe,
		Version:    version,
		Commit:     commit,
		Committed:  committed,
		Terminal:   "/dev/tty",
	}
}

// build is what the linker recorded: the version of the module, "devel" where
// there is none, and the commit, with "+dirty" where files were
// changed, and its time.
func build() (version, commit string, committed time.Time) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", "", committed
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.time":
			if at, err := time.Parse(time.RFC3339, s.Value); err == nil {
				committed = at
			}
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		commit += "+dirty"
	}
	if version = info.Main.Version; version == "" || version == "(devel)" {
		version = "devel"
	}
	return version, commit, committed
}

// LookupEnv returns the value of an environment variable and whether it is set.
func (e *Env) LookupEnv(name string) (value string, ok bool) {
	for _, kv := range e.Environ {
		if v, found := strings.CutPrefix(kv, name+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}

// Getenv returns the value of an environment variable, "" if it is not set.
func (e *Env) Getenv(name string) string {
	v, _ := e.LookupEnv(name)
	return v
}

// ConfigDir returns where unibus keeps its configuration:
// $XDG_CONFIG_HOME/unibus, or ~/.config/unibus. It need not exist.
func (e *Env) ConfigDir() (string, error) { return e.home("XDG_CONFIG_HOME", ".config") }

// StateDir returns where unibus keeps what it learned and must not lose, such
// as pins: $XDG_STATE_HOME/unibus, or ~/.local/state/unibus. It need not exist.
func (e *Env) StateDir() (string, error) {
	return e.home("XDG_STATE_HOME", filepath.Join(".local", "state"))
}

// home follows the XDG base directory specification, which has relative paths ignored.
func (e *Env) home(variable, fallback string) (string, error) {
	if dir := e.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "unibus"), nil
	}
	if dir := e.Getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, fallback, "unibus"), nil
	}
	return "", WithHint(
		bus.Errorf(bus.CodeUsage, "find home directory: neither HOME nor %s is an absolute path", variable),
		"export HOME=/home/you")
}

// TerminalWidth returns how many characters fit on a line of a stream, 0 if it
// is no terminal or does not say.
func TerminalWidth(stream any) int {
	f, ok := stream.(interface{ Fd() uintptr })
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// IsTerminal reports whether a stream of the environment is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}
