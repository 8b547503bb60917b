package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// pingInterval is how often the connection is tried; after two pings without
	// an answer it counts as broken.
	pingInterval = 1500 * time.Millisecond
	maxPings     = 2
	// reconnectFirst and reconnectMax bound the pause after all servers were
	// tried in vain. Half of it is random, so that clients of a dead node do not
	// come back all at once.
	reconnectFirst = 50 * time.Millisecond
	reconnectMax   = 2 * time.Second
	// admitWait is how long a server may refuse somebody whose card the control
	// plane has just taken: the other nodes hear of it a little later.
	admitWait = 5 * time.Second
	// expelTries is how many answers of the control plane in a row it takes to
	// believe that this client is not wanted any more.
	expelTries = 3
)

// link is the NATS connection and what is known about it.
type link struct {
	client   *Client
	up       atomic.Bool // there is a connection, as far as was heard
	probing  atomic.Bool
	expelled atomic.Int32 // answers in a row that this client may not connect

	mu       sync.Mutex
	told     error         // the last refusal that was told on
	heard    chan struct{} // closed, and replaced, when told changes
	watchers map[string]*denialWatch
}

// denialWatch wants to know that a server refused to let it subscribe.
type denialWatch struct {
	denied func(error)
}

func newLink(c *Client) *link {
	return &link{client: c, heard: make(chan struct{}), watchers: map[string]*denialWatch{}}
}

// connect makes the first connection, trying for as long as ctx allows.
func (l *link) connect(ctx context.Context) error {
	pause := reconnectFirst
	var refusedSince time.Time
	for {
		nc, err := l.options(ctx).Connect()
		if err == nil {
			l.client.nc = nc
			l.up.Store(true)
			l.client.events.raise(EventConnected, bus.RoomID{}, nil, nc.ConnectedUrlRedacted())
			return nil
		}
		switch {
		case errors.Is(err, bus.ErrNonceRefused):
			return err
		case !isAuthError(err):
			refusedSince = time.Time{}
		case refusedSince.IsZero():
			refusedSince = time.Now()
		case time.Since(refusedSince) > admitWait:
			return bus.Errorf(bus.CodeUnauthenticated, "connect: %w", err)
		}
		if !sleep(ctx, pause/2+rand.N(pause/2)) {
			return bus.Errorf(bus.CodeUnavailable, "connect to %s: no server answered in time: %v%w", strings.Join(l.client.config.Servers, ", "), err, unsaid{ctx.Err()})
		}
		pause = min(2*pause, reconnectMax)
	}
}

func isAuthError(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}

// options are those of the connection.
func (l *link) options(ctx context.Context) nats.Options {
	c := l.client
	o := nats.GetDefaultOptions()
	o.Servers = slices.Clone(c.config.Servers)
	o.NoRandomize = true
	o.IgnoreDiscoveredServers = true
	o.Name = c.session.String()
	o.TLSConfig = c.tlsConfig()
	o.Secure = c.config.CA != nil
	o.Nkey = c.transport.NKey()
	o.SignatureCB = l.sign
	o.InboxPrefix = c.inbox
	o.Timeout = c.config.DialTimeout
	if deadline, ok := ctx.Deadline(); ok {
		o.Timeout = max(min(o.Timeout, time.Until(deadline)), time.Millisecond)
	}
	o.SkipHostLookup = true // the dialer does, and can be interrupted
	o.CustomDialer = &dialer{ctx: c.ctx, net: net.Dialer{Timeout: o.Timeout}}
	o.PingInterval, o.MaxPingsOut = pingInterval, maxPings
	o.MaxReconnect = -1
	o.CustomReconnectDelayCB = reconnectDelay
	o.IgnoreAuthErrorAbort = true
	// Nothing is kept while there is no connection: frames have their own retry,
	// which must know what was sent.
	o.ReconnectBufSize = -1
	o.ReconnectOnFlusherError = true
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { l.hear(err) }
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		l.up.Store(false)
		if c.ctx.Err() == nil {
			c.events.raise(EventDisconnected, bus.RoomID{}, err, "")
		}
	}
	o.ReconnectedCB = l.reconnected
	o.ReconnectErrCB = func(_ *nats.Conn, err error) { c.log.Debug("client", "reconnect", err) }
	o.ClosedCB = func(nc *nats.Conn) {
		if c.ctx.Err() == nil {
			c.fail(bus.Errorf(bus.CodeClosed, "the connection is closed for good: %w", nc.LastError()))
		}
	}
	return o
}

// dialer makes connections that end with a context at the latest: nats.go holds
// its lock while it connects, so that closing would wait for a server that is
// slow to answer.
type dialer struct {
	ctx context.Context
	net net.Dialer
}

// Dial implements [nats.CustomDialer].
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.net.DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &boundConn{conn, context.AfterFunc(d.ctx, func() { conn.Close() })}, nil
}

// boundConn is a connection that somebody else may close too.
type boundConn struct {
	net.Conn
	unbind func() bool
}

// Close implements [net.Conn].
func (b *boundConn) Close() error {
	b.unbind()
	return b.Conn.Close()
}

// sign answers the challenge of a server, and nothing that is not one.
func (l *link) sign(nonce []byte) ([]byte, error) {
	sig, err := l.client.transport.SignNonce(nonce)
	if err != nil {
		l.client.events.raise(EventSecurity, bus.RoomID{}, err, "")
	}
	return sig, err
}

// reconnectDelay is the pause after all servers were tried n times in vain.
func reconnectDelay(n int) time.Duration {
	d := min(reconnectFirst<<min(n-1, 16), reconnectMax)
	return d/2 + rand.N(d/2)
}

// reconnected has everything that a connection carried made or sent again.
func (l *link) reconnected(nc *nats.Conn) {
	c := l.client
	l.up.Store(true)
	l.expelled.Store(0)
	c.events.raise(EventConnected, bus.RoomID{}, nil, nc.ConnectedUrlRedacted())
	c.follower.reconnected()
	for _, r := range c.loaded() {
		r.pub.answer(answer{kind: answerReconnect})
		r.live.reconnected()
	}
	c.spawn(c.checkRooms)
}

// refused finds out whether a node that does not let the client in speaks for
// the bus. A node that is behind, or on its own, refuses everybody; the control
// plane then says something else, or nothing.
func (l *link) refused(err error) {
	if !l.probing.CompareAndSwap(false, true) {
		return
	}
	l.client.spawn(func() {
		defer l.probing.Store(false)
		_, err := l.client.heads(l.client.ctx)
		switch code := bus.CodeOf(err); code {
		case bus.CodeRevoked:
			l.client.fail(err)
		case bus.CodeUnauthenticated, bus.CodeForbidden:
			if l.expelled.Add(1) >= expelTries {
				l.client.fail(err)
			}
		default:
			l.expelled.Store(0)
		}
	})
}

// refusedSubject finds the subject in a server's refusal.
var refusedSubject = regexp.MustCompile(`(?i)(publish|subscription) to "(\S+)"`)

// hear takes in what the connection reports apart from any call.
func (l *link) hear(err error) {
	c := l.client
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
	case c.ctx.Err() != nil:
		return
	case isAuthError(err):
		l.refused(err)
		return
	default:
		c.log.Warn("client", "connection", err)
		return
	}
	l.deny(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = err
	close(l.heard)
	l.heard = make(chan struct{})
}

// deny tells whoever used the refused subject.
func (l *link) deny(err error) {
	c := l.client
	reason := bus.Errorf(bus.CodeForbidden, "the server refused it: %w", err)
	match := refusedSubject.FindStringSubmatch(err.Error())
	if match == nil {
		c.events.raise(EventDenied, bus.RoomID{}, reason, "")
		return
	}
	subject := match[2]
	l.mu.Lock()
	watch, ok := l.watchers[subject]
	l.mu.Unlock()
	if ok {
		watch.denied(reason)
		return
	}
	for _, r := range c.loaded() {
		if subject == bus.DataSubject(r.id, c.id, true) || subject == bus.DataSubject(r.id, c.id, false) {
			r.pub.answer(answer{kind: answerDenied, denied: reason})
			return
		}
	}
	c.events.raise(EventDenied, bus.RoomID{}, reason, "")
}

// watch has denied called when a server refuses the subject.
func (l *link) watch(subject string, denied func(error)) (stop func()) {
	w := &denialWatch{denied}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers[subject] = w
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.watchers[subject] == w {
			delete(l.watchers, subject)
		}
	}
}

// settleDenials waits until the last refusal that the connection has read was
// told on: nats.go reports refusals from another goroutine than it flushes in.
func (l *link) settleDenials(ctx context.Context) error {
	for {
		last := l.client.nc.LastError()
		l.mu.Lock()
		told, heard := l.told, l.heard
		l.mu.Unlock()
		if !errors.Is(last, nats.ErrPermissionViolation) || last == told {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return bus.Errorf(bus.CodeTimeout, "flush: %w", ctx.Err())
		}
	}
}

func (l *link) close() {
	if nc := l.client.nc; nc != nil {
		nc.Close()
	}
}

// online reports whether there is a connection.
//
// It asks nobody: nats.go holds its lock for as long as it tries to connect.
func (c *Client) online() bool { return c.link.up.Load() }

// connections returns how many connections were made so far. It changes before
// anything is sent on a new one.
func (c *Client) connections() uint64 { return c.nc.Stats().Reconnects + 1 }

// heads asks the control plane for the heads of the client's rooms.
func (c *Client) heads(ctx context.Context) ([]api.RoomHead, error) {
	var list api.RoomList
	err := c.control.call(ctx, "GET", api.RoomsPath(), nil, &list)
	return list.Rooms, err
}
