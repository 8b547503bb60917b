package broker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// Posture is what the running server really does.
type Posture struct {
	JetStream  bool // streams can be written
	SyncAlways bool // messages are synced to disk before they are acknowledged
	TLS        bool // members must use TLS
	Auth       bool // strangers are asked for proof of identity
	Members    int  // open connections of members
}

// Posture looks at the running server.
func (b *Broker) Posture() Posture {
	p := Posture{JetStream: b.storeError() == nil, Members: b.Members().NumLocalConnections()}
	if config := b.srv.JetStreamConfig(); config != nil {
		p.SyncAlways = config.SyncAlways
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p.TLS, p.Auth = b.info.TLSRequired, b.info.AuthRequired
	for nc, account := range b.conns {
		if account == AccountBus && nc.IsConnected() {
			p.Members--
		}
	}
	return p
}

// ClientURL returns where members on this machine reach the server, "" before
// [Broker.Open].
func (b *Broker) ClientURL() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gate == nil {
		return ""
	}
	addr := b.gate.listener.Addr()
	if b.info.TLSRequired {
		return "tls://" + DialAddress(addr)
	}
	return "nats://" + DialAddress(addr)
}

// DialAddress returns addr with an address to dial in place of "all of them".
func DialAddress(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	local := *tcp
	local.IP = net.IPv4(127, 0, 0, 1)
	return local.String()
}

// serverInfo is the part of NATS's INFO message that matters here.
type serverInfo struct {
	AuthRequired bool   `json:"auth_required"`
	TLSRequired  bool   `json:"tls_required"`
	Nonce        string `json:"nonce"`
}

// readServerInfo connects as a stranger and reads what the server says first. A
// server that would let strangers in, or gives them nothing to sign, is an error.
func readServerInfo(addr string) (serverInfo, error) {
	var info serverInfo
	conn, err := net.DialTimeout("tcp", addr, authTimeout)
	if err != nil {
		return info, fmt.Errorf("look at own listener: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(authTimeout)); err != nil {
		return info, fmt.Errorf("look at own listener: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return info, fmt.Errorf("look at own listener: %w", err)
	}
	if err := json.Unmarshal(bytes.TrimPrefix(line, []byte("INFO ")), &info); err != nil {
		return info, fmt.Errorf("look at own listener: %w", err)
	}
	if !info.AuthRequired || info.Nonce == "" {
		return info, bus.Errorf(bus.CodePolicy, "look at own listener: it asks for no proof of identity")
	}
	return info, nil
}
