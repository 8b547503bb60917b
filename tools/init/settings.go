package initcmd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// loopback is where the node serves: without certificates a node serves on its
// own machine only.
const loopback = "127.0.0.1"

func listenAddress(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// setting is a variable of unibusd's environment and its value.
type setting struct{ name, value string }

// settingsFile writes settings as a POSIX shell and systemd's EnvironmentFile
// both read them.
func settingsFile(settings []setting) []byte {
	var b strings.Builder
	b.WriteString("# Settings of a unibus node, read by a shell or systemd; unibusd --help explains them.\n")
	for _, s := range settings {
		fmt.Fprintf(&b, "%s=%s\n", s.name, quote(s.value))
	}
	return []byte(b.String())
}

// quote writes a value that passed [checkValue] as one word, for a POSIX shell
// and for systemd: inside double quotes they agree on the four characters that
// a backslash takes the meaning from.
func quote(value string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@,:", r)
	}
	if value != "" && strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0 {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(value) + `"`
}

// checkValue refuses what a line of an environment file cannot hold.
func checkValue(value string) error {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return errors.New("a settings file cannot hold it: it has control characters or is not UTF-8")
	}
	return nil
}
