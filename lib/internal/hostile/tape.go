package hostile

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"net"
	"slices"
	"strings"
	"sync"
)

// Tape holds what went over connections, byte by byte, each direction of each
// connection by itself. It may be used from several goroutines at once, and by
// several proxies.
type Tape struct {
	mu      sync.Mutex
	streams []*stream
}

// stream is one direction of a connection.
type stream struct {
	name string
	data []byte
}

func (t *Tape) stream(name string) *stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &stream{name: name}
	t.streams = append(t.streams, s)
	return s
}

func (t *Tape) write(s *stream, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.data = append(s.data, data...)
}

// Size returns how many bytes are on the tape.
func (t *Tape) Size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, s := range t.streams {
		n += len(s.data)
	}
	return n
}

// listen returns a listener whose connections are recorded.
func (t *Tape) listen(l net.Listener, name string) net.Listener {
	return &tapeListener{Listener: l, tape: t, name: name}
}

type tapeListener struct {
	net.Listener
	tape *Tape
	name string
}

func (l *tapeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tapeConn{Conn: c, tape: l.tape, up: l.tape.stream(l.name + " from the client"), down: l.tape.stream(l.name + " to the client")}, nil
}

type tapeConn struct {
	net.Conn
	tape     *Tape
	up, down *stream
}

func (c *tapeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tape.write(c.up, p[:n])
	return n, err
}

func (c *tapeConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.tape.write(c.down, p[:n])
	return n, err
}

// Secret is something that no server may see.
type Secret struct {
	Name  string
	Value []byte // at least 8 bytes, so that it is found by no accident
}

// Find returns where secrets are on the tape, in clear or in one of the
// encodings of [Forms], as "name (form) in stream".
func (t *Tape) Find(secrets ...Secret) []string {
	t.mu.Lock()
	streams := make([]stream, len(t.streams))
	for i, s := range t.streams {
		streams[i] = stream{s.name, slices.Clip(s.data)}
	}
	t.mu.Unlock()
	var found []string
	for _, secret := range secrets {
		for form, texts := range Forms(secret.Value) {
			for _, s := range streams {
				if slices.ContainsFunc(texts, func(text []byte) bool { return bytes.Contains(s.data, text) }) {
					found = append(found, secret.Name+" ("+form+") in "+s.name)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// Forms returns what a value looks like where it stands in something that was
// written in clear, in hexadecimal, or in base64, base64url or base32 (RFC 4648),
// upper or lower case and wherever in the encoded text it begins. What of the
// first and last characters depends on neighbours is left out.
func Forms(value []byte) map[string][][]byte {
	forms := map[string][][]byte{"raw": {value}}
	text := hex.EncodeToString(value)
	forms["hex"] = [][]byte{[]byte(text), []byte(strings.ToUpper(text))}
	for _, e := range []struct {
		name      string
		encode    func([]byte) string
		bits, per int // of a character, and bytes until characters align again
	}{
		{"base64", base64.RawStdEncoding.EncodeToString, 6, 3},
		{"base64url", base64.RawURLEncoding.EncodeToString, 6, 3},
		{"base32", base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString, 5, 5},
	} {
		for offset := range e.per {
			text := e.encode(append(make([]byte, offset), value...))
			first := (offset*8 + e.bits - 1) / e.bits
			whole := (offset + len(value)) * 8 / e.bits
			forms[e.name] = append(forms[e.name], []byte(text[first:whole]))
			if e.name == "base32" {
				forms[e.name] = append(forms[e.name], []byte(strings.ToLower(text[first:whole])))
			}
		}
	}
	return forms
}

// NewTape returns a tape that holds these texts, each in a stream by itself.
func NewTape(texts ...string) *Tape {
	t := &Tape{}
	for _, text := range texts {
		t.write(t.stream("given"), []byte(text))
	}
	return t
}
