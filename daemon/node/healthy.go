package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// Healthy finds out whether the node works, for a watchdog: it may serve, its
// store answers a read, its streams take writes, and its own socket answers. It
// returns when ctx ends even where something hangs; errors have
// [bus.CodeUnavailable].
func (n *Node) Healthy(ctx context.Context) error {
	if err := n.Ready(); err != nil {
		return err
	}
	// What hangs may do so for ever: one probe at a time is enough of it.
	if !n.probing.CompareAndSwap(false, true) {
		return bus.Errorf(bus.CodeUnavailable, "check health: the last look has not come back")
	}
	done := make(chan error, 1)
	go func() {
		defer n.probing.Store(false)
		done <- errors.Join(n.probeStore(ctx), n.probeStreams(), n.probeSocket(ctx))
	}()
	select {
	case err := <-done:
		if err != nil {
			return bus.Errorf(bus.CodeUnavailable, "check health: %w", err)
		}
		return nil
	case <-ctx.Done():
		return bus.Errorf(bus.CodeUnavailable, "check health: no answer: %w", ctx.Err())
	}
}

func (n *Node) probeStore(ctx context.Context) error {
	_, err := n.store.Get(ctx, store.Control, busKey)
	return err
}

func (n *Node) probeStreams() error {
	if !n.broker.Posture().JetStream {
		return errors.New("streams take no writes")
	}
	return nil
}

// probeSocket asks the control plane as anybody would.
func (n *Node) probeSocket(ctx context.Context) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", n.cfg.Socket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://local"+api.ReadyPath(), nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask local socket: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask local socket: it answers %d", resp.StatusCode)
	}
	return nil
}
