package broker

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// maxLine is the longest line of the NATS protocol a member may send.
	maxLine = 4 << 10
	// refusedReply in front of a reply subject makes the server refuse the
	// message and say so to the member: the prefix is reserved for the
	// server's own mail.
	refusedReply = "_R_."
)

// filter reads what a member sends in the NATS client protocol and writes the
// same with three changes.
//
// NATS checks whether a connection may publish to a subject, but has the answer
// sent to whatever reply subject the message names: without the filter, a
// member could have what it stored itself delivered into another member's
// inbox, notices and live rooms. So a reply subject outside the member's own
// inbox is marked for the server to refuse.
//
// CONNECT gets the door's mark and the member's address in place of user and
// password, so that nobody comes in past the filter.
//
// A frame of a room that takes no more is left out; the [turnstile] answers it.
//
// Everything else passes as it is, or is an error where the server might read
// it in another way than the filter did.
type filter struct {
	mark    string     // goes into CONNECT
	address string     // goes into CONNECT
	count   counting   // is told of frames; may be nil
	quota   *turnstile // refuses frames of rooms that are full; may be nil

	line    []byte // the part of a line that arrived so far
	payload int    // bytes of a message that are still to come, CRLF included
	skip    bool   // that message goes no further
	inbox   []byte // what reply subjects must begin with; nil before CONNECT
}

// pass appends to dst what may go on to the server of src, which continues
// what earlier calls were given. An error means the connection must end, and
// dst is still to be sent. Its errors have [bus.CodeMalformed].
func (f *filter) pass(dst, src []byte) ([]byte, error) {
	for len(src) > 0 {
		if f.payload > 0 {
			n := min(f.payload, len(src))
			if !f.skip {
				dst = append(dst, src[:n]...)
			}
			src, f.payload = src[n:], f.payload-n
			continue
		}
		end := bytes.IndexByte(src, '\n') + 1
		n := end
		if n == 0 {
			n = len(src)
		}
		if len(f.line)+n > maxLine {
			return dst, bus.Errorf(bus.CodeMalformed, "read member's command: it is over %d bytes", maxLine)
		}
		line := src[:n]
		src = src[n:]
		if len(f.line) > 0 || end == 0 {
			f.line = append(f.line, line...)
			line = f.line
		}
		if end == 0 {
			break
		}
		var err error
		if dst, err = f.command(dst, line); err != nil {
			return dst, err
		}
		f.line = f.line[:0]
	}
	return dst, nil
}

// command appends one line, which ends with a line feed.
func (f *filter) command(dst, line []byte) ([]byte, error) {
	body, ok := bytes.CutSuffix(line, []byte("\r\n"))
	// The server forgives a carriage return inside a line, in its own way.
	if !ok || bytes.IndexByte(body, '\r') >= 0 {
		return dst, bus.Errorf(bus.CodeMalformed, "read member's command: the line does not end in CRLF")
	}
	op, args, _ := bytes.Cut(body, []byte(" "))
	switch string(op) {
	case "PUB":
		return f.publish(dst, op, args, 1)
	case "HPUB":
		return f.publish(dst, op, args, 2)
	case "CONNECT":
		return f.connect(dst, args)
	case "PING", "PONG", "SUB", "UNSUB":
		return append(dst, line...), nil
	}
	return dst, bus.Errorf(bus.CodeMalformed, "read member's command: %.20q is none of a client", op)
}

// publish appends PUB or HPUB: a subject, perhaps a reply subject, and one or
// two sizes of which the last one is that of the whole message.
func (f *filter) publish(dst, op, args []byte, sizes int) ([]byte, error) {
	var fields [5][]byte // one more than there can be
	n := 0
	for len(args) > 0 && n < len(fields) {
		if args[0] == ' ' || args[0] == '\t' {
			args = args[1:]
			continue
		}
		end := bytes.IndexAny(args, " \t")
		if end < 0 {
			end = len(args)
		}
		fields[n], args = args[:end], args[end:]
		n++
	}
	if n != sizes+1 && n != sizes+2 {
		return dst, bus.Errorf(bus.CodeMalformed, "read member's command: %s with %d arguments", op, n)
	}
	size, err := strconv.ParseUint(string(fields[n-1]), 10, 31)
	if err != nil || size > maxOwnPayload {
		return dst, bus.Errorf(bus.CodeMalformed, "read member's command: %s with %.20q bytes", op, fields[n-1])
	}
	f.payload = int(size) + len("\r\n")
	f.count.see(fields[0], int(size))
	var reply []byte
	if n == sizes+2 {
		reply = fields[1]
	}
	if f.skip = f.refuses(fields[0], reply); f.skip {
		return dst, nil
	}

	dst = append(append(append(dst, op...), ' '), fields[0]...)
	if n == sizes+2 {
		dst = append(dst, ' ')
		if !f.owns(reply) {
			dst = append(dst, refusedReply...)
		}
		dst = append(dst, reply...)
	}
	for _, size := range fields[n-sizes : n] {
		dst = append(append(dst, ' '), size...)
	}
	return append(dst, "\r\n"...), nil
}

// owns reports whether a reply subject is the member's own.
func (f *filter) owns(reply []byte) bool { return f.inbox != nil && bytes.HasPrefix(reply, f.inbox) }

// refuses reports whether a frame goes no further because its room is full. A
// message that the server is going to refuse is left to it.
func (f *filter) refuses(subject, reply []byte) bool {
	if f.quota == nil || f.inbox == nil || reply != nil && !f.owns(reply) {
		return false
	}
	return f.quota.refuses(subject, reply)
}

// connect appends CONNECT. The member's key, which the authenticator is going
// to verify, says which inbox is its own.
func (f *filter) connect(dst, args []byte) ([]byte, error) {
	if f.inbox != nil {
		return dst, bus.Errorf(bus.CodeMalformed, "read member's command: a second CONNECT")
	}
	// The server's defaults for what the member leaves out.
	opts := server.ClientOpts{Verbose: true, Pedantic: true, Echo: true}
	if err := json.Unmarshal(args, &opts); err != nil {
		return dst, bus.Errorf(bus.CodeMalformed, "read member's command: CONNECT: %w", err)
	}
	f.inbox = []byte(bus.InboxPrefix(opts.Nkey) + ".")
	opts.Username, opts.Password = f.address, f.mark
	text, err := json.Marshal(opts)
	if err != nil {
		return dst, bus.Errorf(bus.CodeMalformed, "read member's command: CONNECT: %w", err)
	}
	return append(append(append(dst, "CONNECT "...), text...), "\r\n"...), nil
}
