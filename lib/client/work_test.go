package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// worklog is what handlers were given, by body.
type worklog struct {
	mu     sync.Mutex
	times  map[string]int
	change chan struct{}
}

func newLog() *worklog { return &worklog{times: map[string]int{}, change: make(chan struct{}, 1)} }

func (l *worklog) add(m *client.Message) {
	l.mu.Lock()
	l.times[string(m.Body)]++
	l.mu.Unlock()
	select {
	case l.change <- struct{}{}:
	default:
	}
}

// wait returns when until is true of what was handled.
func (l *worklog) wait(ctx context.Context, t *testing.T, until func(map[string]int) bool) {
	t.Helper()
	for {
		l.mu.Lock()
		ok := until(l.times)
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.change:
		case <-ctx.Done():
			t.Fatalf("handled %v", l.times)
		}
	}
}

// Workers of several processes, one after the other, each of which ends without
// a word while messages are at work, handle every message, and none again that
// was acknowledged.
func TestWorkGoesOnAfterAWorkerDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, dir := w.addUser("bob"), t.TempDir()
	dial := func() *client.Client { return w.dial(id, func(c *client.Config) { c.StateDir = dir }) }
	bob := dial()
	r, _ := w.room(alice, "jobs", bob)
	const n = 200
	for i := range n {
		if _, err := r.PublishAsync(w.ctx(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Flush(w.ctx()); err != nil {
		t.Fatal(err)
	}
	finished := newLog()
	started := newLog()
	for round := range 4 {
		room, err := bob.Room(w.ctx(), "jobs")
		if err != nil {
			t.Fatal(err)
		}
		cur, err := room.OpenCursor(w.ctx(), "worker", client.Start)
		if err != nil {
			t.Fatal(err)
		}
		var stuck sync.Map
		last := round == 3
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(w.ctx())
		go func() {
			done <- room.Work(ctx, client.WorkOptions{Cursor: cur, Parallel: 8}, func(ctx context.Context, m *client.Message) error {
				started.add(m)
				if i := int(m.Seq)*7 + m.Index; !last && i%23 == round {
					stuck.Store(string(m.Body), true)
					<-ctx.Done() // until the process dies
					return ctx.Err()
				}
				finished.add(m)
				return nil
			})
		}()
		if !last {
			finished.wait(w.ctx(), t, func(times map[string]int) bool { return len(times) >= (round+1)*n/5 || lenOf(&stuck) == 8 })
			w.close(bob)
			if err := <-done; !errors.Is(err, bus.ErrClosed) {
				t.Errorf("round %d: %v", round, err)
			}
			bob = dial()
		} else {
			finished.wait(w.ctx(), t, func(times map[string]int) bool { return len(times) == n })
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		cancel()
	}
	// What was at work when a process died may have been finished and not
	// acknowledged: at most as many as there are workers.
	twice := 0
	for body, times := range finished.times {
		if times > 1 {
			twice++
		}
		if started.times[body] < times {
			t.Errorf("%s was finished %d times", body, times)
		}
	}
	if twice > 3*8 {
		t.Errorf("%d messages were finished twice", twice)
	}
}

func lenOf(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

// An error has a message handled again, while others go on, until it is given up.
func TestFailedMessagesAreHandledAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "jobs", bob)
	publish(t, w, r, "good", "flaky", "bad", "good too")
	cur, err := theirs[0].OpenCursor(w.ctx(), "worker", client.Start)
	if err != nil {
		t.Fatal(err)
	}
	seen := newLog()
	var mu sync.Mutex
	var failures []string
	ctx, cancel := context.WithCancel(w.ctx())
	done := make(chan error, 1)
	go func() {
		done <- theirs[0].Work(ctx, client.WorkOptions{Cursor: cur, Attempts: 3, OnError: func(err error) {
			var h *client.HandlerError
			if !errors.As(err, &h) {
				t.Errorf("%v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, fmt.Sprintf("%s %d %t", h.Message.Body, h.Message.Attempt, h.GaveUp))
		}}, func(_ context.Context, m *client.Message) error {
			defer seen.add(m)
			if body := string(m.Body); body == "bad" || body == "flaky" && m.Attempt == 1 {
				return errors.New("not now")
			}
			return nil
		})
	}()
	seen.wait(w.ctx(), t, func(times map[string]int) bool { return times["bad"] == 3 && times["flaky"] == 2 })
	publish(t, w, r, "last")
	seen.wait(w.ctx(), t, func(times map[string]int) bool { return times["last"] == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	slices.Sort(failures)
	if diff := cmp.Diff([]string{"bad 1 false", "bad 2 false", "bad 3 true", "flaky 1 false"}, failures); diff != "" {
		t.Error(diff)
	}
	if seen.times["good"] != 1 || seen.times["good too"] != 1 {
		t.Errorf("handled %v", seen.times)
	}
	publish(t, w, r, "next")
	if got := readN(t, w, theirs[0], cur, 1, 1); got[0] != "next" {
		t.Errorf("then %q", got)
	}
}

// A worker that is to end finishes what it works on, and that does not come again.
func TestWorkEndsWhenItIsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "jobs", bob)
	publish(t, w, r, "one", "two", "three")
	cur, err := theirs[0].OpenCursor(w.ctx(), "worker", client.Start)
	if err != nil {
		t.Fatal(err)
	}
	started := newLog()
	finish := make(chan struct{})
	ctx, cancel := context.WithCancel(w.ctx())
	done := make(chan error, 1)
	go func() {
		done <- theirs[0].Work(ctx, client.WorkOptions{Cursor: cur, Parallel: 2}, func(ctx context.Context, m *client.Message) error {
			started.add(m)
			<-finish
			return ctx.Err()
		})
	}()
	started.wait(w.ctx(), t, func(times map[string]int) bool { return len(times) == 2 })
	cancel()
	select {
	case err := <-done:
		t.Fatalf("ended while two are at work: %v", err)
	default:
	}
	close(finish)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := readN(t, w, theirs[0], cur, 1, 1); got[0] != "three" {
		t.Errorf("then %q", got)
	}
}

// A live room stores nothing, so that each message is handled once or not at all.
func TestWorkInALiveRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, err := alice.CreateRoom(w.ctx(), "live", client.RoomOptions{Policy: livePolicy()})
	if err != nil {
		t.Fatal(err)
	}
	theirs := w.invite(r, bob)[0]
	seen := newLog()
	ctx, cancel := context.WithCancel(w.ctx())
	done := make(chan error, 1)
	go func() {
		done <- theirs.Work(ctx, client.WorkOptions{Parallel: 3}, func(_ context.Context, m *client.Message) error {
			seen.add(m)
			return errors.New("whatever")
		})
	}()
	for i := 0; ; i++ {
		publish(t, w, r, fmt.Sprint(i))
		seen.mu.Lock()
		n := len(seen.times)
		seen.mu.Unlock()
		if n >= 3 {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for body, times := range seen.times {
		if times != 1 {
			t.Errorf("%s was handled %d times", body, times)
		}
	}
}
