package control

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/enmanuel/unibus/daemon/metrics"
)

// LimitConns returns a listener with the connections of l, up to the bounds of
// [Config].Limits. Those beyond are closed at once, so that a client tries
// another node instead of waiting. TLS belongs above it: a handshake costs more
// than what it protects from.
func (s *Server) LimitConns(l net.Listener) net.Listener {
	return &limitedListener{Listener: l, server: s, from: make(map[netip.Addr]int)}
}

type limitedListener struct {
	net.Listener
	server *Server

	mu   sync.Mutex
	all  int
	from map[netip.Addr]int // none is zero
	told time.Time          // when the operator last heard of it
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := sourceOf(conn.RemoteAddr().String())
		if l.take(from) {
			closed := l.server.cfg.Metrics.ConnOpened(metrics.Control)
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.release(from); closed() })}, nil
		}
		if err := conn.Close(); err != nil {
			l.server.log.Debug("close connection beyond the limit", "error", err)
		}
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
	release func()
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	defer c.release()
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
