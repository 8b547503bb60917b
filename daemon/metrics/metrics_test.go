package metrics_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
	"github.com/enmanuel/unibus/lib/store/sqlite"
)

// exercise has every metric show.
func exercise(m *metrics.Metrics) {
	m.ConnOpened(metrics.Control)
	m.ConnOpened(metrics.Data)()
	m.ConnRefused(metrics.Data, metrics.ReasonLimit)
	m.Admitted()
	m.Cut(bus.CodeRevoked)
	m.Denied(metrics.Control, bus.CodeForbidden)
	m.RateLimited(metrics.ByAddress)
	m.RequestBegan(http.MethodGet)("/rooms", 200, time.Millisecond)
	m.Frame(metrics.In, true, 100)
	m.Frame(metrics.Out, false, 10)
	m.LeaseRenewed(nil)
	m.ViewCaughtUp(time.Millisecond)
	m.Housekept(metrics.TaskPurge, errors.New("x"))
	m.LogSuppressed()
	m.Reported(map[bus.Code]uint32{bus.CodeDecrypt: 3})
	m.Watch(func() metrics.State {
		return metrics.State{
			Ready: true, Users: 2, StreamLimit: 1 << 20, CertEnds: time.Unix(1_900_000_000, 0),
			Streams: []metrics.Stream{{Shard: 3, Messages: 7, Bytes: 700, Consumers: 1}},
		}
	})
}

// names returns every metric that there is, shown or not.
func names(m prometheus.Collector) []string {
	ch := make(chan *prometheus.Desc, 1000)
	m.Describe(ch)
	close(ch)
	var all []string
	for d := range ch {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func TestMetricsFollowThePractice(t *testing.T) {
	m := metrics.New("v1")
	exercise(m)
	store := m.Store(openStore(t))
	if _, err := store.Get(t.Context(), "control", "none"); !errors.Is(err, bus.ErrNotFound) {
		t.Fatal(err)
	}
	problems, err := testutil.CollectAndLint(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	shown, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, family := range shown {
		have[family.GetName()] = true
	}
	for _, name := range names(m) {
		if !have[name] {
			t.Errorf("%s is never shown", name)
		}
	}
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "unibus.db"), sqlite.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStrangersCannotMakeMetrics(t *testing.T) {
	m := metrics.New("v1")
	for _, word := range []string{"BREW", "get", strings.Repeat("X", 1000)} {
		m.RequestBegan(word)(metrics.NoRoute, 404, 0)
		m.Denied(metrics.Control, bus.Code(word))
		m.Cut(bus.Code(word))
		m.Reported(map[bus.Code]uint32{bus.Code(word): 1})
	}
	want := `
		# HELP unibus_requests_total Requests answered by the control plane and the local socket, by route, method and HTTP status.
		# TYPE unibus_requests_total counter
		unibus_requests_total{method="other",route="none",status="404"} 3
		# HELP unibus_denials_total Requests, sessions and messages refused, by plane and error code.
		# TYPE unibus_denials_total counter
		unibus_denials_total{code="internal",plane="control"} 3
	`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "unibus_requests_total", "unibus_denials_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(m, "unibus_client_rejections_total", "unibus_sessions_cut_total"); n != 2 {
		t.Errorf("%d series, want 2", n)
	}
}

func TestScrape(t *testing.T) {
	m := metrics.New("v1")
	exercise(m)
	rec := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`unibus_build_info{version="v1"} 1`,
		`unibus_connections{plane="control"} 1`,
		`unibus_connections{plane="data"} 0`,
		`unibus_connections_accepted_total{plane="data"} 1`,
		`unibus_frames_total{direction="in",room="persisted"} 1`,
		`unibus_frame_bytes_total{direction="out",room="live"} 10`,
		`unibus_stream_bytes{shard="3"} 700`,
		`unibus_client_rejections_total{code="decrypt"} 3`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(string(body), "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
}

func TestStoreIsCountedAndUnchanged(t *testing.T) {
	m := metrics.New("v1")
	s := m.Store(openStore(t))
	ctx := t.Context()
	rev, err := s.Create(ctx, store.Control, "k", []byte("v"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, store.Control, "k", nil, 0); !errors.Is(err, bus.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	if e, err := s.Get(ctx, store.Control, "k"); err != nil || string(e.Value) != "v" || e.Revision != rev {
		t.Errorf("got %+v, %v", e, err)
	}
	if rev, err = s.Update(ctx, store.Control, "k", []byte("w"), rev); err != nil {
		t.Error(err)
	}
	if list, err := s.List(ctx, store.Control, ""); err != nil || len(list) != 1 {
		t.Errorf("list %v, %v", list, err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w, err := s.Watch(watching, store.Control, "")
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	if err := s.Delete(ctx, store.Control, "k", rev); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(m, "unibus_store_operation_duration_seconds"); n != 6 {
		t.Errorf("%d operations are timed, want 6", n)
	}
	want := `
		# HELP unibus_store_operation_errors_total Operations of the store that returned an error, by operation and error code; not_found, exists and conflict are everyday answers.
		# TYPE unibus_store_operation_errors_total counter
		unibus_store_operation_errors_total{code="exists",operation="create"} 1
	`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "unibus_store_operation_errors_total"); err != nil {
		t.Error(err)
	}
}
