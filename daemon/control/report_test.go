package control

import (
	"net/http"
	"testing"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

func TestReportsAreCheckedAndPaced(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice", bus.UserMember)
	for name, report := range map[string]api.Report{
		"of another version": {V: 2, Counts: map[bus.Code]uint32{bus.CodeDecrypt: 1}},
		"empty":              {V: 1},
		"no code":            {V: 1, Counts: map[bus.Code]uint32{"room.x": 1}},
		"nothing":            {V: 1, Counts: map[bus.Code]uint32{bus.CodeDecrypt: 0}},
		"too many":           {V: 1, Counts: map[bus.Code]uint32{bus.CodeDecrypt: api.MaxReportCount + 1}},
	} {
		if err := report.Validate(); bus.CodeOf(err) != bus.CodeMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	status, err := w.call(alice, http.MethodPost, api.ReportsPath(), api.Report{V: 1, Counts: map[bus.Code]uint32{"x": 1}}, nil)
	w.want("a code that is none", status, err, http.StatusBadRequest, bus.CodeMalformed)
	good := api.Report{V: 1, Counts: map[bus.Code]uint32{bus.CodeDecrypt: 2, bus.CodeGap: 1}}
	for range reportPace.Burst - 1 {
		status, err := w.call(alice, http.MethodPost, api.ReportsPath(), good, nil)
		w.want("a report", status, err, http.StatusNoContent, "")
	}
	status, err = w.call(alice, http.MethodPost, api.ReportsPath(), good, nil)
	w.want("one too many", status, err, http.StatusTooManyRequests, bus.CodeRateLimited)
	bob := w.user("bob", bus.UserMember)
	w.must(w.view.CatchUp(w.ctx))
	status, err = w.call(bob, http.MethodPost, api.ReportsPath(), good, nil)
	w.want("somebody else's", status, err, http.StatusNoContent, "")
}
