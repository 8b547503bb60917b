package logs_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/logs"
	"github.com/enmanuel/unibus/lib/bus"
)

// journal is a bounded log with a clock that the test moves.
type journal struct {
	*slog.Logger
	out        bytes.Buffer
	now        time.Time
	suppressed int
}

func newJournal() *journal {
	j := &journal{now: time.Unix(1_800_000_000, 0)}
	handler := slog.NewTextHandler(&j.out, &slog.HandlerOptions{Level: slog.LevelDebug})
	j.Logger = slog.New(logs.Bound(handler, func() time.Time { return j.now }, func() { j.suppressed++ }))
	return j
}

func (j *journal) lines(with string) (n int) {
	for line := range strings.Lines(j.out.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

func TestAFloodDoesNotFillTheLog(t *testing.T) {
	j := newJournal()
	part := j.With("part", "control")
	for range 100_000 {
		part.Info("request refused", "code", bus.CodeUnauthenticated)
	}
	if n := j.lines(`msg="request refused"`); n != 200 || j.suppressed != 99_800 {
		t.Errorf("%d lines, %d left out", n, j.suppressed)
	}
	if n := j.lines("too many log lines of a kind"); n != 1 {
		t.Errorf("said %d times that lines are left out", n)
	}
	// Over a day of it.
	before := j.out.Len()
	for range 24 * 3600 {
		j.now = j.now.Add(time.Second)
		part.Info("request refused", "code", bus.CodeUnauthenticated)
	}
	if grown := j.out.Len() - before; grown > 6<<20 {
		t.Errorf("a day of a flood is %d bytes", grown)
	}
	if n := j.lines(`msg="log lines left out" part=control of="request refused" code=unauthenticated lines=`); n < 8000 {
		t.Errorf("%d notes of what was left out", n)
	}
}

func TestAKindThatFloodsHidesNoOther(t *testing.T) {
	j := newJournal()
	for i := range 1000 {
		j.Info("request refused", "code", bus.CodeUnauthenticated, "n", i)
	}
	j.Warn("request refused", "code", bus.CodeUnavailable)
	j.Warn("lease not renewed")
	j.Debug("request refused", "code", bus.CodeUnauthenticated)
	for _, want := range []string{"code=unavailable", "lease not renewed", "level=DEBUG"} {
		if j.lines(want) != 1 {
			t.Errorf("no line with %s", want)
		}
	}
}

func TestKindsAreBounded(t *testing.T) {
	j := newJournal()
	for i := range 10_000 {
		j.Info(fmt.Sprint("text that somebody else chose ", i), "code", fmt.Sprint(i))
	}
	if n := j.lines("chose"); n > 4096+200+1 {
		t.Errorf("%d lines", n)
	}
}
