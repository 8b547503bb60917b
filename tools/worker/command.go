package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/cli/show"
	"github.com/enmanuel/unibus/lib/client"
)

const (
	flagAgent    = "agent"
	flagParallel = "parallel"
	flagMaxTime  = "max-time"
	flagAttempts = "attempts"
	flagCursor   = "cursor"
	flagFrom     = "from"
)

const description = `Runs PROGRAM for each request in the room NAME: the body is its standard input, and
what it writes to standard output is the reply. With --agent, NAME is that of an
agent: PROGRAM runs for every message of the room NAME.in, and what it writes goes
to the room NAME.out, as the reply where the message was a request.

The header "unibus-exit" of the answer is the exit status of PROGRAM. Where that
is not 0 the answer says that the request failed, after --attempts tries. PROGRAM
runs without a shell, with the environment of the worker and besides that
UNIBUS_MESSAGE_ROOM, _SENDER, _HANDLE (empty if it is not known), _SESSION, _SEQ,
_INDEX, _SENT (RFC 3339) and _ATTEMPT. Its standard error is the worker's.

In a room that is stored, the worker keeps its place under --cursor, and each
message is worked on at least once: one that was not finished when a worker died
is worked on again by the next with that state. The first worker begins --from
now, or start. A live room is read from now on, and each message is worked on at
most once. Several workers on one machine need cursors of their own, and then each
works on every message.

On SIGTERM or Ctrl-C the worker takes nothing new, finishes what it works on,
answers it and ends. A second signal ends it at once.

Exit status: 0 ended by a signal; 1 failed; 2 wrong usage; 4 denied, or removed
from the room; 5 the bus cannot be reached. That PROGRAM failed is the sender's
to see, and ends nothing.`

// Command returns the command worker.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "worker",
		Usage:       "run a command for each message of a room, and answer",
		ArgsUsage:   "NAME PROGRAM [ARG...]",
		Description: description,
		UsageText: `unibus worker uptime -- uptime -p
unibus worker --agent scout --parallel 4 --max-time 5m -- ./scout.sh
echo "what is new?" | unibus request scout.in --in scout.out`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: flagAgent, Usage: "work on all messages of NAME.in, and answer in NAME.out"},
			&cli.IntFlag{Name: flagParallel, Aliases: []string{"j"}, Value: 1, Usage: "run up to `N` commands at once"},
			&cli.DurationFlag{Name: flagMaxTime, DefaultText: "no limit", Usage: "end a command that runs longer than this `TIME`"},
			&cli.IntFlag{Name: flagAttempts, Value: 1, Usage: "run a command that fails up to `N` times"},
			&cli.StringFlag{Name: flagCursor, Value: "worker", Usage: "keep the place in the room under this `NAME`"},
			&cli.StringFlag{Name: flagFrom, Value: "now", Usage: "where no place is kept yet begin `now|start`, which is the first message there is"},
		},
		Action:       cli.Action(run),
		BashComplete: cli.Complete(connect.Candidates),
	}
}

// origins are the places work can begin at.
var origins = map[string]client.Origin{"now": client.Now, "start": client.Start}

func run(c *cli.Call) (err error) {
	from, ok := origins[c.String(flagFrom)]
	switch {
	case !ok:
		return cli.Usagef("--%s %q: want now or start", flagFrom, c.String(flagFrom))
	case c.Int(flagParallel) < 1:
		return cli.Usagef("--%s %d: want at least 1", flagParallel, c.Int(flagParallel))
	case c.Int(flagAttempts) < 1:
		return cli.Usagef("--%s %d: want at least 1", flagAttempts, c.Int(flagAttempts))
	case c.Duration(flagMaxTime) < 0 || c.Duration(flagMaxTime) == 0 && c.Source(flagMaxTime) != "default":
		return cli.Usagef("--%s %s: want more than 0", flagMaxTime, c.Duration(flagMaxTime))
	}
	w := &worker{call: c, agent: c.Bool(flagAgent), attempts: c.Int(flagAttempts), argv: c.Args().Slice()[1:]}
	if w.path, err = w.find(); err != nil {
		return err
	}
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connect.Close(cl)) }()
	in, out := c.Arg(0), ""
	if w.agent {
		in, out = in+".in", in+".out"
		if w.out, err = connect.Room(c.Context, cl, out); err != nil {
			return err
		}
	}
	if w.in, err = connect.Room(c.Context, cl, in); err != nil {
		return err
	}
	return w.serve(c.Context, from)
}

// worker is one call of the command.
type worker struct {
	call     *cli.Call
	agent    bool
	attempts int
	argv     []string
	path     string // of the program
	in       *client.Room
	out      *client.Room // of an agent

	done, failed atomic.Int64
}

// serve works until ctx ends.
func (w *worker) serve(ctx context.Context, from client.Origin) error {
	c := w.call
	opts := client.WorkOptions{
		Parallel: c.Int(flagParallel), Timeout: c.Duration(flagMaxTime),
		OnReady: func() { c.Note("working on %s", w.in.Name()) },
		OnError: func(err error) { c.Warn("%s", err) },
	}
	switch {
	case w.in.Policy().Persisted():
		cur, err := w.in.OpenCursor(ctx, c.String(flagCursor), from)
		if errors.Is(err, bus.ErrConflict) {
			return cli.WithHint(err, "another worker runs with this cursor; give this one its own: --%s NAME", flagCursor)
		}
		if err != nil {
			return err
		}
		opts.Cursor = cur
		defer cur.Close()
	case from != client.Now || c.Source(flagCursor) != "default":
		return cli.Usagef("--%s and --%s are for rooms that are stored; %s is live", flagFrom, flagCursor, w.in.Name())
	}
	err := w.in.Work(ctx, opts, w.handle)
	c.Note("%d worked on, %d of them failed", w.done.Load(), w.failed.Load())
	return err
}

// handle runs the command for a message and answers it.
func (w *worker) handle(ctx context.Context, m *client.Message) error {
	if _, asks := m.RequestID(); !asks && !w.agent {
		return nil
	}
	began := time.Now()
	r := w.execute(ctx, m)
	again := r.failure != nil && m.Attempt < w.attempts && w.in.Policy().Persisted()
	if !again {
		if err := w.answer(context.WithoutCancel(ctx), m, r); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		w.done.Add(1)
		if r.failure != nil {
			w.failed.Add(1)
		}
	}
	if err := w.report(m, r, time.Since(began)); err != nil || again {
		return errors.Join(err, r.failure)
	}
	return nil
}

// answer sends what the command has written.
func (w *worker) answer(ctx context.Context, m *client.Message, r result) error {
	headers := []client.Header{{Key: bus.HeaderEOL, Value: bus.EOLNone}}
	if r.exit >= 0 {
		headers = append(headers, client.Header{Key: bus.HeaderExit, Value: fmt.Sprint(r.exit)})
	}
	if r.failure != nil {
		headers = append(headers, client.Header{Key: bus.HeaderError, Value: r.failure.Error()})
	}
	_, asks := m.RequestID()
	var err error
	switch {
	case !w.agent:
		_, err = m.Reply(ctx, r.output, headers...)
	case asks:
		_, err = m.ReplyIn(ctx, w.out, r.output, headers...)
	default:
		_, err = w.out.Publish(ctx, r.output, headers...)
	}
	return err
}

// handled is a message that was worked on, as --json prints it.
type handled struct {
	Room    bus.RoomID    `json:"room"`
	Sender  bus.ID        `json:"sender"`
	Handle  bus.Handle    `json:"handle,omitempty"` // as pinned here
	Session bus.SessionID `json:"session"`
	Seq     bus.Seq       `json:"seq"`
	Index   int           `json:"index"`
	Attempt int           `json:"attempt"`
	Exit    *int          `json:"exit,omitempty"` // of the command, where it ended by itself
	Error   string        `json:"error,omitempty"`
	Output  int           `json:"output"` // bytes
	Took    float64       `json:"took_s"` // seconds
}

// report says that a message was worked on.
func (w *worker) report(m *client.Message, r result, took time.Duration) error {
	who := fmt.Sprintf("message %d.%d of %s", m.Seq, m.Index, show.Name(m))
	switch {
	case r.failure == nil:
		w.call.Detail("%s: done", who)
	case m.Attempt >= w.attempts:
		w.call.Warn("%s: %s", who, r.failure)
	}
	if !w.call.WantsJSON() {
		return nil
	}
	h := handled{
		Room: m.Room, Sender: m.Sender, Handle: m.Handle, Session: m.Session, Seq: m.Seq, Index: m.Index,
		Attempt: m.Attempt, Output: len(r.output), Took: took.Seconds(),
	}
	if r.exit >= 0 {
		h.Exit = &r.exit
	}
	if r.failure != nil {
		h.Error = r.failure.Error()
	}
	return w.call.JSON(h)
}
