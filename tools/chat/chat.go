// Package chat is the command chat: a room on a terminal, line by line.
//
// Start with [Command]. Lines go out, lines come in; nothing is drawn, so that it
// works in a pipe and on any terminal. What members send cannot drive it.
package chat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/cli/show"
	"github.com/enmanuel/unibus/lib/client"
)

const flagFrom = "from"

const description = `Sends each line that you type, and shows what others send and who joins and leaves.
A line that is sent is not shown again. Members are shown by the handles pinned
here, or else by their fingerprints. Characters that could drive a terminal are
escaped.

On a terminal, a line that begins with a slash is a command: /who lists the
members, /quit ends, and //text sends /text. Ctrl-D and the end of a pipe end the
chat when everything is sent. With --json each message and each change of the
members is an object on a line.

Exit status: 0 ended; 1 failed; 2 wrong usage; 3 lines were not sent, or messages
are missing; 4 denied, or removed from the room; 5 the bus cannot be reached.`

// Command returns the command chat.
func Command() *cli.Command {
	return &cli.Command{
		Name:        "chat",
		Usage:       "talk in a room, line by line",
		ArgsUsage:   "ROOM",
		Description: description,
		UsageText: `unibus chat lobby
unibus chat lobby --from start
echo "the build is done" | unibus chat lobby`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagFrom, Value: "now", Usage: "begin `now|start`, which is the first message there is"},
		},
		Action:       cli.Action(run),
		BashComplete: cli.Complete(connect.Candidates),
	}
}

// origins are the places a chat can begin at.
var origins = map[string]client.Origin{"now": client.Now, "start": client.Start}

func run(c *cli.Call) (err error) {
	from, ok := origins[c.String(flagFrom)]
	if !ok {
		return cli.Usagef("--%s %q: want now or start", flagFrom, c.String(flagFrom))
	}
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connect.Close(cl)) }()
	r, err := connect.Room(c.Context, cl, c.Arg(0))
	if err != nil {
		return err
	}
	if from != client.Now && !r.Policy().Persisted() {
		return cli.Usagef("--%s %s: %s is a live room, which stores nothing", flagFrom, c.String(flagFrom), r.Name())
	}
	t := &talk{call: c, client: cl, room: r}
	return t.run(c.Context, from)
}

// talk is one call of the command.
type talk struct {
	call   *cli.Call
	client *client.Client
	room   *client.Room

	mu      sync.Mutex // while something is shown
	missing uint64     // frames
	unsent  int        // lines
}

// run talks until the input or the room ends, or ctx does.
func (t *talk) run(ctx context.Context, from client.Origin) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed, members := t.room.Changed(), t.members()
	messages := t.room.Messages(ctx, from)
	if t.room.Role().Valid() { // whoever was removed hears of that at once
		t.call.Note("talking in %s, %d members", t.room.Name(), len(members))
	}
	var listening, watching sync.WaitGroup
	var heard error
	listening.Go(func() {
		defer cancel()
		heard = t.listen(messages)
	})
	watching.Go(func() { t.watch(ctx, changed, members) })
	said := t.say(ctx)
	cancel()
	listening.Wait()
	watching.Wait()
	if errors.Is(said, context.Canceled) {
		said = nil // by whoever ended it, or because nothing more can be heard
	}
	return errors.Join(heard, said, t.losses())
}

// losses is what to say at the end of what did not get through.
func (t *talk) losses() error {
	switch {
	case t.unsent > 0:
		return cli.WithExit(bus.Errorf(bus.CodeUnknownOutcome, "talk: %d lines were not sent, or nobody knows", t.unsent), cli.ExitPartial)
	case t.missing > 0:
		return cli.WithExit(bus.Errorf(bus.CodeGap, "talk: %d frames are missing", t.missing), cli.ExitPartial)
	}
	return nil
}

// listen shows what is sent until the iteration ends, and returns why, nil where
// it was asked to.
func (t *talk) listen(messages iter.Seq2[*client.Message, error]) error {
	for m, err := range messages {
		switch gap, ok := errors.AsType[*client.GapError](err); {
		case err == nil:
			if err := t.show(m); err != nil {
				return err
			}
		case ok:
			t.missing += uint64(gap.To-gap.From) + 1
			t.call.Warn("%s", err)
		default:
			if _, ok := errors.AsType[*client.FrameError](err); !ok {
				return err
			}
			t.call.Warn("%s (%s)", err, bus.CodeOf(err))
		}
	}
	return nil
}

// show puts out a message, unless it was said here.
func (t *talk) show(m *client.Message) error {
	if m.Session == t.client.Session() && m.Sender == t.client.ID() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.call.WantsJSON() {
		return t.call.JSON(show.MessageOf(m))
	}
	name := fmt.Sprintf("%s %s", m.Sent.Local().Format("15:04"), cli.Printable(show.Name(m)))
	text := strings.TrimSuffix(show.Text(m.Body), "\n")
	for line := range strings.SplitSeq(text, "\n") {
		t.call.Printf("%s: %s\n", name, line)
	}
	return nil
}

// say sends lines, each when the one before has its outcome, until the input ends
// or ctx does.
func (t *talk) say(ctx context.Context) error {
	commands := t.call.Interactive()
	lines := make(chan string)
	var readErr error
	go func() {
		defer close(lines)
		scan := bufio.NewScanner(t.call.Env.Stdin)
		scan.Buffer(nil, show.MaxBody)
		for scan.Scan() {
			select {
			case lines <- scan.Text():
			case <-ctx.Done(): // nothing wakes a read of a terminal; the process is about to end
				return
			}
		}
		readErr = scan.Err()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line, more := <-lines:
			switch {
			case !more:
				if errors.Is(readErr, bufio.ErrTooLong) {
					readErr = bus.Errorf(bus.CodeTooLarge, "read lines: one is longer than a message")
				}
				return readErr
			case line == "":
			case commands && line == "/quit":
				return nil
			case commands && line == "/who":
				t.who()
			case commands && strings.HasPrefix(line, "/") && !strings.HasPrefix(line, "//"):
				t.call.Note("no command %q: there are /who and /quit, and //text sends /text", line)
			case commands && strings.HasPrefix(line, "//"):
				t.send(ctx, line[1:])
			default:
				t.send(ctx, line)
			}
		}
	}
}

// send sends a line and says so if that failed.
func (t *talk) send(ctx context.Context, line string) {
	if _, err := t.room.Publish(ctx, []byte(line)); err != nil {
		t.unsent++
		t.call.Warn("not sent: %s", err)
	}
}

// who lists the members.
func (t *talk) who() {
	for _, m := range t.room.Members() {
		t.call.Note("%s, %s", nameOf(m), m.Role)
	}
}

func nameOf(m client.Member) string {
	if m.Handle != "" {
		return string(m.Handle)
	}
	return m.ID.Fingerprint()
}

func (t *talk) members() map[bus.ID]client.Member {
	members := map[bus.ID]client.Member{}
	for _, m := range t.room.Members() {
		members[m.ID] = m
	}
	return members
}

// change is a change of the members as --json prints it.
type change struct {
	Room   bus.RoomID `json:"room"`
	Change string     `json:"change"` // joined, left or role
	Member bus.ID     `json:"member"`
	Handle bus.Handle `json:"handle,omitempty"` // as pinned here
	Role   bus.Role   `json:"role,omitempty"`   // from now on
}

// watch shows who joins and leaves until ctx ends.
func (t *talk) watch(ctx context.Context, changed <-chan struct{}, before map[bus.ID]client.Member) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		changed = t.room.Changed()
		now := t.members()
		for _, ch := range changesOf(t.room.ID(), before, now) {
			t.showChange(ch)
		}
		before = now
	}
}

// changesOf compares members, in the order of their ids.
func changesOf(room bus.RoomID, before, now map[bus.ID]client.Member) []change {
	var out []change
	add := func(what string, m client.Member, role bus.Role) {
		out = append(out, change{Room: room, Change: what, Member: m.ID, Handle: m.Handle, Role: role})
	}
	for id, m := range now {
		old, was := before[id]
		switch {
		case !was:
			add("joined", m, m.Role)
		case old.Role != m.Role:
			add("role", m, m.Role)
		}
	}
	for id, m := range before {
		if _, is := now[id]; !is {
			add("left", m, 0)
		}
	}
	slices.SortFunc(out, func(a, b change) int { return slices.Compare(a.Member[:], b.Member[:]) })
	return out
}

func (t *talk) showChange(ch change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.call.WantsJSON() {
		// A failed write ends the command by itself.
		_ = t.call.JSON(ch)
		return
	}
	name := cli.Printable(nameOf(client.Member{ID: ch.Member, Handle: ch.Handle}))
	switch ch.Change {
	case "role":
		t.call.Printf("* %s is a %s now\n", name, ch.Role)
	default:
		t.call.Printf("* %s %s\n", name, ch.Change)
	}
}
