package sub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// log is a sink that remembers what was written, with "|" for each flush that
// had something to put out.
type log struct {
	text strings.Builder
	held bool
}

func (l *log) Write(m *client.Message) error {
	l.text.Write(m.Body)
	l.held = true
	return nil
}

func (l *log) Flush() error {
	if l.held {
		l.text.WriteByte('|')
	}
	l.held = false
	return nil
}

// steps is an iteration over messages (strings), errors, and pauses.
func steps(ctx context.Context, all ...any) iter.Seq2[*client.Message, error] {
	return func(yield func(*client.Message, error) bool) {
		for i, step := range all {
			ok := true
			switch s := step.(type) {
			case string:
				ok = yield(&client.Message{Body: []byte(s), Seq: bus.Seq(i), Handle: "alice"}, nil)
			case *client.Message:
				ok = yield(s, nil)
			case error:
				ok = yield(nil, s)
			case time.Duration:
				select {
				case <-time.After(s):
				case <-ctx.Done():
				}
			}
			if !ok || ctx.Err() != nil {
				return
			}
		}
	}
}

func TestRead(t *testing.T) {
	const forever = 1000 * time.Hour
	gap := &client.GapError{From: 3, To: 7}
	removed := bus.Errorf(bus.CodeNotMember, "read room: removed")
	for _, tt := range []struct {
		name     string
		steps    []any
		options  options
		want     string // what the sink got, if it is certain
		warnings []string
		code     bus.Code
		exit     cli.Exit
		takes    time.Duration
	}{
		{name: "the end of an iteration is the end", steps: []any{"a", "b"}},
		{name: "what came is put out before waiting", steps: []any{"a", time.Second, "b", time.Second, "c"}, want: "a|b|c|", takes: 2 * time.Second},
		{name: "a count ends it", steps: []any{"a", time.Second, "b", forever}, options: options{count: 2}, want: "a|b|", takes: time.Second},
		{name: "a pause ends it if it is too long", steps: []any{"a", 2 * time.Second, "b", forever}, options: options{idle: 3 * time.Second}, want: "a|b|", takes: 5 * time.Second},
		{name: "a pause ends it before the first message too", steps: []any{forever}, options: options{idle: 3 * time.Second}, takes: 3 * time.Second},
		{name: "a gap is told and makes the work partial", steps: []any{"a", time.Second, gap, "b"}, want: "a|b|", takes: time.Second,
			warnings: []string{gap.Error()}, code: bus.CodeGap, exit: cli.ExitPartial},
		{name: "a gap counts when a count ends it", steps: []any{gap, "a", forever}, options: options{count: 1}, want: "a|",
			warnings: []string{gap.Error()}, code: bus.CodeGap, exit: cli.ExitPartial},
		{name: "a frame that fails a check is told and ends nothing", steps: []any{&client.FrameError{Seq: 9, Err: bus.ErrDecrypt}, "a"}, want: "a|",
			warnings: []string{(&client.FrameError{Seq: 9, Err: bus.ErrDecrypt}).Error() + " (decrypt); nothing of it is put out"}},
		{name: "a late message is put out and told", steps: []any{&client.Message{Body: []byte("l"), Seq: 4, Late: true, Handle: "bob"}}, want: "l|",
			warnings: []string{"message 4 of bob comes late, after the gap it was missing in"}},
		{name: "any other error is the end", steps: []any{"a", removed}, want: "a|", code: bus.CodeNotMember, exit: cli.ExitDenied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				start := time.Now()
				var out log
				var warnings []string
				warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
				err := read(ctx, steps(ctx, tt.steps...), &out, warn, tt.options)
				if have := bus.CodeOf(err); have != tt.code {
					t.Errorf("error is %v, want code %q", err, tt.code)
				}
				if have := cli.ExitOf(err); have != tt.exit {
					t.Errorf("exit status %d, want %d", have, tt.exit)
				}
				if tt.want != "" && out.text.String() != tt.want {
					t.Errorf("put out %q, want %q", out.text.String(), tt.want)
				}
				if out.held {
					t.Error("something was kept back")
				}
				if diff := cmp.Diff(tt.warnings, warnings); diff != "" {
					t.Error(diff)
				}
				if took := time.Since(start); took != tt.takes {
					t.Errorf("took %s, want %s", took, tt.takes)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestAnInterruptionIsTheNormalEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		var out log
		if err := read(ctx, steps(ctx, "a", time.Hour, "b"), &out, t.Errorf, options{}); err != nil {
			t.Error(err)
		}
		if have := out.text.String(); have != "a|" {
			t.Errorf("put out %q", have)
		}
	})
}

func TestAFailedWriteEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		full := errors.New("disk full")
		err := read(ctx, steps(ctx, slices.Repeat([]any{"a"}, 10*ahead)...), broken{full}, t.Errorf, options{})
		if !errors.Is(err, full) {
			t.Errorf("error is %v", err)
		}
	})
}

// broken is a sink that takes nothing.
type broken struct{ err error }

func (b broken) Write(*client.Message) error { return b.err }
func (b broken) Flush() error                { return b.err }
