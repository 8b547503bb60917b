package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// A reader of a persisted room that stalls far beyond what is kept for it, and
// whose consumers the server deletes meanwhile, goes on where it was.
func TestAStalledReaderLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.bob.limits.frames, p.bob.limits.bytes = 16, 64<<10
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	messages := p.theirs.Messages(ctx, Now)
	const total = 160
	sent := 0
	send := func(n int) {
		for range n {
			if _, err := p.room.Publish(ctx, fmt.Append(nil, sent)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	// As when nobody has fetched from them for longer than they live.
	cursors := func(req api.CursorRequest) {
		t.Helper()
		req.Session = p.bob.session
		if err := p.bob.control.call(ctx, http.MethodPost, api.CursorsPath(), req, nil); err != nil {
			t.Fatal(err)
		}
	}
	shard := bus.Shard(p.room.id)
	send(total / 2)
	cursors(api.CursorRequest{Tail: []api.TailShard{{Shard: shard}}})
	send(total / 4)
	n := 0
	for m, err := range messages {
		if err != nil || string(m.Body) != fmt.Sprint(n) {
			t.Fatalf("message %d: %v, %v", n, m, err)
		}
		switch n++; n {
		case 30, 50, 70:
			cursors(api.CursorRequest{CatchUp: []api.CatchUp{{Slot: 0, Room: p.room.id, From: 1}}})
		case 90:
			cursors(api.CursorRequest{Tail: []api.TailShard{{Shard: shard}}})
			send(total / 4)
		}
		if n == total {
			break
		}
	}
	if n != total {
		t.Fatalf("read %d of %d", n, total)
	}
}

// What a reader of a live room is too slow for is lost, and told exactly.
func TestAStalledLiveReaderIsToldWhatItLost(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	policy := bus.DefaultPolicy()
	policy.Flags &^= bus.FlagPersist
	r, err := p.alice.CreateRoom(ctx, "live", RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Invite(ctx, "bob", bus.RoleWriter); err != nil {
		t.Fatal(err)
	}
	theirs, err := p.bob.AcceptRoom(ctx, r.id)
	if err != nil {
		t.Fatal(err)
	}
	p.bob.limits.live = 4 << 10
	messages := theirs.Messages(ctx, Now)
	theirs.live.mu.Lock()
	f := theirs.live.feeds[0]
	theirs.live.mu.Unlock()
	sent, read, missing, gaps := 0, 0, 0, 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	// send sends n messages and returns how many wait when all are kept or dropped.
	send := func(n int) (queued int) {
		for range n {
			if _, err := r.Publish(ctx, fmt.Append(nil, sent)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		for dropped := 0; read+queued+dropped < sent; <-tick.C {
			if ctx.Err() != nil {
				t.Fatalf("%d of %d came", read+queued+dropped, sent)
			}
			f.mu.Lock()
			queued, dropped = len(f.queue.frames), f.breaks
			f.mu.Unlock()
		}
		return queued
	}
	next, stop := iter.Pull2(messages)
	defer stop()
	take := func() {
		t.Helper()
		for {
			_, err, ok := next()
			gap, isGap := errors.AsType[*GapError](err)
			switch {
			case isGap:
				gaps++
				missing += int(gap.To-gap.From) + 1
				continue
			case err != nil || !ok:
				t.Fatalf("after %d messages: %v", read, err)
			}
			read++
			return
		}
	}
	const stalls, each = 3, 60
	began := time.Now()
	for range stalls {
		for range send(each) { // nobody reads meanwhile
			take()
		}
		send(1) // what comes next shows what is missing before it
		take()
	}
	if gaps != stalls || missing == 0 || read+missing != sent {
		t.Errorf("read %d, %d are said to be missing in %d gaps, %d were sent", read, missing, gaps, sent)
	}
	if waited := time.Since(began); waited > bus.ReorderWait {
		t.Errorf("the gaps were told after %s", waited)
	}
}
