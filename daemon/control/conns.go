package control

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/enmanuel/unibus/daemon/lobby"
	"github.com/enmanuel/unibus/daemon/metrics"
)

// LimitConns returns a listener with the connections of l, up to the bounds of
// [Config].Limits. Those beyond are closed at once, so that a client tries
// another node instead of waiting. TLS belongs above it: a handshake costs more
// than what it protects from.
func (s *Server) LimitConns(l net.Listener) net.Listener {
	limited := &limitedListener{Listener: l, server: s, from: make(map[netip.Addr]int)}
	limits := s.cfg.Limits
	limited.lobby = lobby.New(limits.Strangers, limits.AddressStrangers, limited.evicted)
	return limited
}

type limitedListener struct {
	net.Listener
	server *Server
	lobby  *lobby.Lobby

	mu   sync.Mutex
	all  int
	from map[netip.Addr]int // none is zero
	told time.Time          // when the operator last heard of it

	toldOfStrangers time.Time
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := lobby.Source(conn.RemoteAddr().String())
		if l.take(from) {
			closed := l.server.cfg.Metrics.ConnOpened(metrics.Control)
			guest := l.lobby.Enter(from, func() {
				if err := conn.Close(); err != nil {
					l.server.log.Debug("close connection of a stranger", "error", err)
				}
			})
			return &limitedConn{Conn: conn, guest: guest, release: sync.OnceFunc(func() { guest.Leave(); l.release(from); closed() })}, nil
		}
		if err := conn.Close(); err != nil {
			l.server.log.Debug("close connection beyond the limit", "error", err)
		}
	}
}

// evicted tells the operator that strangers had to make room.
func (l *limitedListener) evicted(from netip.Addr) {
	l.server.cfg.Metrics.ConnRefused(metrics.Control, metrics.ReasonStranger)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.server.cfg.Now(); l.toldOfStrangers.IsZero() || now.Sub(l.toldOfStrangers) >= tellEvery {
		l.toldOfStrangers = now
		l.server.log.Warn("strangers crowd; the oldest of their connections are closed", "remote", from, "waiting", l.lobby.Waiting())
	}
}

// take counts one more connection, or refuses it.
func (l *limitedListener) take(from netip.Addr) bool {
	limits := l.server.cfg.Limits
	l.mu.Lock()
	defer l.mu.Unlock()
	why := metrics.ReasonLimit
	refused := over(l.all+1, limits.Connections)
	if !refused && !l.server.trusts(from) && over(l.from[from]+1, limits.AddressConnections) {
		refused, why = true, metrics.ReasonAddressLimit
	}
	if refused {
		l.server.cfg.Metrics.ConnRefused(metrics.Control, why)
		if now := l.server.cfg.Now(); l.told.IsZero() || now.Sub(l.told) >= tellEvery {
			l.told = now
			l.server.log.Warn("too many connections", "remote", from, "of_it", l.from[from], "all", l.all)
		}
		return false
	}
	l.all++
	l.from[from]++
	return true
}

func (l *limitedListener) release(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.from[from]--; l.from[from] == 0 {
		delete(l.from, from)
	}
}

// limitedConn counts until it is closed.
type limitedConn struct {
	net.Conn
	guest   *lobby.Guest
	release func()
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	// First, so that whoever sees the end of it finds its place free.
	c.release()
	return c.Conn.Close()
}

// CloseWrite lets the HTTP server end a connection such that the client still
// gets the last reply, as it does with any other TCP connection.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// guestKey is where the context of a connection has its place in the lobby.
type guestKey struct{}

// withGuest puts the place of a limited connection into its context.
func withGuest(ctx context.Context, conn net.Conn) context.Context {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS is above
		conn = secured.NetConn()
	}
	if limited, ok := conn.(*limitedConn); ok {
		return context.WithValue(ctx, guestKey{}, limited.guest)
	}
	return ctx
}

// known takes the connection of a request out of the lobby.
func known(ctx context.Context) {
	if guest, ok := ctx.Value(guestKey{}).(*lobby.Guest); ok {
		guest.Admit()
	}
}
