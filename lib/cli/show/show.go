// Package show puts out messages in the one way that every command has: their
// bodies, byte for byte, or one JSON object a line.
//
// Start with [New]. The shape of the JSON is that of [MessageOf]; a golden file
// holds it. Nothing that a message says drives a terminal.
package show

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// bufferSize is how much output is gathered while messages come without pause.
const bufferSize = 64 << 10

// Output is where the messages of a command go.
type Output interface {
	// Write puts out a message, or keeps it back until Flush.
	Write(m *client.Message) error
	// Flush puts out what was kept back.
	Flush() error
}

// New returns where the messages of a call go: to its standard output, as JSON if
// it is called with --json. Without, each body is followed by a newline unless
// the message has [bus.HeaderEOL]; senders puts the name of the sender in front
// of each, and a newline behind it whatever it says.
func New(c *cli.Call, senders bool) Output {
	if c.WantsJSON() {
		return jsonOutput{c}
	}
	return &byteOutput{
		w: bufio.NewWriterSize(c.Stdout, bufferSize), terminal: cli.IsTerminal(c.Env.Stdout), senders: senders,
	}
}

// Name is how people recognise who sent a message: by the pinned handle or, where
// there is none, the fingerprint.
func Name(m *client.Message) string {
	if m.Handle != "" {
		return string(m.Handle)
	}
	return m.Sender.Fingerprint()
}

// Text is a body as people may see it on a terminal: as [cli.Printable] has it,
// but with tabs and newlines, which do no harm.
func Text(body []byte) string {
	var b strings.Builder
	for text := string(body); ; {
		i := strings.IndexAny(text, "\t\n")
		if i < 0 {
			b.WriteString(cli.Printable(text))
			return b.String()
		}
		b.WriteString(cli.Printable(text[:i]))
		b.WriteByte(text[i])
		text = text[i+1:]
	}
}

// byteOutput writes bodies as they are.
type byteOutput struct {
	w        *bufio.Writer
	terminal bool // which no body must drive
	senders  bool
}

// Write implements [Output].
func (b *byteOutput) Write(m *client.Message) error {
	if b.senders {
		if _, err := b.w.WriteString(cli.Printable(Name(m)) + ": "); err != nil {
			return err
		}
	}
	if ref, ok, _ := m.Blob(); ok { // one that does not parse is a message like any other
		if _, err := fmt.Fprintf(b.w, "blob %s %d %s\n", cli.Printable(cmp.Or(ref.Name, "-")), ref.Size, ref.Hash); err != nil || len(m.Body) == 0 {
			return err
		}
	}
	var err error
	if b.terminal {
		_, err = b.w.WriteString(Text(m.Body))
	} else {
		_, err = b.w.Write(m.Body)
	}
	if err == nil && (b.senders || m.Header(bus.HeaderEOL) != bus.EOLNone) {
		err = b.w.WriteByte('\n')
	}
	return err
}

// Flush implements [Output].
func (b *byteOutput) Flush() error { return b.w.Flush() }

// jsonOutput writes an object a line.
type jsonOutput struct{ call *cli.Call }

// Write implements [Output].
func (j jsonOutput) Write(m *client.Message) error { return j.call.JSON(MessageOf(m)) }

// Flush implements [Output].
func (j jsonOutput) Flush() error { return nil }

// Message is a message as --json prints it.
type Message struct {
	Room    bus.RoomID    `json:"room"`
	Epoch   bus.Epoch     `json:"epoch"`
	Sender  bus.ID        `json:"sender"`
	Handle  bus.Handle    `json:"handle,omitempty"` // as pinned here
	Session bus.SessionID `json:"session"`
	Seq     bus.Seq       `json:"seq"`   // of the frame, in this room and session
	Index   int           `json:"index"` // in the frame
	Sent    time.Time     `json:"sent"`  // as the sender says
	Late    bool          `json:"late"`
	Headers []Header      `json:"headers"`
	Body    api.Bytes     `json:"body"`
	Text    *string       `json:"text,omitempty"` // the body, where it is UTF-8
	Blob    *File         `json:"blob,omitempty"` // the file that the message tells of
}

// File is a file, as the sender says; "unibus blob get" fetches it.
type File struct {
	Hash   bus.BlobHash `json:"hash"`
	Name   string       `json:"name"`
	Media  string       `json:"media"`
	Size   int64        `json:"size"`
	SHA256 string       `json:"sha256"` // of the content, in hexadecimal
}

// Header is a header of a message. A key that is not UTF-8 has U+FFFD in place
// of what is not.
type Header struct {
	Key   string    `json:"key"`
	Value api.Bytes `json:"value"`
	Text  *string   `json:"text,omitempty"` // the value, where it is UTF-8
}

// MessageOf returns what --json prints of a message.
func MessageOf(m *client.Message) Message {
	out := Message{
		Room: m.Room, Epoch: m.Epoch, Sender: m.Sender, Handle: m.Handle, Session: m.Session, Seq: m.Seq, Index: m.Index,
		Sent: m.Sent.UTC(), Late: m.Late, Headers: make([]Header, len(m.Headers)), Body: m.Body, Text: textOf(string(m.Body)),
	}
	for i, h := range m.Headers {
		out.Headers[i] = Header{Key: h.Key, Value: api.Bytes(h.Value), Text: textOf(h.Value)}
	}
	if ref, ok, _ := m.Blob(); ok { // its header is there in any case
		out.Blob = &File{ref.Hash, ref.Name, ref.Media, ref.Size, hex.EncodeToString(ref.Digest[:])}
	}
	return out
}

func textOf(s string) *string {
	if !utf8.ValidString(s) {
		return nil
	}
	return &s
}

// ReadBody reads r to its end as the body of one message: [bus.CodeTooLarge] where
// it is larger than a message without headers.
func ReadBody(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, MaxBody+1))
	if err == nil && len(body) > MaxBody {
		err = bus.Errorf(bus.CodeTooLarge, "it is larger than a message, which ends at %d bytes", MaxBody)
	}
	return body, err
}

// MaxBody is the longest body of a message that leaves 4 KiB for headers, in
// bytes.
const MaxBody = bus.MaxRecordSize - 4<<10
