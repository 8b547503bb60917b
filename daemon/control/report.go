package control

import (
	"fmt"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// reportPace is how often one identity may report, with some room for several
// programs and for restarts. Honest clients come every ten minutes.
var reportPace = Rate{PerSecond: 1 / (2 * time.Minute).Seconds(), Burst: 8}

// takeReport counts what a client says that it refused. Nothing is kept of who
// said so, and nobody can check it.
func (s *Server) takeReport(req *request) (int, any, error) {
	leave, refused := s.reports.enter(req.signer.ID, kindRead)
	if refused != nil {
		s.cfg.Metrics.RateLimited(metrics.ByIdentity)
		return 0, nil, fmt.Errorf("take report: %w", refused)
	}
	defer leave()
	report, err := api.Decode[api.Report](req.body)
	if err != nil {
		return 0, nil, err
	}
	s.cfg.Metrics.Reported(report.Counts)
	return http.StatusNoContent, nil, nil
}

func newReportThrottle(now func() time.Time) *throttle[bus.ID] {
	return newThrottle[bus.ID](now, 1, reportPace)
}
