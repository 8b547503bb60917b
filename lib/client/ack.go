package client

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
)

// ackMux gives the answers to frames, which all come by one subscription, to
// the publishers that wait for them.
type ackMux struct {
	prefix string // of the reply subjects

	mu      sync.Mutex
	last    uint64
	waiting map[string]waitingFlight // by the token after the prefix
}

type waitingFlight struct {
	pub    *publisher
	flight *flight
}

func newAckMux(prefix string) *ackMux {
	return &ackMux{prefix: prefix, waiting: map[string]waitingFlight{}}
}

// expect returns the token under which answers to a frame will come.
func (m *ackMux) expect(p *publisher, f *flight) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	token := strconv.FormatUint(m.last, 36)
	m.waiting[token] = waitingFlight{p, f}
	return token
}

func (m *ackMux) forget(token string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waiting, token)
}

// receive is the handler of the subscription.
func (m *ackMux) receive(msg *nats.Msg) {
	token := strings.TrimPrefix(msg.Subject, m.prefix)
	m.mu.Lock()
	w, ok := m.waiting[token]
	m.mu.Unlock()
	if ok {
		w.pub.answer(answer{kind: answerAck, flight: w.flight, ack: parseAck(msg, w.flight.shard)})
	}
}

// ack is what a server said to a frame.
type ack struct {
	verdict   verdict
	streamSeq uint64 // where it is stored
	duplicate bool   // it was stored before
	err       error  // why it is not stored
}

type verdict int

const (
	ackRetry  verdict = iota // not stored now, perhaps on the next attempt
	ackStored                // stored
	ackRefuse                // not stored, nor will be
)

// Codes of JetStream's errors that say more than their class does.
const (
	jsStorageExceeded = 10047 // of the account
	jsMemoryExceeded  = 10028
	jsStreamBytes     = 10122
	jsMessageTooLarge = 10054
	jsStoreFailed     = 10077
	// jsDuplicateInProcess says that the same id is being stored right now. That
	// is no success: the one that is being stored may yet fail.
	jsDuplicateInProcess = 10158
)

// parseAck reads the answer of JetStream, or of a server that found nobody to
// answer.
func parseAck(msg *nats.Msg, shard int) ack {
	if status := msg.Header.Get("Status"); status != "" {
		return ack{verdict: ackRetry, err: bus.Errorf(bus.CodeUnavailable, "nobody stores the room now (status %.3q)", status)}
	}
	var reply struct {
		Stream    string `json:"stream"`
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"code"`
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return ack{verdict: ackRetry, err: bus.Errorf(bus.CodeMalformed, "read answer of the store: %w", err)}
	}
	if reply.Error != nil {
		return classify(reply.Error.Code, reply.Error.ErrCode, reply.Error.Description)
	}
	if reply.Seq == 0 || reply.Stream != bus.Stream(shard) {
		return ack{verdict: ackRetry, err: bus.Errorf(bus.CodeMalformed, "read answer of the store: it names place %d of %.80q", reply.Seq, reply.Stream)}
	}
	return ack{verdict: ackStored, streamSeq: reply.Seq, duplicate: reply.Duplicate}
}

func classify(status, code int, text string) ack {
	switch {
	case code == jsStorageExceeded, code == jsMemoryExceeded, code == jsStreamBytes,
		// The one code for whatever the store says: full, or an I/O error.
		code == jsStoreFailed && strings.Contains(text, "maximum"):
		return ack{verdict: ackRefuse, err: bus.Errorf(bus.CodeQuota, "the store is full: %.200s", text)}
	case code == jsMessageTooLarge:
		return ack{verdict: ackRefuse, err: bus.Errorf(bus.CodeTooLarge, "the store refused it: %.200s", text)}
	case code == jsDuplicateInProcess, status == 429, status >= 500:
		return ack{verdict: ackRetry, err: bus.Errorf(bus.CodeUnavailable, "the store cannot take it now: %.200s", text)}
	}
	return ack{verdict: ackRefuse, err: bus.Errorf(bus.CodeRefused, "the store refused it: %.200s (%d)", text, code)}
}
