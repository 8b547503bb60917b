package control

import (
	"net/http"
	"strconv"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// auditPageSize bounds the lines of the audit log in one reply, in bytes.
const auditPageSize = 1 << 20

// change is a change in the audit log, and what is to be written about its
// outcome.
type change struct {
	*audit.Pending
	outcome audit.Outcome
}

// begin writes down that a request is about to change subject. Handlers call it
// once all that can be refused before has been; after an error nothing may
// change. Routes whose changes are not kept, such as those to cursors, leave it.
func (s *Server) begin(req *request, subject string) error {
	c := audit.Change{
		Via: req.via, Handle: req.signer.Handle, UID: peerOf(req.ctx),
		Method: req.Method, Path: req.URL.Path, Subject: subject, Digest: req.digest,
	}
	if !req.signer.ID.IsZero() {
		c.ID = &req.signer.ID
	}
	p, err := s.cfg.Audit.Begin(req.id, c)
	if err != nil {
		return err
	}
	req.change = &change{Pending: p}
	return nil
}

// moved notes the head that a room has after the change.
func (c *change) moved(rec *room.Record) {
	epoch, head := rec.Epoch, rec.Hash()
	c.outcome.Epoch, c.outcome.Head = &epoch, &head
}

// serve runs the handler of a route and writes down what came of the change, if
// it was about to make one. A panic is an outcome too.
func (s *Server) serve(req *request, rt route) (status int, reply any, err error) {
	code := string(bus.CodeInternal)
	defer func() {
		if req.change == nil {
			return
		}
		o := req.change.outcome
		o.Code = code
		if code == audit.OK {
			o.Revision = uint64(s.cfg.Directory.Wrote())
		}
		if err := req.change.End(o); err != nil {
			// What was changed stays changed, and is answered as such.
			s.log.Error("outcome not written to the audit log", "request", req.id, "code", code, "error", err)
		}
	}()
	status, reply, err = rt.serve(s, req)
	code = audit.OK
	if err != nil {
		code = string(bus.CodeOf(err))
	}
	return status, reply, err
}

// auditPage hands out the log as it is: whoever asks checks it.
func (s *Server) auditPage(req *request) (int, any, error) {
	var from uint64
	if req.query != "" {
		var err error
		if from, err = strconv.ParseUint(req.query, 10, 64); err != nil {
			return 0, nil, bus.Errorf(bus.CodeMalformed, "read number of an entry: %w", err)
		}
	}
	p, err := s.cfg.Audit.Page(from, auditPageSize)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, api.AuditPage{V: 1, First: p.First, Prev: p.Prev, Lines: append([]string{}, p.Lines...), More: p.More}, nil
}
