package hostile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Delivery is a message on its way from the data plane to a client.
type Delivery struct {
	Subject, SID, Reply string
	Header              []byte // the block of headers, nil without one
	Payload             []byte
}

// Sent is a message on its way from a client to the data plane.
type Sent struct {
	Subject, Reply string
	Header         []byte // the block of headers, nil without one
	Payload        []byte
}

// Data stands between clients and a node's NATS server, and understands the
// client protocol of NATS as far as messages and subscriptions go.
type Data struct {
	URL  string
	Tape *Tape

	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []*Conn
	down  func(Delivery) []Delivery
	up    func(Sent) []Sent
	info  func(line string) string
	heard func(line string)
}

// NewData returns an honest proxy of the NATS server at target, which ends with
// the test.
func NewData(t testing.TB, target string) *Data {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Data{URL: "nats://" + l.Addr().String(), target: strings.TrimPrefix(target, "nats://"), Tape: &Tape{}}
	p.listener = p.Tape.listen(l, "data plane")
	p.work.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.Cut()
		p.work.Wait()
	})
	return p
}

// Down has every message to a client replaced by those that lie returns; nil is
// honest.
func (p *Data) Down(lie func(Delivery) []Delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = lie
}

// Up has every message of a client replaced by those that lie returns; nil is
// honest.
func (p *Data) Up(lie func(Sent) []Sent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = lie
}

// Info has the server's first line, with its challenge, changed; nil is honest.
func (p *Data) Info(lie func(line string) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info = lie
}

// Heard has every line of a client or server that carries no message looked at.
func (p *Data) Heard(look func(line string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = look
}

// Cut breaks all connections.
func (p *Data) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.close()
	}
	p.conns = nil
}

// Conn returns the newest connection, nil where there is none.
func (p *Data) Conn() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) == 0 {
		return nil
	}
	return p.conns[len(p.conns)-1]
}

// hooks returns the hooks as they are now.
func (p *Data) hooks() (down func(Delivery) []Delivery, up func(Sent) []Sent, info func(string) string, heard func(string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down, p.up, p.info, p.heard
}

func (p *Data) accept() {
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
		c := &Conn{data: p, client: down, server: up}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		p.work.Go(func() { defer c.close(); c.upward(bufio.NewReader(down)) })
		p.work.Go(func() { defer c.close(); c.downward(bufio.NewReader(up)) })
	}
}

// Conn is a client's connection to the server, through the proxy.
type Conn struct {
	data           *Data
	client, server net.Conn

	toClient, toServer sync.Mutex // held while something is written

	mu   sync.Mutex
	subs []subscription
}

type subscription struct{ subject, sid string }

func (c *Conn) close() {
	c.client.Close()
	c.server.Close()
}

// Deliver gives the client a message that nobody sent, by the first of its
// subscriptions that the subject matches. It is false where there is none.
func (c *Conn) Deliver(d Delivery) bool {
	c.mu.Lock()
	i := slices.IndexFunc(c.subs, func(s subscription) bool { return subjectMatches(s.subject, d.Subject) })
	if i >= 0 {
		d.SID = c.subs[i].sid
	}
	c.mu.Unlock()
	return i >= 0 && write(&c.toClient, c.client, d.bytes()) == nil
}

// Publish sends a message in the client's name.
func (c *Conn) Publish(s Sent) error { return write(&c.toServer, c.server, s.bytes()) }

// Say sends the server a line in the client's name, without its end.
func (c *Conn) Say(line string) error { return write(&c.toServer, c.server, []byte(line+"\r\n")) }

func write(lock *sync.Mutex, to io.Writer, data []byte) error {
	lock.Lock()
	defer lock.Unlock()
	_, err := to.Write(data)
	return err
}

// subjectMatches reports whether a subscription's subject covers another.
func subjectMatches(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range f {
		switch {
		case token == ">":
			return len(s) > i
		case i >= len(s) || token != "*" && token != s[i]:
			return false
		}
	}
	return len(f) == len(s)
}

func (c *Conn) upward(from *bufio.Reader) {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return
		}
		_, lie, _, heard := c.data.hooks()
		fields := strings.Fields(line)
		out := []byte(line)
		switch {
		case len(fields) > 1 && (fields[0] == "PUB" || fields[0] == "HPUB"):
			header, payload, reply, err := message(from, fields, 2)
			if err != nil {
				return
			}
			all := []Sent{{Subject: fields[1], Reply: reply, Header: header, Payload: payload}}
			if lie != nil {
				all = lie(all[0])
			}
			out = nil
			for _, s := range all {
				out = append(out, s.bytes()...)
			}
		case heard != nil:
			heard(strings.TrimSpace(line))
		}
		if len(fields) > 2 && fields[0] == "SUB" {
			c.mu.Lock()
			c.subs = append(c.subs, subscription{subject: fields[1], sid: fields[len(fields)-1]})
			c.mu.Unlock()
		}
		if len(fields) > 1 && fields[0] == "UNSUB" {
			c.mu.Lock()
			c.subs = slices.DeleteFunc(c.subs, func(s subscription) bool { return s.sid == fields[1] })
			c.mu.Unlock()
		}
		if write(&c.toServer, c.server, out) != nil {
			return
		}
	}
}

func (c *Conn) downward(from *bufio.Reader) {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return
		}
		lie, _, info, heard := c.data.hooks()
		fields := strings.Fields(line)
		out := []byte(line)
		switch {
		case len(fields) > 1 && (fields[0] == "MSG" || fields[0] == "HMSG"):
			header, payload, reply, err := message(from, fields, 3)
			if err != nil {
				return
			}
			all := []Delivery{{Subject: fields[1], SID: fields[2], Reply: reply, Header: header, Payload: payload}}
			if lie != nil {
				all = lie(all[0])
			}
			out = nil
			for _, d := range all {
				out = append(out, d.bytes()...)
			}
		case strings.HasPrefix(line, "INFO ") && info != nil:
			out = []byte(info(strings.TrimSpace(line)) + "\r\n")
		case heard != nil:
			heard(strings.TrimSpace(line))
		}
		if write(&c.toClient, c.client, out) != nil {
			return
		}
	}
}

// message reads what follows a line that announces a message: before fields, a
// reply subject perhaps, and the sizes of headers, where there are any, and of
// everything.
func message(r *bufio.Reader, fields []string, before int) (header, payload []byte, reply string, err error) {
	headers := strings.HasPrefix(fields[0], "H")
	sizes := 1
	if headers {
		sizes = 2
	}
	if len(fields) < before+sizes {
		return nil, nil, "", fmt.Errorf("read message: %q is cut short", fields)
	}
	if len(fields) == before+1+sizes {
		reply = fields[before]
	}
	total, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return nil, nil, "", err
	}
	split := 0
	if headers {
		if split, err = strconv.Atoi(fields[len(fields)-2]); err != nil {
			return nil, nil, "", err
		}
	}
	if split < 0 || total < split {
		return nil, nil, "", fmt.Errorf("read message: %q has impossible sizes", fields)
	}
	buf := make([]byte, total+2)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, nil, "", err
	}
	if headers {
		header = buf[:split]
	}
	return header, buf[split:total], reply, nil
}

func (d Delivery) bytes() []byte {
	return encode("MSG", d.Subject+" "+d.SID, d.Reply, d.Header, d.Payload)
}

func (s Sent) bytes() []byte { return encode("PUB", s.Subject, s.Reply, s.Header, s.Payload) }

func encode(verb, to, reply string, header, payload []byte) []byte {
	sizes := strconv.Itoa(len(payload))
	if header != nil {
		verb, sizes = "H"+verb, fmt.Sprintf("%d %d", len(header), len(header)+len(payload))
	}
	if reply != "" {
		to += " " + reply
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s %s\r\n", verb, to, sizes)
	out.Write(header)
	out.Write(payload)
	out.WriteString("\r\n")
	return out.Bytes()
}
