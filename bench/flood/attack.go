package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/httpsig"
	"github.com/enmanuel/unibus/lib/identity"
)

// attackSetup is what the strangers' process is told.
type attackSetup struct {
	Kind          string
	Control, NATS string
	Sources       int // addresses to come from: 127.0.0.1 alone, or as many from 127.0.1.1 on
	Count         int // connections or bodies
	Rate          int // a second, of requests, logins and connections that are opened
}

// attackResult is what it did.
type attackResult struct {
	Tried  int64 `json:"tried"`  // connections, requests or logins
	Closed int64 `json:"closed"` // by the node, or never let in
	Held   int64 `json:"held"`   // open at the end
}

// strangers flood until their context ends.
type strangers struct {
	attackSetup
	busID   bus.BusID
	next    atomic.Int64
	tried   atomic.Int64
	closed  atomic.Int64
	held    atomic.Int64
	pending sync.WaitGroup
}

// floods are the kinds there are.
var floods = map[string]func(*strangers, context.Context){
	"silent":         (*strangers).silent,
	"slow-bodies":    (*strangers).slowBodies,
	"bad-signatures": (*strangers).badSignatures,
	"bad-logins":     (*strangers).badLogins,
}

func beStrangers(c *cli.Call) error {
	s := &strangers{}
	if err := setupOf(c, &s.attackSetup); err != nil {
		return err
	}
	raiseFiles(files)
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10); err != nil {
		return fmt.Errorf("lower own priority: %w", err)
	}
	flood, ok := floods[s.Kind]
	if !ok {
		return cli.Usagef("there is no flood %q", s.Kind)
	}
	ctx, stop := context.WithCancel(c.Context)
	done := make(chan struct{})
	go func() { flood(s, ctx); close(done) }()
	// One line of input asks for the result; then it is over.
	in := bufio.NewScanner(c.Env.Stdin)
	if in.Scan() {
		if err := tell(c, attackResult{s.tried.Load(), s.closed.Load(), s.held.Load()}); err != nil {
			stop()
			return err
		}
	}
	stop()
	<-done
	s.pending.Wait()
	return nil
}

// dial connects from the next of the addresses.
func (s *strangers) dial(ctx context.Context, addr string) (net.Conn, error) {
	n := int(s.next.Add(1))
	from := net.IPv4(127, 0, 0, 1)
	if s.Sources > 1 {
		from = net.IPv4(127, 0, byte(1+n%s.Sources/250), byte(1+n%s.Sources%250))
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 10 * time.Second}
	s.tried.Add(1)
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil && ctx.Err() == nil {
		s.closed.Add(1)
	}
	return conn, err
}

// secure does TLS as a client that trusts everybody.
func secure(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	return secured, secured.HandshakeContext(ctx)
}

// hold keeps a connection open until the node closes it or ctx ends, and has
// step do something with it again and again, if it is there.
func (s *strangers) hold(ctx context.Context, conn net.Conn, every time.Duration, step func() error) {
	s.held.Add(1)
	defer s.held.Add(-1)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, conn); close(ended) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			if ctx.Err() == nil {
				s.closed.Add(1)
			}
			return
		case <-tick.C:
			if step != nil && step() != nil {
				conn.Close()
			}
		}
	}
}

// keep holds n connections open, and replaces those that are closed, as fast as
// the pacer allows.
func (s *strangers) keep(ctx context.Context, n, perSecond int, one func(context.Context, int)) {
	slots := make(chan int, n)
	for i := range n {
		slots <- i
	}
	pace := rate.NewLimiter(rate.Limit(perSecond), 100)
	for pace.Wait(ctx) == nil {
		select {
		case slot := <-slots:
			s.pending.Go(func() { one(ctx, slot); slots <- slot })
		case <-ctx.Done():
			return
		}
	}
}

// silent opens connections to both planes and says nothing.
func (s *strangers) silent(ctx context.Context) {
	s.keep(ctx, s.Count, s.Rate, func(ctx context.Context, slot int) {
		addr := s.Control
		if slot%2 == 1 {
			addr = s.NATS
		}
		conn, err := s.dial(ctx, addr)
		if err == nil {
			s.hold(ctx, conn, time.Hour, nil)
		}
	})
}

// slowBodies sends requests that are signed, so that the node reads their body,
// which comes a byte a second.
func (s *strangers) slowBodies(ctx context.Context) {
	const size = 2000
	s.keep(ctx, s.Count, s.Rate, func(ctx context.Context, _ int) {
		conn, err := s.dial(ctx, s.Control)
		if err != nil {
			return
		}
		secured, err := secure(ctx, conn)
		if err != nil {
			conn.Close()
			s.closed.Add(1)
			return
		}
		head, err := s.signedHead(http.MethodPut, size)
		if err == nil {
			_, err = secured.Write(head)
		}
		if err != nil {
			conn.Close()
			s.closed.Add(1)
			return
		}
		s.hold(ctx, secured, time.Second, func() error { _, err := secured.Write([]byte(" ")); return err })
	})
}

// signedHead is the head of a request that publishes the card of nobody.
func (s *strangers) signedHead(method string, size int) ([]byte, error) {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, "https://"+s.Control+api.CardPath(id.ID()), nil)
	if err != nil {
		return nil, err
	}
	if err := httpsig.Sign(req, bytes.Repeat([]byte(" "), size), id.Transport(s.busID), time.Now(), rand.Reader); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", method, req.URL.RequestURI(), req.URL.Host, size)
	if err := req.Header.Write(&b); err != nil {
		return nil, err
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// workers is how many connections floods of requests use at once.
const workers = 64

// badSignatures sends requests whose signature is of another request.
func (s *strangers) badSignatures(ctx context.Context) {
	pace := rate.NewLimiter(rate.Limit(s.Rate), workers)
	head, err := s.signedHead(http.MethodGet, 0)
	if err != nil {
		return
	}
	head = bytes.Replace(head, []byte("GET /cards/"), []byte("GET /rooms?"), 1)
	s.keep(ctx, workers, s.Rate, func(ctx context.Context, _ int) {
		conn, err := s.dial(ctx, s.Control)
		if err != nil {
			return
		}
		defer conn.Close()
		secured, err := secure(ctx, conn)
		if err != nil {
			s.closed.Add(1)
			return
		}
		answers := bufio.NewReader(secured)
		for pace.Wait(ctx) == nil {
			s.tried.Add(1)
			if _, err := secured.Write(head); err != nil {
				s.closed.Add(1)
				return
			}
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				s.closed.Add(1)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// badLogins signs in to the data plane with a signature that is none.
func (s *strangers) badLogins(ctx context.Context) {
	const login = `CONNECT {"verbose":false,"pedantic":false,"tls_required":true,"nkey":"UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4","sig":"AAAA","lang":"go","version":"1","protocol":1}` + "\r\nPING\r\n"
	s.keep(ctx, workers, s.Rate, func(ctx context.Context, _ int) {
		conn, err := s.dial(ctx, s.NATS)
		if err != nil {
			return
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		// The server speaks first, in the clear; no byte of TLS comes with it.
		for b := make([]byte, 1); b[0] != '\n'; {
			if _, err := conn.Read(b); err != nil {
				s.closed.Add(1)
				return
			}
		}
		secured, err := secure(ctx, conn)
		if err == nil {
			_, err = io.WriteString(secured, login)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, secured) // until the node hangs up
		}
		if ctx.Err() == nil {
			s.closed.Add(1)
		}
		_ = err // however it ended, it is over
	})
}
