package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// Whatever was taken before Close has its outcome when it returns, and nothing
// is taken after.
func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "log", bob)
	const senders = 4
	var mu sync.Mutex
	var taken []client.Pending
	var wait sync.WaitGroup
	begun := make(chan struct{}, senders)
	for i := range senders {
		wait.Go(func() {
			for n := 0; ; n++ {
				p, err := r.PublishAsync(context.Background(), fmt.Appendf(nil, "%d/%d", i, n))
				if err != nil {
					if !errors.Is(err, bus.ErrClosed) {
						t.Errorf("publish: %v", err)
					}
					return
				}
				mu.Lock()
				taken = append(taken, p)
				mu.Unlock()
				if n == 100 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range senders {
		<-begun
	}
	w.close(alice)
	mu.Lock()
	for i, p := range taken {
		select {
		case <-p.Done():
			if err := p.Err(); err != nil {
				t.Fatalf("message %d of %d: %v", i, len(taken), err)
			}
		default:
			t.Fatalf("message %d of %d has no outcome", i, len(taken))
		}
	}
	mu.Unlock()
	wait.Wait()
	if _, err := r.Publish(w.ctx(), nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publish after close: %v", err)
	}
	n := 0
	for _, err := range theirs[0].Messages(w.ctx(), client.Stored) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != len(taken) {
		t.Errorf("%d stored, %d taken", n, len(taken))
	}
}

// While there is no node Close gives up with its context: what was never sent is
// refused, and what was taken has an outcome.
func TestCloseWithoutANode(t *testing.T) {
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
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := alice.Close(ctx); !errors.Is(err, bus.ErrUnknownOutcome) || errors.Is(err, bus.ErrTimeout) {
		t.Errorf("close: %v", err)
	}
	if _, err := p.Wait(w.ctx()); !errors.Is(err, bus.ErrClosed) && !errors.Is(err, bus.ErrUnknownOutcome) {
		t.Errorf("outcome %v", err)
	}
	w.start()
}

// A server that takes connections and says nothing does not hold up Close, which
// may be called from several goroutines and again.
func TestCloseDuringReconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hung := make(chan net.Conn, 100)
	go func() {
		defer close(hung)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			hung <- conn
		}
	}()
	down := make(chan struct{}, 100)
	alice := w.dial(w.addUser("alice"), func(c *client.Config) {
		c.Servers = append(c.Servers, "nats://"+l.Addr().String())
		c.DialTimeout = time.Minute
		c.OnEvent = func(e client.Event) {
			if e.Kind == client.EventDisconnected {
				down <- struct{}{}
			}
		}
	})
	r, _ := w.room(alice, "log")
	cur, err := r.OpenCursor(w.ctx(), "worker", client.Start)
	if err != nil {
		t.Fatal(err)
	}
	in := w.read(r, client.Now)
	w.stop()
	<-down
	conn := <-hung // it waits for the server's first word
	defer conn.Close()
	errs := make(chan error, 3)
	for range 3 {
		go func() { errs <- alice.Close(w.ctx()) }()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := alice.Close(w.ctx()); err != nil {
		t.Errorf("close again: %v", err)
	}
	in.failure(bus.ErrClosed)
	select {
	case <-alice.Done():
	default:
		t.Error("not done")
	}
	if err := cur.Close(); err != nil {
		t.Error(err)
	}
	l.Close()
	for conn := range hung {
		conn.Close()
	}
	w.start()
}

// A callback that does not return is given a second more than the context.
func TestCloseDoesNotWaitForCallbacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hold := make(chan struct{})
	told := make(chan struct{}, 100)
	alice := w.dial(w.addUser("alice"), func(c *client.Config) {
		c.OnEvent = func(client.Event) { told <- struct{}{}; <-hold }
	})
	<-told
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := alice.Close(ctx); !errors.Is(err, bus.ErrTimeout) {
		t.Errorf("close: %v", err)
	}
	close(hold)
	w.close(alice)
}
