package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// livePolicy is the default one for a room that stores nothing.
func livePolicy() *bus.Policy {
	p := bus.DefaultPolicy()
	p.Flags &^= bus.FlagPersist
	return &p
}

// serve answers in the background until the test ends, from when it returns.
func (w *world) serve(r *client.Room, opts client.WorkOptions, handle func(ctx context.Context, m *client.Message) (client.Answer, error)) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done, ready := make(chan struct{}), make(chan struct{})
	opts.OnReady = func() { close(ready) }
	go func() {
		defer close(done)
		if err := r.Serve(ctx, opts, handle); err != nil && !errors.Is(err, bus.ErrClosed) && !errors.Is(err, bus.ErrNotMember) {
			w.t.Errorf("serve: %v", err)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case <-w.ctx().Done():
		w.t.Fatal("serving does not begin")
	}
}

func echo(_ context.Context, m *client.Message) (client.Answer, error) {
	if string(m.Body) == "fail" {
		return client.Answer{}, errors.New("cannot do that")
	}
	return client.Answer{Body: append([]byte("re: "), m.Body...), Headers: []client.Header{{Key: "kind", Value: "echo"}}}, nil
}

func TestRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]*bus.Policy{"persisted": nil, "live": livePolicy()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			r, err := alice.CreateRoom(w.ctx(), "ask", client.RoomOptions{Policy: policy})
			if err != nil {
				t.Fatal(err)
			}
			theirs := w.invite(r, bob)[0]
			w.serve(theirs, client.WorkOptions{Parallel: 4}, echo)

			// Many at once share one reader, and each gets its own.
			var calls sync.WaitGroup
			for i := range 50 {
				calls.Go(func() {
					body := fmt.Sprint("question ", i)
					m, err := r.Request(w.ctx(), []byte(body), client.RequestOptions{From: bob.ID()})
					if err != nil {
						t.Error(err)
						return
					}
					if string(m.Body) != "re: "+body || m.Sender != bob.ID() || m.Header("kind") != "echo" {
						t.Errorf("reply to %q: %+v", body, m)
					}
				})
			}
			calls.Wait()

			m, err := r.Request(w.ctx(), []byte("fail"), client.RequestOptions{})
			var failed *client.ReplyError
			if !errors.As(err, &failed) || bus.CodeOf(err) != bus.CodeRequestFailed || failed.Reason != "cannot do that" || failed.Reply != m || m.Sender != bob.ID() {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
}

func TestRequestWithoutReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "ask", bob)
	ctx, cancel := context.WithTimeout(w.ctx(), 200*time.Millisecond)
	defer cancel()
	_, err := r.Request(ctx, []byte("anybody?"), client.RequestOptions{})
	var none *client.NoReplyError
	if !errors.As(err, &none) || bus.CodeOf(err) != bus.CodeNoReply || !errors.Is(err, context.DeadlineExceeded) || none.Room != r.ID() || none.Lost != nil {
		t.Errorf("nobody answers: %v", err)
	}

	// Replies of others than the one who is asked do not count.
	w.serve(theirs[0], client.WorkOptions{}, echo)
	ctx, cancel = context.WithTimeout(w.ctx(), 300*time.Millisecond)
	defer cancel()
	if m, err := r.Request(ctx, []byte("alice?"), client.RequestOptions{From: alice.ID()}); !errors.Is(err, bus.ErrNoReply) {
		t.Errorf("somebody else answers: %+v, %v", m, err)
	}

	// Who may not read, or not write, hears that and does not wait.
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleReader); err != nil {
		t.Fatal(err)
	}
	if err := theirs[0].Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs[0].Request(w.ctx(), []byte("may I?"), client.RequestOptions{}); !errors.Is(err, bus.ErrForbidden) {
		t.Errorf("a reader asks: %v", err)
	}
	if err := r.Remove(w.ctx(), bob.ID().String()); err != nil {
		t.Fatal(err)
	}
	if err := theirs[0].Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs[0].Request(w.ctx(), []byte("hello?"), client.RequestOptions{}); !errors.Is(err, bus.ErrNotMember) {
		t.Errorf("somebody who was removed asks: %v", err)
	}
	if _, err := r.Request(w.ctx(), nil, client.RequestOptions{Headers: []client.Header{{Key: bus.HeaderReply, Value: "x"}}}); !errors.Is(err, bus.ErrUsage) {
		t.Errorf("a header with a meaning: %v", err)
	}
	w.close(alice)
	if _, err := r.Request(w.ctx(), nil, client.RequestOptions{}); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// A request that waits when its client is removed hears of it at once.
func TestRequestEndsWithTheMembership(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "ask", bob)
	in := w.read(r, client.Now)
	outcome := make(chan error, 1)
	go func() {
		_, err := theirs[0].Request(w.ctx(), []byte("hello?"), client.RequestOptions{})
		outcome <- err
	}()
	in.bodies(1)
	if err := r.Remove(w.ctx(), bob.ID().String()); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; !errors.Is(err, bus.ErrNotMember) {
		t.Errorf("%v", err)
	}
}

func TestSeveralReplies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	r, theirs := w.room(alice, "ask", bob, carol)
	for _, room := range theirs {
		w.serve(room, client.WorkOptions{}, echo)
	}
	for range 3 { // with the reader of the time before
		var from []bus.ID
		for m, err := range r.RequestAll(w.ctx(), []byte("all"), client.RequestOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if from = append(from, m.Sender); len(from) == 2 {
				break
			}
		}
		slices.SortFunc(from, func(a, b bus.ID) int { return slices.Compare(a[:], b[:]) })
		want := []bus.ID{bob.ID(), carol.ID()}
		slices.SortFunc(want, func(a, b bus.ID) int { return slices.Compare(a[:], b[:]) })
		if diff := cmp.Diff(want, from); diff != "" {
			t.Error(diff)
		}
	}
	// All of them have been heard when the time is over, and that is no failure.
	ctx, cancel := context.WithTimeout(w.ctx(), 500*time.Millisecond)
	defer cancel()
	n, failures := 0, 0
	for _, err := range r.RequestAll(ctx, []byte("fail"), client.RequestOptions{}) {
		if n++; errors.Is(err, bus.ErrRequestFailed) {
			failures++
		}
	}
	if n != 2 || failures != 2 {
		t.Errorf("%d replies, %d failures", n, failures)
	}
}

// Requests go to one room and are answered in another.
func TestRepliesComeInAnotherRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	in, theirIn := w.room(alice, "agent.in", bob)
	out, theirOut := w.room(alice, "agent.out", bob)
	ctx, cancel := context.WithCancel(w.ctx())
	done := make(chan error, 1)
	cur, err := theirIn[0].OpenCursor(w.ctx(), "worker", client.Start)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- theirIn[0].Work(ctx, client.WorkOptions{Cursor: cur}, func(ctx context.Context, m *client.Message) error {
			_, err := m.ReplyIn(ctx, theirOut[0], []byte(strings.ToUpper(string(m.Body))))
			return err
		})
	}()
	m, err := in.Request(w.ctx(), []byte("hello"), client.RequestOptions{In: out})
	if err != nil || string(m.Body) != "HELLO" || m.Room != out.ID() {
		t.Errorf("%+v, %v", m, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := m.Reply(w.ctx(), nil); !errors.Is(err, bus.ErrUsage) {
		t.Errorf("a reply to a reply: %v", err)
	}
}
