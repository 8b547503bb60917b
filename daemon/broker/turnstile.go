package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
)

// turnstile refuses the frames of one connection whose rooms are full.
type turnstile struct {
	full   func(room []byte) bool
	refuse func(reply string) // reply is "" where nobody asked for an answer
}

// refuses reports whether the message is a frame of a full room, and has
// answered it if so.
func (t *turnstile) refuses(subject, reply []byte) bool {
	rest, ok := bytes.CutPrefix(subject, persistedPrefix)
	if !ok {
		return false
	}
	_, rest, _ = bytes.Cut(rest, []byte("."))
	room, _, ok := bytes.Cut(rest, []byte("."))
	if !ok || !t.full(room) {
		return false
	}
	if bytes.ContainsAny(reply, "*>") {
		reply = nil // nobody can be subscribed to such a subject alone
	}
	t.refuse(string(reply))
	return true
}

// errFull is what the server would say of a stream that is full.
var errFull = errors.New("maximum bytes of an owner of the room exceeded")

// fullAnswer is the answer of the store to a frame that it does not take, as the
// server itself gives it for a full stream.
func fullAnswer() ([]byte, error) {
	return json.Marshal(server.JSPubAckResponse{Error: server.NewJSStreamStoreFailedError(errFull)})
}

// turnstile returns that of the connection from a remote address, nil without
// limits of rooms.
func (g *gate) turnstile(remote string) *turnstile {
	if g.ledger == nil {
		return nil
	}
	return &turnstile{full: g.ledger.Full, refuse: func(reply string) {
		g.metrics.Denied(metrics.Data, bus.CodeQuota)
		// Whoever is not known yet may only claim that the inbox is its own.
		if reply == "" || !g.admitted(remote) {
			return
		}
		if err := g.answer(reply); err != nil {
			g.log.Debug("refusal not answered", "remote", remote, "error", err)
		}
	}}
}

// answer says to the owner of an inbox that its frame is not stored.
func (g *gate) answer(reply string) error {
	text, err := fullAnswer()
	if err != nil {
		return fmt.Errorf("answer frame: %w", err)
	}
	return g.answers.Publish(reply, text)
}

// admitted reports whether the member behind a remote address is known.
func (g *gate) admitted(remote string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.guests[remote] == nil
}
