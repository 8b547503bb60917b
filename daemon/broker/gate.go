package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/daemon/lobby"
	"github.com/enmanuel/unibus/daemon/metrics"
)

// gate accepts members' connections and joins each to the server inside the
// process, through a [filter]. It does TLS, as the server would: the first
// message goes out in the clear, then both sides turn to TLS.
type gate struct {
	log      *slog.Logger
	metrics  *metrics.Metrics
	tls      *tls.Config
	mark     string
	dial     func() (net.Conn, error) // to the server
	listener net.Listener

	lobby *lobby.Lobby

	ledger  Ledger     // nil without limits of rooms
	answers *nats.Conn // brings the answers to what the ledger refuses

	running sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	guests  map[string]*lobby.Guest // by remote address, those not known yet
	told    time.Time               // when the operator last heard of a crowd
	closed  bool
}

// serve accepts until close is called.
func (g *gate) serve() {
	g.running.Go(func() {
		for {
			conn, err := g.listener.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil: // out of file descriptors, most likely
				g.log.Error("accepting a member's connection failed", "error", err)
				time.Sleep(acceptPause)
			default:
				g.running.Go(func() { g.handle(conn) })
			}
		}
	})
}

// acceptPause keeps a failing listener from spinning.
const acceptPause = 50 * time.Millisecond

// close ends every connection and returns when the gate has come to rest.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.listener.Close()
	for conn := range g.conns {
		conn.Close()
	}
	g.mu.Unlock()
	g.running.Wait()
}

// track registers a connection for close, and reports whether it may live.
func (g *gate) track(conn net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.conns[conn] = struct{}{}
	}
	return !g.closed
}

func (g *gate) untrack(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, conn)
}

// welcome takes a connection into the lobby until it ends or its member is known.
func (g *gate) welcome(conn net.Conn) (leave func()) {
	remote := conn.RemoteAddr().String()
	guest := g.lobby.Enter(lobby.Source(remote), func() { conn.Close() })
	g.mu.Lock()
	g.guests[remote] = guest
	g.mu.Unlock()
	return func() {
		guest.Leave()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.guests[remote] == guest {
			delete(g.guests, remote)
		}
	}
}

// known takes the connection from a remote address out of the lobby.
func (g *gate) known(remote string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if guest := g.guests[remote]; guest != nil {
		guest.Admit()
		delete(g.guests, remote)
	}
}

// tellEvery is how often the operator hears of a crowd.
const tellEvery = time.Minute

// evicted tells the operator that strangers had to make room.
func (g *gate) evicted(from netip.Addr) {
	g.metrics.ConnRefused(metrics.Data, metrics.ReasonStranger)
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); g.told.IsZero() || now.Sub(g.told) >= tellEvery {
		g.told = now
		g.log.Warn("strangers crowd; the oldest of their connections are closed", "remote", from, "waiting", g.lobby.Waiting())
	}
}

// handle joins a member's connection to the server until one of them ends.
func (g *gate) handle(conn net.Conn) {
	defer conn.Close()
	if !g.track(conn) {
		return
	}
	defer g.untrack(conn)
	defer g.welcome(conn)()
	defer g.metrics.ConnOpened(metrics.Data)()
	inside, err := g.dial()
	if err != nil {
		g.log.Error("joining a member's connection to the server failed", "remote", conn.RemoteAddr(), "error", err)
		return
	}
	defer inside.Close()
	if !g.track(inside) {
		return
	}
	defer g.untrack(inside)

	fromServer := bufio.NewReaderSize(inside, smallBuffer)
	member, err := g.greet(conn, fromServer)
	if err != nil {
		g.metrics.ConnRefused(metrics.Data, metrics.ReasonGreeting)
		g.log.Debug("greeting a member's connection failed", "remote", conn.RemoteAddr(), "error", err)
		return
	}
	var out sync.WaitGroup
	out.Go(func() {
		defer conn.Close() // ends the read below
		copyOut(member, fromServer, &meter{count: g.counted(metrics.Out)})
	})
	f := &filter{mark: g.mark, address: conn.RemoteAddr().String(), count: g.counted(metrics.In), quota: g.turnstile(conn.RemoteAddr().String())}
	if err := copyIn(inside, member, f); err != nil {
		g.metrics.ConnRefused(metrics.Data, metrics.ReasonProtocol)
		g.log.Warn("member's connection cut", "remote", conn.RemoteAddr(), "error", err)
	}
	// The server may have hung up with a word about why, which is to arrive.
	inside.Close()
	out.Wait()
}

// counted returns what counts frames that go one way.
func (g *gate) counted(d metrics.Direction) counting {
	return func(persisted bool, size int) { g.metrics.Frame(d, persisted, size) }
}

// greet passes on the server's first message and, where TLS is on, says so in
// it and does the handshake.
func (g *gate) greet(conn net.Conn, fromServer *bufio.Reader) (net.Conn, error) {
	first, err := fromServer.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(authTimeout)); err != nil {
		return nil, err
	}
	if g.tls == nil {
		if _, err := conn.Write(first); err != nil {
			return nil, err
		}
		return conn, conn.SetDeadline(time.Time{})
	}
	if first, err = requireTLS(first); err != nil {
		return nil, err
	}
	if _, err := conn.Write(first); err != nil {
		return nil, err
	}
	secured := tls.Server(conn, g.tls)
	if err := secured.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	return secured, conn.SetDeadline(time.Time{})
}

// requireTLS returns the INFO message with the demand for TLS in it.
func requireTLS(info []byte) ([]byte, error) {
	text, ok := bytes.CutPrefix(info, []byte("INFO "))
	if !ok {
		return nil, fmt.Errorf("the server did not begin with INFO")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("read INFO: %w", err)
	}
	fields["tls_required"] = json.RawMessage("true")
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("write INFO: %w", err)
	}
	return append(append([]byte("INFO "), text...), "\r\n"...), nil
}

// readBuffer grows with the traffic of its connection: most are idle.
type readBuffer struct {
	bytes []byte
	idle  int // reads in a row that would have fit into a small part of it
}

const (
	smallBuffer  = 4 << 10
	largeBuffer  = 64 << 10
	idleBuffered = 64
)

func newReadBuffer() readBuffer { return readBuffer{bytes: make([]byte, smallBuffer)} }

// used adapts the size after a read of n bytes, which must have been dealt with.
func (b *readBuffer) used(n int) {
	size := len(b.bytes)
	switch {
	case n == size && size < largeBuffer:
		b.bytes, b.idle = make([]byte, 2*size), 0
	case n > size/8 || size == smallBuffer:
		b.idle = 0
	case b.idle < idleBuffered:
		b.idle++
	default:
		b.bytes, b.idle = make([]byte, smallBuffer), 0
	}
}

// copyOut moves what the server sends to the member, past the meter, until
// either ends.
func copyOut(member net.Conn, fromServer *bufio.Reader, m *meter) {
	buf := newReadBuffer()
	for {
		n, err := fromServer.Read(buf.bytes)
		if n > 0 {
			// The server's own deadline does not reach beyond the gate.
			if member.SetWriteDeadline(time.Now().Add(writeDeadline)) != nil {
				return
			}
			if _, err := member.Write(buf.bytes[:n]); err != nil {
				return
			}
			m.pass(buf.bytes[:n])
		}
		if err != nil {
			return
		}
		buf.used(n)
	}
}

// copyIn moves what the filter lets pass to the server, until either ends. An
// error is one of the filter.
func copyIn(server, member net.Conn, f *filter) error {
	buf := newReadBuffer()
	var out []byte
	for {
		n, err := member.Read(buf.bytes)
		if n > 0 {
			var refused error
			out, refused = f.pass(out[:0], buf.bytes[:n])
			if len(out) > 0 {
				if _, err := server.Write(out); err != nil {
					return nil
				}
			}
			if refused != nil {
				return refused
			}
		}
		if err != nil {
			return nil
		}
		buf.used(n)
		if cap(out) > 4*len(buf.bytes) {
			out = nil
		}
	}
}
