package client_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// controlProxy stands between clients and a node's control plane. Each answer
// may be changed.
type controlProxy struct {
	url string

	mu  sync.Mutex
	lie func(r *http.Request, body []byte) []byte // nil is honest
}

func newControlProxy(t *testing.T, target string) *controlProxy {
	t.Helper()
	node, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &controlProxy{}
	transport := &http.Transport{}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(node)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(resp *http.Response) error {
			p.mu.Lock()
			lie := p.lie
			p.mu.Unlock()
			if lie == nil {
				return nil
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			body = lie(resp.Request, body)
			resp.Body = io.NopCloser(bytes.NewReader(body))
			resp.ContentLength = int64(len(body))
			resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	})
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	p.url = server.URL
	return p
}

func (p *controlProxy) set(lie func(r *http.Request, body []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie = lie
}

// delivery is a message on its way from the data plane to a client.
type delivery struct {
	subject, sid, reply string
	header              []byte // the block of headers, nil without one
	payload             []byte
}

// sent is a message on its way from a client to the data plane.
type sent struct {
	subject, reply string
	header         []byte
	payload        []byte
}

// dataProxy stands between clients and a node's data plane.
type dataProxy struct {
	url      string
	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	lie   func(d delivery) []delivery // nil is honest
	seen  func(s sent)                // nil does not look
}

func newDataProxy(t *testing.T, target string) *dataProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &dataProxy{url: "nats://" + l.Addr().String(), target: strings.TrimPrefix(target, "nats://"), listener: l}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *dataProxy) set(lie func(d delivery) []delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie = lie
}

// watch has what clients publish looked at.
func (p *dataProxy) watch(seen func(s sent)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = seen
}

// cut breaks all connections.
func (p *dataProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *dataProxy) accept() {
	for {
		down, err := p.listener.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", p.target)
		if err != nil {
			down.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, down, up)
		p.mu.Unlock()
		end := func() { down.Close(); up.Close() }
		p.work.Go(func() { defer end(); p.upward(bufio.NewReader(down), up) })
		p.work.Go(func() { defer end(); p.downward(bufio.NewReader(up), down) })
	}
}

// message reads what follows a line that announces a message, whose last
// fields are the sizes.
func message(r *bufio.Reader, fields []string, headers bool) (header, payload []byte, err error) {
	total, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return nil, nil, err
	}
	split := 0
	if headers {
		if split, err = strconv.Atoi(fields[len(fields)-2]); err != nil {
			return nil, nil, err
		}
	}
	buf := make([]byte, total+2)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, nil, err
	}
	if headers {
		header = buf[:split]
	}
	return header, buf[split:total], nil
}

func (p *dataProxy) upward(from *bufio.Reader, to io.Writer) {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return
		}
		fields := strings.Fields(line)
		out := []byte(line)
		if len(fields) > 1 && (fields[0] == "PUB" || fields[0] == "HPUB") {
			headers := fields[0] == "HPUB"
			header, payload, err := message(from, fields, headers)
			if err != nil {
				return
			}
			s := sent{subject: fields[1], header: header, payload: payload}
			if sizes := map[bool]int{false: 1, true: 2}[headers]; len(fields) == 3+sizes {
				s.reply = fields[2]
			}
			p.mu.Lock()
			seen := p.seen
			p.mu.Unlock()
			if seen != nil {
				seen(s)
			}
			out = append(append(append(out, header...), payload...), '\r', '\n')
		}
		if _, err := to.Write(out); err != nil {
			return
		}
	}
}

func (p *dataProxy) downward(from *bufio.Reader, to io.Writer) {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return
		}
		fields := strings.Fields(line)
		out := []byte(line)
		if len(fields) > 1 && (fields[0] == "MSG" || fields[0] == "HMSG") {
			headers := fields[0] == "HMSG"
			header, payload, err := message(from, fields, headers)
			if err != nil {
				return
			}
			d := delivery{subject: fields[1], sid: fields[2], header: header, payload: payload}
			if sizes := map[bool]int{false: 1, true: 2}[headers]; len(fields) == 4+sizes {
				d.reply = fields[3]
			}
			p.mu.Lock()
			lie := p.lie
			p.mu.Unlock()
			if lie == nil {
				lie = func(d delivery) []delivery { return []delivery{d} }
			}
			out = nil
			for _, d := range lie(d) {
				out = append(out, d.bytes()...)
			}
		}
		if _, err := to.Write(out); err != nil {
			return
		}
	}
}

func (d delivery) bytes() []byte {
	verb, sizes := "MSG", strconv.Itoa(len(d.payload))
	if d.header != nil {
		verb, sizes = "HMSG", fmt.Sprintf("%d %d", len(d.header), len(d.header)+len(d.payload))
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s %s ", verb, d.subject, d.sid)
	if d.reply != "" {
		out.WriteString(d.reply + " ")
	}
	out.WriteString(sizes + "\r\n")
	out.Write(d.header)
	out.Write(d.payload)
	out.WriteString("\r\n")
	return out.Bytes()
}
