package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/enmanuel/unibus/lib/bus"
)

// Reason is why a connection was refused.
type Reason string

// The reasons.
const (
	ReasonLimit        Reason = "limit"         // too many connections of everybody
	ReasonAddressLimit Reason = "address_limit" // too many of one address
	ReasonGreeting     Reason = "greeting"      // it broke off, or stayed silent, before anybody was known behind it
	ReasonStranger     Reason = "stranger"      // it had to make room before anybody was known behind it
	ReasonProtocol     Reason = "protocol"      // it sent what no client sends
)

// ConnOpened counts a connection that was taken in, until closed is called,
// once.
func (m *Metrics) ConnOpened(p Plane) (closed func()) {
	m.connsAccepted.WithLabelValues(string(p)).Inc()
	open := m.connsOpen.WithLabelValues(string(p))
	open.Inc()
	return open.Dec
}

// ConnRefused counts a connection that was turned away.
func (m *Metrics) ConnRefused(p Plane, why Reason) {
	m.connsRefused.WithLabelValues(string(p), string(why)).Inc()
}

// Admitted counts a session that was let in.
func (m *Metrics) Admitted() { m.admitted.Inc() }

// Cut counts a session that was ended, for a reason with the code.
func (m *Metrics) Cut(c bus.Code) { m.cut.WithLabelValues(codeLabel(c)).Inc() }

// Denied counts a refusal.
func (m *Metrics) Denied(p Plane, c bus.Code) {
	m.denials.WithLabelValues(string(p), codeLabel(c)).Inc()
}

// codeLabel keeps the values of labels to the codes there are.
func codeLabel(c bus.Code) string {
	if !c.Known() {
		c = bus.CodeInternal
	}
	return string(c)
}

// By is whose requests were too many.
type By string

// Whose they can be.
const (
	ByAddress  By = "address"
	ByIdentity By = "identity"
)

// RateLimited counts a request that was one too many.
func (m *Metrics) RateLimited(by By) { m.rateLimited.WithLabelValues(string(by)).Inc() }

// NoRoute stands for the pattern of a request that no route takes.
const NoRoute = "none"

// RequestBegan counts a request as under way until done is called, once, with
// the pattern of its route and its status.
func (m *Metrics) RequestBegan(method string) (done func(route string, status int, took time.Duration)) {
	m.inFlight.Inc()
	method = methodLabel(method)
	return func(route string, status int, took time.Duration) {
		m.inFlight.Dec()
		m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
		m.requestDuration.WithLabelValues(route, method).Observe(took.Seconds())
	}
}

// methodLabel keeps the values of labels to methods that routes have: a client
// may send any word.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete:
		return method
	}
	return "other"
}

// Direction is which way a frame went.
type Direction int

// The directions.
const (
	In  Direction = iota // from a publisher
	Out                  // to a reader
)

// flows are the counters of frames by direction and kind of room. Finding them
// by their labels would cost more than counting.
type flows [2][2]struct{ frames, bytes prometheus.Counter }

func newFlows(frames, bytes *prometheus.CounterVec) (f flows) {
	for d, direction := range []string{"in", "out"} {
		for r, room := range []string{"live", "persisted"} {
			f[d][r].frames = frames.WithLabelValues(direction, room)
			f[d][r].bytes = bytes.WithLabelValues(direction, room)
		}
	}
	return f
}

// Frame counts a frame with its size in bytes.
func (m *Metrics) Frame(d Direction, persisted bool, size int) {
	room := 0
	if persisted {
		room = 1
	}
	f := &m.frames[d][room]
	f.frames.Inc()
	f.bytes.Add(float64(size))
}

// LeaseRenewed counts an attempt to renew the lease, err being why it failed.
func (m *Metrics) LeaseRenewed(err error) { m.leaseRenewals.WithLabelValues(resultLabel(err)).Inc() }

// ViewCaughtUp notes how long it took until the view showed a write.
func (m *Metrics) ViewCaughtUp(took time.Duration) { m.viewLag.Observe(took.Seconds()) }

// Task is a kind of upkeep that a node does by itself.
type Task string

// The tasks.
const (
	TaskSweep Task = "sweep" // records and keys that no head ever reached
	TaskPurge Task = "purge" // messages past the age of their room
)

// Housekept counts a run of a task, err being why it failed.
func (m *Metrics) Housekept(t Task, err error) {
	m.housekeeping.WithLabelValues(string(t), resultLabel(err)).Inc()
}

func resultLabel(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}

// LogSuppressed counts a log line that was left out.
func (m *Metrics) LogSuppressed() { m.logSuppressed.Inc() }

// Reported counts a report of a client: how often it refused something, by
// code. What the node cannot check is counted apart from what it saw itself.
func (m *Metrics) Reported(counts map[bus.Code]uint32) {
	m.reports.Inc()
	for code, n := range counts {
		m.rejections.WithLabelValues(codeLabel(code)).Add(float64(n))
	}
}
