package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// The node stops and starts again in the middle of a stream, three times.
// Nobody does anything about it; nothing is lost, doubled or out of order.
func TestNodeRestartsMidStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "stream", bob)
	in := w.read(theirs[0], client.Now)

	const restarts, perRound = 3, 200
	var want []string
	var mu sync.Mutex
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			body := fmt.Sprintf("message %d", i)
			if _, err := r.Publish(context.Background(), []byte(body)); err != nil {
				t.Errorf("publish %d: %v", i, err)
				return
			}
			mu.Lock()
			want = append(want, body)
			mu.Unlock()
		}
	}()
	for n := range restarts {
		in.wait("progress", func() bool { return len(in.msgs) >= (n+1)*perRound })
		w.stop()
		w.start()
	}
	in.wait("progress", func() bool { return len(in.msgs) >= (restarts+1)*perRound })
	close(stop)
	<-done
	if diff := cmp.Diff(want, in.bodies(len(want))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, w.read(theirs[0], client.Start).bodies(len(want))); diff != "" {
		t.Errorf("from the start: %s", diff)
	}
}

func TestAsyncPublishesSurviveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "stream", bob)
	in := w.read(theirs[0], client.Now)
	const n = 3000
	var want []string
	for i := range n {
		body := fmt.Sprintf("message %d", i)
		want = append(want, body)
		if _, err := r.PublishAsync(w.ctx(), []byte(body)); err != nil {
			t.Fatal(err)
		}
		if i == n/2 {
			w.stop()
			w.start()
		}
	}
	if err := r.Flush(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, in.bodies(n)); diff != "" {
		t.Error(diff)
	}
}

func TestLiveRoomGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	policy := bus.DefaultPolicy()
	policy.Flags &^= bus.FlagPersist
	r, err := alice.CreateRoom(w.ctx(), "live", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	in := w.read(w.invite(r, bob)[0], client.Now)
	publish(t, w, r, "before")
	in.bodies(1)
	w.stop()
	w.start()
	// Bob may come back later than alice. What is sent before is lost to him, and
	// he is told so at once: it is not waited for.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		publish(t, w, r, fmt.Sprint(i))
		in.mu.Lock()
		n := len(in.msgs)
		in.mu.Unlock()
		if n > 1 {
			break
		}
		if i == 150 {
			t.Fatal("bob hears nothing any more")
		}
		<-tick.C
	}
}

// Alice goes on while bob is away, so that he misses some of a live room.
func TestLiveRoomTellsWhatWasMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	bob := w.watched(w.addUser("bob"), nil)
	policy := bus.DefaultPolicy()
	policy.Flags &^= bus.FlagPersist
	r, err := alice.CreateRoom(w.ctx(), "live", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	in := w.read(w.invite(r, bob.Client)[0], client.Now)
	publish(t, w, r, "before")
	in.bodies(1)
	bob.data.set(func(d delivery) []delivery { return nil })
	publish(t, w, r, "missed", "missed too")
	bob.data.Cut()
	bob.data.set(nil)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < 8*time.Second; <-tick.C {
		publish(t, w, r, "after")
		in.mu.Lock()
		n := len(in.msgs)
		in.mu.Unlock()
		if n > 1 {
			break
		}
	}
	var gap *client.GapError
	if !errors.As(in.failure(bus.ErrGap), &gap) || gap.From != 1 || gap.To < 2 || gap.Sender != alice.ID() {
		t.Errorf("gap %+v", gap)
	}
}

// A message to a room goes out once the node is back, or has an outcome that
// says that it did not.
func TestPublishWaitsForTheNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	r, _ := w.room(alice, "log")
	publish(t, w, r, "one")
	w.stop()
	p, err := r.PublishAsync(w.ctx(), []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
		t.Errorf("outcome without a node: %v", p.Err())
	case <-time.After(200 * time.Millisecond):
	}
	w.start()
	if _, err := p.Wait(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, w.read(r, client.Start).bodies(2)); diff != "" {
		t.Error(diff)
	}
}
