package client

import (
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// pullExpires is how long one fetch waits on the server. It says how it is
	// every pullHeartbeat while nothing comes, and is lost after pullSilence.
	pullExpires   = 30 * time.Second
	pullHeartbeat = 2 * time.Second
	pullSilence   = 5 * time.Second
	// absentTries is how often a consumer that was just made may not be there
	// yet: the servers tell each other of it.
	absentTries = 20
	absentPause = 100 * time.Millisecond
)

// pull fetches from one consumer that the daemon has made, until the consumer
// or a message between is lost.
type pull struct {
	client   *Client
	subject  string // where fetches go
	inbox    string
	maxBytes int // of one fetch, 0 is no limit
	// frame gets each message, room and sender being the tokens of its subject.
	frame func(room string, raw rawFrame)
	// idle is called when nothing that was asked for is left to come. expired
	// says that the last fetch brought nothing in all its time.
	idle func(expired bool)
	// lost is called once, if the pull is of no use any more.
	lost func(error)

	sub     *nats.Subscription
	unwatch func()

	mu      sync.Mutex
	expect  uint64 // consumer sequence of the next message
	wanted  int    // messages asked for that have not come
	brought bool   // messages came since the last fetch
	heard   time.Time
	known   bool // the consumer has answered
	absent  int  // fetches in a row that found no consumer
	closed  bool
	again   *time.Timer
}

// open begins to listen. The first fetch is the caller's.
func (p *pull) open(stream, consumer string) error {
	c := p.client
	p.subject = bus.ConsumerNextSubject(stream, consumer)
	p.inbox = c.newInbox("p")
	p.expect = 1
	p.heard = time.Now()
	sub, err := c.nc.Subscribe(p.inbox, p.receive)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // bounded by what is asked for
	}
	if err != nil {
		return bus.Errorf(bus.CodeUnavailable, "subscribe to fetches: %w", err)
	}
	p.sub = sub
	p.unwatch = c.link.watch(p.subject, func(err error) { p.missing(err) })
	return nil
}

// close stops the pull without a word.
func (p *pull) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut()
}

func (p *pull) shut() {
	if p.closed {
		return
	}
	p.closed = true
	if p.again != nil {
		p.again.Stop()
	}
	p.unwatch()
	// It fails where the connection is closed, and the subscription with it.
	_ = p.sub.Unsubscribe()
}

// fail closes the pull and says so.
func (p *pull) fail(err error) {
	p.mu.Lock()
	closed := p.closed
	p.shut()
	p.mu.Unlock()
	if !closed {
		p.lost(err)
	}
}

// fetch asks for n more messages.
func (p *pull) fetch(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.wanted += n
	p.brought = false
	if p.wanted == n {
		p.heard = time.Now()
	}
	p.send(n)
}

// send publishes a fetch. Where there is no connection the reconnection makes
// everything anew.
func (p *pull) send(n int) {
	body := `{"expires":` + strconv.FormatInt(int64(pullExpires), 10) +
		`,"batch":` + strconv.Itoa(n) +
		`,"max_bytes":` + strconv.Itoa(p.maxBytes) +
		`,"idle_heartbeat":` + strconv.FormatInt(int64(pullHeartbeat), 10) + `}`
	if err := p.client.nc.PublishRequest(p.subject, p.inbox, []byte(body)); err != nil {
		p.client.log.Debug("client", "fetch", p.subject, "err", err)
	}
}

// pending returns how many messages are to come.
func (p *pull) pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted
}

// check ends a pull whose consumer says nothing although it should.
func (p *pull) check(now time.Time) {
	p.mu.Lock()
	silent := !p.closed && p.wanted > 0 && now.Sub(p.heard) > pullSilence
	p.mu.Unlock()
	if silent {
		p.fail(bus.Errorf(bus.CodeUnavailable, "fetch: the consumer has been silent for %s", pullSilence))
	}
}

// receive is the handler of the subscription.
func (p *pull) receive(msg *nats.Msg) {
	// What was stored comes with a subject to acknowledge it on. Its headers are
	// its sender's, who may have written a status too.
	if status := msg.Header.Get("Status"); status != "" && len(msg.Data) == 0 && msg.Reply == "" {
		p.receiveStatus(msg, status)
		return
	}
	meta, err := msg.Metadata()
	if err != nil {
		p.fail(bus.Errorf(bus.CodeMalformed, "fetch: %w", err))
		return
	}
	room, sender, persisted, ok := bus.ParseDataSubject(msg.Subject)
	p.mu.Lock()
	hole := meta.Sequence.Consumer != p.expect
	closed := p.closed
	if !hole {
		p.expect++
		p.wanted = max(p.wanted-1, 0)
		p.brought, p.known, p.absent = true, true, 0
		p.heard = time.Now()
	}
	idle := p.wanted == 0
	p.mu.Unlock()
	switch {
	case closed:
		return
	case hole:
		p.fail(bus.Errorf(bus.CodeGap, "fetch: message %d came where %d was next", meta.Sequence.Consumer, p.expect))
		return
	case !ok || !persisted:
		p.fail(bus.Errorf(bus.CodeMisrouted, "fetch: a message of subject %.80q", msg.Subject))
		return
	}
	p.frame(room, rawFrame{sender: sender, data: msg.Data, streamSeq: meta.Sequence.Stream})
	if idle {
		p.idle(false)
	}
}

func (p *pull) receiveStatus(msg *nats.Msg, status string) {
	switch status {
	case "100": // a heartbeat
		p.mu.Lock()
		p.heard, p.known, p.absent = time.Now(), true, 0
		p.mu.Unlock()
	case "503":
		p.missing(bus.Errorf(bus.CodeUnavailable, "fetch: nobody has the consumer"))
	case "404", "408", "409":
		if p.ended(msg) {
			return
		}
		p.fail(bus.Errorf(bus.CodeUnavailable, "fetch: %s %.80s", status, msg.Header.Get("Description")))
	default:
		p.fail(bus.Errorf(bus.CodeUnavailable, "fetch: status %.3s %.80s", status, msg.Header.Get("Description")))
	}
}

// ended takes in that a fetch is over with some of its messages never sent. It
// is false for any other status.
func (p *pull) ended(msg *nats.Msg) bool {
	left, err := strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		return false
	}
	p.mu.Lock()
	p.wanted = max(p.wanted-left, 0)
	p.heard, p.known, p.absent = time.Now(), true, 0
	idle, expired := p.wanted == 0 && !p.closed, !p.brought
	p.mu.Unlock()
	if idle {
		p.idle(expired)
	}
	return true
}

// missing takes in that a fetch found no consumer, or was refused. One that has
// answered before is lost; one that was just made may need a moment.
func (p *pull) missing(err error) {
	p.mu.Lock()
	p.absent++
	gone := p.known || p.absent > absentTries
	if !gone && !p.closed {
		p.heard = time.Now()
		n := p.wanted
		p.again = time.AfterFunc(absentPause, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if !p.closed {
				p.send(n)
			}
		})
	}
	p.mu.Unlock()
	if gone {
		p.fail(err)
	}
}
