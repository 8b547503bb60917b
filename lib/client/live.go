package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
)

// liveHub is the one subscription to a live room, and the readers it serves.
type liveHub struct {
	room    *Room
	subject string

	starting sync.Mutex // held while the subscription is made

	mu      sync.Mutex
	feeds   []*feed
	sub     *nats.Subscription
	unwatch func()
	denied  error // of the subscription as it is
}

// sessionKey names a sender's session.
type sessionKey struct {
	sender  bus.ID
	session bus.SessionID
}

func newLiveHub(r *Room) *liveHub {
	return &liveHub{room: r, subject: bus.RoomSubject(r.id, false)}
}

// add begins to read and returns when everything sent later is sure to come.
func (h *liveHub) add(ctx context.Context) (*feed, error) {
	f := newFeed(h.room.id, h.room.client.limits, func() {})
	f.mode = feedFollowing
	h.mu.Lock()
	h.feeds = append(h.feeds, f)
	h.mu.Unlock()
	if err := h.subscribe(ctx); err != nil {
		h.remove(f)
		return nil, err
	}
	return f, nil
}

// remove ends reading for one reader, and the subscription with the last.
func (h *liveHub) remove(gone *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feeds = slices.DeleteFunc(h.feeds, func(f *feed) bool { return f == gone })
	if len(h.feeds) == 0 {
		h.drop()
	}
}

// drop ends the subscription. The caller holds h.mu.
func (h *liveHub) drop() {
	if h.sub != nil {
		h.unwatch()
		// It fails where the connection is closed, and the subscription with it.
		_ = h.sub.Unsubscribe()
		h.sub = nil
	}
}

// subscribe makes the subscription if there is none. A server that refuses it
// may not have heard of the room yet, so it is asked for a while.
func (h *liveHub) subscribe(ctx context.Context) error {
	h.starting.Lock()
	defer h.starting.Unlock()
	for began := time.Now(); ; {
		err := h.subscribeOnce(ctx)
		if bus.CodeOf(err) != bus.CodeForbidden || time.Since(began) > grantWait || !sleep(ctx, retryPause) {
			return err
		}
	}
}

func (h *liveHub) subscribeOnce(ctx context.Context) error {
	c := h.room.client
	h.mu.Lock()
	if h.sub != nil && h.denied == nil || len(h.feeds) == 0 {
		h.mu.Unlock()
		return nil
	}
	h.drop()
	h.denied = nil
	h.unwatch = c.link.watch(h.subject, h.refused)
	sub, err := c.nc.Subscribe(h.subject, h.receive)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // the handler never waits
	}
	if err != nil {
		h.unwatch()
		h.mu.Unlock()
		return bus.Errorf(bus.CodeUnavailable, "subscribe to room %s: %w", h.room.id, err)
	}
	h.sub = sub
	h.mu.Unlock()
	if err := c.flushServer(ctx, flushWait); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.denied
}

// refused takes in that the server does not let this client subscribe, at
// first or again after a reconnection.
func (h *liveHub) refused(err error) {
	h.mu.Lock()
	h.denied = err
	h.mu.Unlock()
	h.room.client.spawn(func() {
		err := h.subscribe(h.room.client.ctx)
		if err == nil {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, f := range h.feeds {
			f.stop(err)
		}
	})
}

// reconnected takes in that there was no connection for a while.
func (h *liveHub) reconnected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.feeds {
		f.broke()
	}
}

func (h *liveHub) receive(msg *nats.Msg) {
	room, sender, persisted, ok := bus.ParseDataSubject(msg.Subject)
	if !ok || persisted || room != h.room.id.Token() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	shareFrame(rawFrame{sender: sender, data: msg.Data}, h.feeds, (*feed).offerLive)
}
