package api

import "github.com/enmanuel/unibus/lib/bus"

// MaxReportCount bounds what one report may say of one code: what a member
// claims must not outweigh everybody else.
const MaxReportCount = 10_000

// Report tells a node how often a client refused something since its last
// report, by the code of the failure, and nothing else: no room, no sender, no
// time. Clients send it only where their user agreed to that.
type Report struct {
	V      int                 `json:"v"` // 1
	Counts map[bus.Code]uint32 `json:"counts"`
}

// Validate checks the version, that every code is known, and the counts.
func (r Report) Validate() error {
	switch {
	case r.V != 1:
		return bus.Errorf(bus.CodeMalformed, "check report: version %d", r.V)
	case len(r.Counts) == 0:
		return bus.Errorf(bus.CodeMalformed, "check report: nothing is counted")
	}
	for code, n := range r.Counts {
		switch {
		case !code.Known():
			return bus.Errorf(bus.CodeMalformed, "check report: there is no code %.40q", string(code))
		case n == 0 || n > MaxReportCount:
			return bus.Errorf(bus.CodeMalformed, "check report: %d of %s, want 1 to %d", n, code, MaxReportCount)
		}
	}
	return nil
}
