package metrics

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what a node looks up when it is scraped.
type State struct {
	Ready       bool
	LeaseAge    time.Duration // since the latest renewal that came back was begun
	ViewBehind  uint64        // revisions of the store that the view does not show yet
	Users       int           // active ones
	Rooms       int
	Memberships int
	Sessions    int // of members, on the data plane
	Streams     []Stream
	StreamLimit int64  // bytes one stream may hold; 0 is the disk
	AuditLast   uint64 // number of the last entry of the audit log
	Blobs       Blobs
	CertEnds    time.Time // when the certificate that clients are shown ends; zero without TLS
}

// Stream is what one shard holds.
type Stream struct {
	Shard     int
	Messages  uint64
	Bytes     uint64
	Consumers int
}

// Blobs is what the store of blobs holds, and what it did since the start.
type Blobs struct {
	Blobs, Bytes         int64 // complete ones
	Uploads, UploadBytes int64 // begun ones
	Received, Served     int64 // bytes
	Damaged              int64 // blobs
}

// Watch has scrapes look at the node. Before it is called they leave out what it
// would tell.
func (m *Metrics) Watch(read func() State) {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	m.state.read = read
}

// state turns a [State] into metrics.
type state struct {
	mu   sync.Mutex
	read func() State
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	descReady       = desc("ready", "1 while the node may serve, 0 while it may not.")
	descLeaseAge    = desc("lease_age_seconds", "Age of the latest lease that came back through the node's own view of the store. Over 6 the node is not ready.")
	descViewBehind  = desc("view_behind_revisions", "Revisions of the store that the node's view does not show yet.")
	descUsers       = desc("users", "Active users of the bus.")
	descRooms       = desc("rooms", "Rooms of the bus.")
	descMemberships = desc("memberships", "Members of all rooms, added up.")
	descSessions    = desc("sessions", "Open sessions of members on the data plane.")
	descStreamMsgs  = desc("stream_messages", "Frames that a shard of the persisted rooms holds.", "shard")
	descStreamBytes = desc("stream_bytes", "Bytes that a shard of the persisted rooms holds.", "shard")
	descStreamLimit = desc("stream_limit_bytes", "Bytes at which a shard refuses further messages; left out where only the disk bounds it.")
	descConsumers   = desc("consumers", "Places in persisted rooms that the node keeps for sessions, by shard.", "shard")
	descAudit       = desc("audit_entries_total", "Entries of the node's audit log, its number of the last one.")
	descBlobs       = desc("blobs", "Blobs that the node keeps.")
	descBlobBytes   = desc("blob_bytes", "Bytes of these blobs, as they were uploaded.")
	descUploads     = desc("blob_uploads", "Uploads of blobs that are not complete.")
	descUploadBytes = desc("blob_upload_bytes", "Bytes of these uploads so far.")
	descTransferred = desc("blob_transferred_bytes_total", "Bytes of blobs taken in (in) and handed out (out).", "direction")
	descDamaged     = desc("blobs_damaged_total", "Blobs that were found to be damaged, and are no longer served.")
	descCertEnds    = desc("certificate_not_after_timestamp_seconds", "Unix time at which the certificate that clients are shown ends; left out without TLS.")
)

// Describe implements [prometheus.Collector].
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descReady, descLeaseAge, descViewBehind, descUsers, descRooms, descMemberships, descSessions,
		descStreamMsgs, descStreamBytes, descStreamLimit, descConsumers, descCertEnds,
		descAudit, descBlobs, descBlobBytes, descUploads, descUploadBytes, descTransferred, descDamaged,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *state) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	read := s.read
	s.mu.Unlock()
	if read == nil {
		return
	}
	now := read()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	ready := 0.
	if now.Ready {
		ready = 1
	}
	gauge(descReady, ready)
	gauge(descLeaseAge, now.LeaseAge.Seconds())
	gauge(descViewBehind, float64(now.ViewBehind))
	gauge(descUsers, float64(now.Users))
	gauge(descRooms, float64(now.Rooms))
	gauge(descMemberships, float64(now.Memberships))
	gauge(descSessions, float64(now.Sessions))
	for _, stream := range now.Streams {
		shard := strconv.Itoa(stream.Shard)
		gauge(descStreamMsgs, float64(stream.Messages), shard)
		gauge(descStreamBytes, float64(stream.Bytes), shard)
		gauge(descConsumers, float64(stream.Consumers), shard)
	}
	counter(descAudit, float64(now.AuditLast))
	gauge(descBlobs, float64(now.Blobs.Blobs))
	gauge(descBlobBytes, float64(now.Blobs.Bytes))
	gauge(descUploads, float64(now.Blobs.Uploads))
	gauge(descUploadBytes, float64(now.Blobs.UploadBytes))
	counter(descTransferred, float64(now.Blobs.Received), "in")
	counter(descTransferred, float64(now.Blobs.Served), "out")
	counter(descDamaged, float64(now.Blobs.Damaged))
	if now.StreamLimit > 0 {
		gauge(descStreamLimit, float64(now.StreamLimit))
	}
	if !now.CertEnds.IsZero() {
		gauge(descCertEnds, float64(now.CertEnds.Unix()))
	}
}
