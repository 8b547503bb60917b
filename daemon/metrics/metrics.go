package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// namespace is what the names of all metrics of a node begin with.
const namespace = "unibus"

// Plane is where a connection or a request came in.
type Plane string

// The planes.
const (
	Control Plane = "control" // HTTP, from clients
	Local   Plane = "local"   // HTTP, through the local socket
	Data    Plane = "data"    // NATS
)

// Buckets of durations, in seconds. A request takes a signature and a few reads;
// one that changes something also an fsync. A store answers from memory or with
// an fsync.
var (
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}
	storeBuckets   = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}
)

// Metrics is what a node counts. It is safe for concurrent use, and a
// [prometheus.Collector] of everything in it.
type Metrics struct {
	all      []prometheus.Collector
	registry *prometheus.Registry
	state    *state

	connsOpen     *prometheus.GaugeVec
	connsAccepted *prometheus.CounterVec
	connsRefused  *prometheus.CounterVec
	admitted      prometheus.Counter
	cut           *prometheus.CounterVec
	denials       *prometheus.CounterVec
	rateLimited   *prometheus.CounterVec

	requests        *prometheus.CounterVec
	requestDuration *prometheus.HistogramVec
	inFlight        prometheus.Gauge

	frames flows

	storeDuration *prometheus.HistogramVec
	storeErrors   *prometheus.CounterVec

	leaseRenewals *prometheus.CounterVec
	viewLag       prometheus.Histogram
	housekeeping  *prometheus.CounterVec
	logSuppressed prometheus.Counter

	reports    prometheus.Counter
	rejections *prometheus.CounterVec
}

// New returns metrics of a node that runs the version.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), state: &state{}}
	m.all = append(m.all, m.state)
	info := m.gauges("build_info", "Always 1; the label says which version runs.", "version")
	info.WithLabelValues(version).Set(1)

	m.connsOpen = m.gauges("connections", "Open connections by plane, those of strangers included; the local socket is left out.", "plane")
	m.connsAccepted = m.counters("connections_accepted_total", "Connections taken in, by plane.", "plane")
	m.connsRefused = m.counters("connections_refused_total", "Connections turned away, or cut for how they began or what they sent, by plane and reason.", "plane", "reason")
	m.admitted = m.counter("sessions_admitted_total", "Sessions of members let in on the data plane.")
	m.cut = m.counters("sessions_cut_total", "Sessions of members ended by the node, by the error code of the reason.", "code")
	m.denials = m.counters("denials_total", "Requests, sessions and messages refused, by plane and error code.", "plane", "code")
	m.rateLimited = m.counters("rate_limited_total", "Requests refused because one address or one identity sent too many.", "by")

	m.requests = m.counters("requests_total", "Requests answered by the control plane and the local socket, by route, method and HTTP status.", "route", "method", "status")
	m.requestDuration = m.histograms("request_duration_seconds", "Time from the first header of a request to its reply, by route and method.", requestBuckets, "route", "method")
	m.inFlight = m.gauge("requests_in_flight", "Requests being answered.")

	m.frames = newFlows(
		m.counters("frames_total", "Frames of rooms that members sent (in) and were sent (out), by whether the room is persisted or live.", "direction", "room"),
		m.counters("frame_bytes_total", "Bytes of those frames, NATS headers included.", "direction", "room"),
	)

	m.storeDuration = m.histograms("store_operation_duration_seconds", "Time of operations of the store, by operation.", storeBuckets, "operation")
	m.storeErrors = m.counters("store_operation_errors_total", "Operations of the store that returned an error, by operation and error code; not_found, exists and conflict are everyday answers.", "operation", "code")

	m.leaseRenewals = m.counters("lease_renewals_total", "Attempts of the node to renew its lease, by result.", "result")
	m.viewLag = m.histogram("view_lag_seconds", "Time from a lease being written until the node's own view of the store shows it.", storeBuckets)
	m.housekeeping = m.counters("housekeeping_runs_total", "Runs of the node's own upkeep, by task and result.", "task", "result")
	m.logSuppressed = m.counter("log_lines_suppressed_total", "Log lines left out because too many of their kind came.")

	m.reports = m.counter("client_reports_total", "Reports of clients that agreed to tell what they refused.")
	m.rejections = m.counters("client_rejections_total", "Messages and answers that clients refused, by error code, as far as they report it.", "code")

	m.registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func add[C prometheus.Collector](m *Metrics, c C) C {
	m.all = append(m.all, c)
	return c
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	return add(m, prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}))
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return add(m, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels))
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	return add(m, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}))
}

func (m *Metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return add(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels))
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return add(m, prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}))
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return add(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels))
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
}

// Gatherer returns everything that a scrape shows: the metrics, and those of the
// Go runtime and of the process.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// scrapeTimeout bounds one scrape, and maxScrapes how many run at once.
const (
	scrapeTimeout = 10 * time.Second
	maxScrapes    = 4
)

// Handler answers scrapes. What goes wrong in one is logged.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{log},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	})
}

type scrapeLog struct{ log *slog.Logger }

// Println implements [promhttp.Logger].
func (l scrapeLog) Println(v ...any) { l.log.Warn("scrape of metrics incomplete", "error", v) }
