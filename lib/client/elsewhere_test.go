package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// While a member reads a live room, it is added to another room, which loses it
// nothing, and removed from that, which cuts its connection: what that costs in
// the live room is told exactly.
func TestALiveStreamWhileMembershipElsewhereChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, carol := w.user("alice"), w.user("carol")
	var cuts atomic.Int32
	bob := w.dial(w.addUser("bob"), func(c *client.Config) {
		c.OnEvent = func(e client.Event) {
			if e.Kind == client.EventDisconnected {
				cuts.Add(1)
			}
		}
	})
	live, err := alice.CreateRoom(w.ctx(), "live", client.RoomOptions{Policy: livePolicy()})
	if err != nil {
		t.Fatal(err)
	}
	in := w.read(w.invite(live, bob)[0], client.Now)
	other, err := carol.CreateRoom(w.ctx(), "other", client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}

	// A message a frame, each when the one before has reached the server.
	ctx, stop := context.WithCancel(w.ctx())
	defer stop()
	sent := make(chan int, 1)
	go func() {
		n := 0
		defer func() { sent <- n }()
		for ; ctx.Err() == nil; n++ {
			if _, err := live.Publish(w.ctx(), fmt.Append(nil, n)); err != nil {
				t.Errorf("publish %d: %v", n, err)
				return
			}
		}
	}()
	more := func(what string) {
		t.Helper()
		in.mu.Lock()
		n := len(in.msgs)
		in.mu.Unlock()
		in.wait("messages "+what, func() bool { return len(in.msgs) >= n+100 })
	}
	more("at first")
	theirs := w.invite(other, bob)[0]
	more("after it was added")
	publish(t, w, other, "hello")
	if got := w.read(theirs, client.Start).bodies(1); got[0] != "hello" {
		t.Errorf("read %q", got)
	}
	in.mu.Lock()
	if len(in.errs) > 0 || cuts.Load() > 0 {
		t.Errorf("being added cost %d connections: %v", cuts.Load(), errors.Join(in.errs...))
	}
	in.mu.Unlock()
	if err := other.Remove(w.ctx(), bob.ID().String()); err != nil {
		t.Fatal(err)
	}
	more("after it was removed")
	stop()
	total := <-sent
	publish(t, w, live, "last")
	in.wait("the last message", func() bool {
		return len(in.msgs) > 0 && string(in.msgs[len(in.msgs)-1].Body) == "last"
	})
	if cuts.Load() == 0 {
		t.Error("being removed cut no connection")
	}

	// Every frame was delivered, or is in one gap.
	times := map[bus.Seq]int{}
	for _, m := range in.msgs {
		times[m.Seq]++
	}
	missing := 0
	for _, err := range in.errs {
		var gap *client.GapError
		if !errors.As(err, &gap) {
			t.Errorf("%v", err)
			continue
		}
		for seq := gap.From; seq <= gap.To; seq++ {
			times[seq]++
			missing++
		}
	}
	for seq := range bus.Seq(total + 1) {
		if times[seq] != 1 {
			t.Errorf("frame %d was accounted for %d times", seq, times[seq])
		}
	}
	if len(times) != total+1 {
		t.Errorf("%d frames, %d were sent", len(times), total+1)
	}
	t.Logf("%d delivered, %d in gaps, %d sent", len(in.msgs), missing, total+1)
}
