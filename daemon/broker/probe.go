package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Seen is what a stranger meets at the listener for members.
type Seen struct {
	TLS    bool // it insists on TLS, and the handshake works
	Denied bool // a connection without proof of identity is refused
}

// Probe comes to the own listener as a stranger and says what it met. It is not
// logged or counted as one who was denied.
func (b *Broker) Probe(ctx context.Context) (Seen, error) {
	b.mu.Lock()
	g := b.gate
	b.mu.Unlock()
	if g == nil {
		return Seen{}, fmt.Errorf("look at own listener: it is not open")
	}
	seen, err := b.probe(ctx, DialAddress(g.listener.Addr()))
	if err != nil {
		return Seen{}, fmt.Errorf("look at own listener: %w", err)
	}
	return seen, nil
}

func (b *Broker) probe(ctx context.Context, addr string) (seen Seen, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return seen, err
	}
	defer conn.Close()
	defer b.own.add(conn.LocalAddr().String())()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(authTimeout)); err != nil {
		return seen, err
	}
	// The server says nothing more until it is answered.
	line, err := bufio.NewReaderSize(conn, 4<<10).ReadBytes('\n')
	if err != nil {
		return seen, err
	}
	var info serverInfo
	if err := json.Unmarshal(bytes.TrimPrefix(line, []byte("INFO ")), &info); err != nil {
		return seen, err
	}
	if info.TLSRequired {
		// What is looked at is whether it is there, not whom it names.
		secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		if err := secured.HandshakeContext(ctx); err != nil {
			return seen, err
		}
		conn, seen.TLS = secured, true
	}
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":false}\r\nPING\r\n")); err != nil {
		return seen, err
	}
	// The answer is the server's error or, from one that lets everybody in, PONG.
	answers := bufio.NewReaderSize(conn, 4<<10)
	for {
		line, err := answers.ReadString('\n')
		switch {
		case strings.HasPrefix(line, "-ERR") && strings.Contains(line, "Authorization"):
			seen.Denied = true
			return seen, nil
		case strings.HasPrefix(line, "PONG"):
			return seen, nil
		case err != nil:
			return seen, fmt.Errorf("it hung up without a word: %w", err)
		}
	}
}

// addresses are those that the node's own probes come from.
type addresses struct {
	set sync.Map
}

// add notes one until done is called.
func (a *addresses) add(addr string) (done func()) {
	a.set.Store(addr, nil)
	return func() { a.set.Delete(addr) }
}

// Probing reports whether a remote address is that of a probe of this node,
// whose denial is no news.
func (b *Broker) Probing(remote string) bool { return b.own.has(remote) }

func (a *addresses) has(addr string) bool {
	_, ok := a.set.Load(addr)
	return ok
}

// in reports whether a text speaks of one of them.
func (a *addresses) in(text string) (found bool) {
	a.set.Range(func(addr, _ any) bool {
		found = strings.Contains(text, `"`+addr.(string)+`"`)
		return !found
	})
	return found
}
