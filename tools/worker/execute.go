package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/show"
	"github.com/enmanuel/unibus/lib/client"
)

// killWait is how long a command that is to end may take before it is killed.
const killWait = 5 * time.Second

// result is what became of one run of the command.
type result struct {
	output  []byte
	exit    int   // its exit status, -1 where it has none
	failure error // nil where it ended with 0
}

// find returns the path of the program, which is looked for once: a name without
// a slash on the PATH of the worker's environment.
func (w *worker) find() (string, error) {
	name := w.argv[0]
	if strings.ContainsRune(name, filepath.Separator) {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("find command: %w", err)
		}
		return filepath.Abs(path)
	}
	for _, dir := range filepath.SplitList(w.call.Env.Getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue // as exec.LookPath does: what lies in the working directory is not meant
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", cli.WithHint(bus.Errorf(bus.CodeNotFound, "find command: %q is not on the PATH", name), "give its path, such as ./%s", name)
}

// execute runs the command for a message until it ends or ctx does.
func (w *worker) execute(ctx context.Context, m *client.Message) result {
	var out limited
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out.full = func() {
		cancel(bus.Errorf(bus.CodeTooLarge, "it wrote more than %d bytes", show.MaxBody))
	}
	cmd := exec.CommandContext(ctx, w.path)
	cmd.Args = w.argv
	cmd.Env = append(w.call.ChildEnviron(), environ(m)...)
	cmd.Stdin = bytes.NewReader(m.Body)
	cmd.Stdout, cmd.Stderr = &out, w.call.Stderr
	cmd.WaitDelay = killWait
	apart(cmd)
	err := cmd.Run()
	r := result{output: out.bytes, exit: -1}
	switch failed, _ := errors.AsType[*exec.ExitError](err); {
	case err == nil:
		r.exit = 0
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		r.failure = bus.Errorf(bus.CodeTimeout, "it took longer than %s", w.call.Duration(flagMaxTime))
	case ctx.Err() != nil:
		r.failure = context.Cause(ctx)
	case failed != nil && failed.Exited():
		r.exit = failed.ExitCode()
		r.failure = failed
	default:
		r.failure = err
	}
	return r
}

// environ says of a message what a command may want to know.
func environ(m *client.Message) []string {
	const prefix = "UNIBUS_MESSAGE_"
	return []string{
		prefix + "ROOM=" + m.Room.String(),
		prefix + "SENDER=" + m.Sender.String(),
		prefix + "HANDLE=" + string(m.Handle),
		prefix + "SESSION=" + m.Session.String(),
		prefix + "SEQ=" + fmt.Sprint(m.Seq),
		prefix + "INDEX=" + fmt.Sprint(m.Index),
		prefix + "SENT=" + m.Sent.UTC().Format(time.RFC3339Nano),
		prefix + "ATTEMPT=" + fmt.Sprint(m.Attempt),
	}
}

// limited keeps what is written as far as it fits into a message.
type limited struct {
	bytes []byte
	full  func() // told that it does not
}

// Write implements [io.Writer].
func (l *limited) Write(p []byte) (int, error) {
	fits := min(len(p), show.MaxBody-len(l.bytes))
	l.bytes = append(l.bytes, p[:fits]...)
	if fits < len(p) {
		l.full()
		return fits, bus.Errorf(bus.CodeTooLarge, "write output: it does not fit into a message")
	}
	return len(p), nil
}
