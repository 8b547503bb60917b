package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/enmanuel/unibus/lib/bus"
)

// hinted is an error with the hint to print below it.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// WithHint says what helps against err, in place of the hint its code has. A
// hint is a command to run, or an act in the imperative. The outermost hint of
// a chain is printed. WithHint of nil is nil.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// exiting is an error with an exit status of its own.
type exiting struct {
	err  error
	exit Exit
}

func (e *exiting) Error() string { return e.err.Error() }
func (e *exiting) Unwrap() error { return e.err }

// WithExit ends the program with a status other than the one err's code has,
// for instance [ExitPartial]. WithExit of nil is nil.
func WithExit(err error, exit Exit) error {
	if err == nil {
		return nil
	}
	return &exiting{err, exit}
}

// Status is an error that ends the program with exactly this status and prints
// nothing: somebody else, such as a plug-in, has said what there is to say.
type Status int

// Error names the status.
func (s Status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Usagef returns an error for a command that was called wrongly: code
// [bus.CodeUsage], exit status 2 and a hint that names the help.
func Usagef(format string, args ...any) error {
	return bus.Errorf(bus.CodeUsage, format, args...)
}

// BadArg makes err, the reason why an argument or flag does not do, a usage
// error: `ROOM: parse room name "x..y": …`.
func BadArg(name string, err error) error {
	return bus.Errorf(bus.CodeUsage, "%s: %w", name, err)
}

// ExitOf returns the status a program ends with after err.
func ExitOf(err error) Exit {
	if err == nil {
		return ExitOK
	}
	if s, ok := errors.AsType[Status](err); ok {
		return Exit(s)
	}
	if e, ok := errors.AsType[*exiting](err); ok {
		return e.exit
	}
	if code := codeOf(err); code != bus.CodeInternal {
		return AdviceFor(code).Exit
	}
	return ExitFailed
}

// codeOf is [bus.CodeOf], but knows a few errors of the standard library.
func codeOf(err error) bus.Code {
	if _, ok := errors.AsType[*bus.Error](err); ok {
		return bus.CodeOf(err)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return bus.CodeTimeout
	case errors.Is(err, os.ErrNotExist):
		return bus.CodeNotFound
	case errors.Is(err, os.ErrExist):
		return bus.CodeFileExists
	}
	return bus.CodeInternal
}

// report is what is said about an error, in lines or in JSON.
type report struct {
	Code    bus.Code `json:"code"`
	Exit    Exit     `json:"exit"`
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
	Request string   `json:"request_id,omitempty"` // as the log of the server that refused has it
}

// reportOf chooses message and hint for err; command is what the user called,
// for the hint that points to its help.
func reportOf(err error, command string) report {
	code := codeOf(err)
	message, hint := Printable(strings.Join(strings.FieldsFunc(err.Error(), isLineBreak), "; ")), AdviceFor(code).Hint
	answer, isAnswer := errors.AsType[answered](err)
	if before, run, ok := strings.Cut(message, "; run: "); ok && code == bus.CodeFileMode && !isAnswer {
		// Libraries know nothing of hints, but some know the command that helps.
		// People paste hints: what a server or a member says never becomes one.
		message, hint = before, run
	}
	if code == bus.CodeUsage {
		hint = command + " --help"
	}
	if system := systemHint(err, code); system != "" {
		hint = system
	}
	if h, ok := errors.AsType[*hinted](err); ok {
		hint = Printable(h.hint)
	}
	exit := ExitOf(err)
	switch {
	case hint != "":
	case code == bus.CodeInternal && exit != ExitFailed:
		hint = fmt.Sprintf("unibus explain %d", exit)
	default:
		hint = "unibus explain " + string(code)
	}
	r := report{Code: code, Exit: exit, Message: message, Hint: hint}
	if isAnswer {
		r.Request = Printable(answer.RequestID())
	}
	return r
}

// answered is an error that a server answered with, such as package api has.
type answered interface {
	error
	RequestID() string
}

// systemHint is for failures of this machine that have no code of their own.
func systemHint(err error, code bus.Code) string {
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificateHint(bad)
	}
	path := "it"
	about, isFile := errors.AsType[*fs.PathError](err)
	if isFile {
		path = about.Path
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on the disk and run it again: df -h"
	case errors.Is(err, syscall.EROFS):
		return "the disk can only be read; choose another place than " + Printable(path)
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the node has no certificate: http:// in --url and nats:// in --server, or give it one"
	case isFile && errors.Is(err, syscall.EISDIR):
		return Printable(path) + " is a directory; name a file"
	case isFile && errors.Is(err, fs.ErrNotExist) && code == bus.CodeNotFound:
		return "check the path " + Printable(path)
	case errors.Is(err, fs.ErrPermission) && code == bus.CodeInternal:
		return "check whose " + Printable(path) + " is: ls -ld"
	}
	return ""
}

// certificateHint is for a node whose certificate does not hold.
func certificateHint(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "use an address that the certificate names, or have one made that names this address"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "have the node's certificate renewed; if it is not past its time this machine's clock is wrong: date"
	}
	return "if the node's certificate comes from an authority of your own, trust that one: --ca FILE"
}

func isLineBreak(r rune) bool { return r == '\n' || r == '\r' }

// write prints the report: two lines for people, and a third with --verbose
// where a server has more to tell, or one line of JSON.
func (r report) write(w io.Writer, asJSON, verbose bool) error {
	if asJSON {
		line, err := json.Marshal(struct {
			V     int    `json:"v"`
			Error report `json:"error"`
		}{JSONVersion, r})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", line)
		return err
	}
	text := "error: " + r.Message + "\n"
	if r.Hint != "" {
		text += "hint: " + r.Hint + "\n"
	}
	if verbose && r.Request != "" {
		text += "request: " + r.Request + " (quote it to whoever runs the bus)\n"
	}
	_, err := io.WriteString(w, text)
	return err
}
