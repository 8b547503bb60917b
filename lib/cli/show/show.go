package sub

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

// newOutput returns where the messages of a call go.
func newOutput(c *cli.Call) sink {
	if c.WantsJSON() {
		return &jsonOutput{c}
	}
	return &byteOutput{w: newWriter(c.Stdout), terminal: cli.IsTerminal(c.Env.Stdout)}
}

func newWriter(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, bufferSize) }

// byteOutput writes bodies as they are.
type byteOutput struct {
	w        *bufio.Writer
	terminal bool // which no body must drive
}

func (b *byteOutput) write(m *client.Message) error {
	var err error
	if ref, ok, _ := m.Blob(); ok { // one that does not parse is a message like any other
		if _, err := fmt.Fprintf(b.w, "blob %s %d %s\n", cli.Printable(cmp.Or(ref.Name, "-")), ref.Size, ref.Hash); err != nil || len(m.Body) == 0 {
			return err
		}
	}
	if b.terminal {
		_, err = b.w.WriteString(printable(string(m.Body)))
	} else {
		_, err = b.w.Write(m.Body)
	}
	if err == nil && m.Header(bus.HeaderEOL) != bus.EOLNone {
		err = b.w.WriteByte('\n')
	}
	return err
}

// printable is [cli.Printable], but leaves tabs and newlines, which do no harm.
func printable(text string) string {
	var b strings.Builder
	for {
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

func (b *byteOutput) flush() error { return b.w.Flush() }

// jsonOutput writes an object a line.
type jsonOutput struct{ call *cli.Call }

func (j *jsonOutput) write(m *client.Message) error { return j.call.JSON(messageOf(m)) }

func (j *jsonOutput) flush() error { return nil }

// message is a message as --json prints it.
type message struct {
	Room    bus.RoomID    `json:"room"`
	Epoch   bus.Epoch     `json:"epoch"`
	Sender  bus.ID        `json:"sender"`
	Handle  bus.Handle    `json:"handle,omitempty"` // as pinned here
	Session bus.SessionID `json:"session"`
	Seq     bus.Seq       `json:"seq"`   // of the frame, in this room and session
	Index   int           `json:"index"` // in the frame
	Sent    time.Time     `json:"sent"`  // as the sender says
	Late    bool          `json:"late"`
	Headers []header      `json:"headers"`
	Body    api.Bytes     `json:"body"`
	Text    *string       `json:"text,omitempty"` // the body, where it is UTF-8
	Blob    *fileRef      `json:"blob,omitempty"` // the file that the message tells of
}

// fileRef is a file, as the sender says; "unibus blob get" fetches it.
type fileRef struct {
	Hash   bus.BlobHash `json:"hash"`
	Name   string       `json:"name"`
	Media  string       `json:"media"`
	Size   int64        `json:"size"`
	SHA256 string       `json:"sha256"` // of the content, in hexadecimal
}

// header is a header of a message. A key that is not UTF-8 has U+FFFD in place
// of what is not.
type header struct {
	Key   string    `json:"key"`
	Value api.Bytes `json:"value"`
	Text  *string   `json:"text,omitempty"` // the value, where it is UTF-8
}

func messageOf(m *client.Message) message {
	out := message{
		Room: m.Room, Epoch: m.Epoch, Sender: m.Sender, Handle: m.Handle, Session: m.Session, Seq: m.Seq, Index: m.Index,
		Sent: m.Sent.UTC(), Late: m.Late, Headers: make([]header, len(m.Headers)), Body: m.Body, Text: textOf(string(m.Body)),
	}
	for i, h := range m.Headers {
		out.Headers[i] = header{Key: h.Key, Value: api.Bytes(h.Value), Text: textOf(h.Value)}
	}
	if ref, ok, _ := m.Blob(); ok { // its header is there in any case
		out.Blob = &fileRef{ref.Hash, ref.Name, ref.Media, ref.Size, hex.EncodeToString(ref.Digest[:])}
	}
	return out
}

func textOf(s string) *string {
	if !utf8.ValidString(s) {
		return nil
	}
	return &s
}
