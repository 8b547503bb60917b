package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// latencies is how long something took, and how often it failed.
type latencies struct {
	mu     sync.Mutex
	took   []time.Duration
	failed int
	first  error
}

func (l *latencies) add(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.failed++; l.first == nil {
			l.first = err
		}
		return
	}
	l.took = append(l.took, took)
}

// summary is latencies in numbers.
type summary struct {
	OK     int     `json:"ok"`
	Failed int     `json:"failed"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
	Error  string  `json:"error,omitempty"` // the first
}

// take returns what there is so far and begins anew.
func (l *latencies) take() summary {
	l.mu.Lock()
	took, s := l.took, summary{OK: len(l.took), Failed: l.failed}
	if l.first != nil {
		s.Error = l.first.Error()
	}
	l.took, l.failed, l.first = nil, 0, nil
	l.mu.Unlock()
	if len(took) == 0 {
		return s
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(int(q*float64(len(took))), len(took)-1)].Microseconds()) / 1000
	}
	s.P50, s.P99, s.Max = at(0.5), at(0.99), at(1)
	return s
}

// member publishes, and newcomers sign in.
type member struct {
	dial      func(ctx context.Context, state string) (*client.Client, error)
	client    *client.Client
	room      *client.Room
	publishes latencies
	signIns   latencies
	running   sync.WaitGroup
	stop      context.CancelFunc
}

// patient is how long a member waits for one thing before it calls it failed.
const patient = 10 * time.Second

func newMember(ctx context.Context, ready nodeReady, busID bus.BusID, id *identity.Identity, ca *x509.CertPool, dir string) (*member, error) {
	m := &member{dial: func(ctx context.Context, state string) (*client.Client, error) {
		return client.Dial(ctx, client.Config{
			Servers: []string{"tls://" + ready.NATS}, URLs: []string{"https://" + ready.Control}, CA: ca,
			BusID: busID, Identity: id, StateDir: filepath.Join(dir, state),
		})
	}}
	var err error
	if m.client, err = m.dial(ctx, "member"); err != nil {
		return nil, err
	}
	m.room, err = m.client.CreateRoom(ctx, "steady", client.RoomOptions{})
	return m, err
}

// start publishes at a pace and signs in every second until finish.
func (m *member) start(ctx context.Context, pace time.Duration) {
	ctx, m.stop = context.WithCancel(ctx)
	m.running.Go(func() {
		m.every(ctx, pace, func(due time.Time, n int) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
			defer cancel()
			_, err := m.room.Publish(ctx, fmt.Appendf(nil, "message %d", n))
			m.publishes.add(time.Since(due), err)
		})
	})
	m.running.Go(func() {
		m.every(ctx, time.Second, func(due time.Time, _ int) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
			defer cancel()
			c, err := m.dial(ctx, "newcomer")
			m.signIns.add(time.Since(due), err)
			if err == nil {
				_ = c.Close(ctx) // what counts is that it came in
			}
		})
	})
}

// every runs f at a pace, whether or not the ones before have ended.
func (m *member) every(ctx context.Context, pace time.Duration, f func(due time.Time, n int)) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case due := <-tick.C:
			under.Go(func() { f(due, n) })
		}
	}
}

func (m *member) finish(ctx context.Context) error {
	m.stop()
	m.running.Wait()
	return m.client.Close(ctx)
}
