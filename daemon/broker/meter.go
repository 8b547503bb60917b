package broker

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/lib/bus"
)

// counting is told of frames that pass.
type counting func(persisted bool, size int)

// What the subjects of frames begin with.
var (
	persistedPrefix = []byte("ub.d.")
	livePrefix      = []byte("ub.l.")
)

// see counts a message if it is a frame by its subject.
func (count counting) see(subject []byte, size int) {
	switch {
	case count == nil:
	case bytes.HasPrefix(subject, persistedPrefix):
		count(true, size)
	case bytes.HasPrefix(subject, livePrefix):
		count(false, size)
	}
}

// meter reads along what the server sends to a member in the NATS client
// protocol, and counts the frames in it. It changes nothing.
type meter struct {
	count counting

	line    []byte // the part of a line that arrived so far
	payload int    // bytes of a message that are still to come, CRLF included
	lost    bool   // a line was of no form that is known; nothing is counted any more
}

// pass reads on with src, which continues what earlier calls were given.
func (m *meter) pass(src []byte) {
	for len(src) > 0 && !m.lost {
		if m.payload > 0 {
			n := min(m.payload, len(src))
			src, m.payload = src[n:], m.payload-n
			continue
		}
		end := bytes.IndexByte(src, '\n') + 1
		if end == 0 {
			m.line = append(m.line, src...)
			m.lost = len(m.line) > maxOwnPayload
			return
		}
		line := src[:end]
		if len(m.line) > 0 {
			m.line = append(m.line, line...)
			line = m.line
		}
		m.command(line)
		m.line, src = m.line[:0], src[end:]
	}
}

// command reads "MSG subject sid [reply] size" or "HMSG subject sid [reply]
// headers size", and skips everything else.
func (m *meter) command(line []byte) {
	args, ok := bytes.CutPrefix(line, []byte("MSG "))
	if !ok {
		if args, ok = bytes.CutPrefix(line, []byte("HMSG ")); !ok {
			return
		}
	}
	args = bytes.TrimRight(args, "\r\n")
	subject, _, ok := bytes.Cut(args, []byte(" "))
	size, err := strconv.Atoi(string(args[bytes.LastIndexByte(args, ' ')+1:]))
	if !ok || err != nil || size < 0 || size > math.MaxInt32 {
		m.lost = true
		return
	}
	m.payload = size + len("\r\n")
	m.count.see(subject, size)
}

// StreamUse is what the stream of a shard holds.
type StreamUse struct {
	Shard     int
	Messages  uint64
	Bytes     uint64
	MaxBytes  int64 // refuses more; 0 is the disk
	Consumers int
}

// Streams returns what each stream holds, by shard.
func (b *Broker) Streams() ([]StreamUse, error) {
	account, err := b.srv.JszAccount(&server.JSzOptions{Account: string(AccountStore), Streams: true, Config: true})
	if err != nil {
		return nil, fmt.Errorf("look at streams: %w", err)
	}
	found := make(map[string]server.StreamDetail, len(account.Streams))
	for _, s := range account.Streams {
		found[s.Name] = s
	}
	uses := make([]StreamUse, 0, bus.Shards)
	for shard := range bus.Shards {
		s, ok := found[bus.Stream(shard)]
		if !ok {
			continue
		}
		use := StreamUse{Shard: shard, Messages: s.State.Msgs, Bytes: s.State.Bytes, Consumers: s.State.Consumers}
		if b.tally != nil && use.Consumers > 0 {
			use.Consumers-- // the one that counts is no reader's
		}
		if s.Config != nil {
			use.MaxBytes = max(s.Config.MaxBytes, 0)
		}
		uses = append(uses, use)
	}
	return uses, nil
}
