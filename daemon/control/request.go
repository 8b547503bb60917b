package control

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
)

// retryAfterMS is when a client may come again after a node could not serve.
const retryAfterMS = 1000

// request is one request whose sender has been found out and may make it.
type request struct {
	*http.Request
	ctx    context.Context
	id     string
	signer directory.User // zero for routes without a signature
	key    bus.TransportPub
	body   []byte // whole and, where the request is signed, proven
}

// handle takes one request through its route and always replies.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, rt route) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	req := &request{Request: r, ctx: ctx, id: newRequestID()}
	w.Header().Set("Cache-Control", "no-store")
	status, reply, err := s.dispatch(w, req, rt)
	if err != nil {
		s.problem(w, req, err)
		return
	}
	var body []byte
	if reply != nil {
		if body, err = api.Encode(reply); err != nil {
			s.problem(w, req, err)
			return
		}
		w.Header().Set("Content-Type", api.MediaJSON)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil && len(body) > 0 {
		s.log.Debug("reply not delivered", "request", req.id, "error", err)
	}
}

func (s *Server) dispatch(w http.ResponseWriter, req *request, rt route) (int, any, error) {
	changes := rt.method != http.MethodGet && rt.method != http.MethodHead
	if changes {
		// A node that does not know that it is current must change nothing.
		if err := s.cfg.Ready(); err != nil {
			return 0, nil, err
		}
	}
	req.Body = http.MaxBytesReader(w, req.Body, bus.MaxBody)
	if err := s.admit(req, rt, changes); err != nil {
		return 0, nil, err
	}
	status, reply, err := rt.serve(s, req)
	if err == nil && changes {
		// Reply when this node acts by the change. It is stored already, so being
		// late here is no failure of the request.
		if late := s.cfg.View.CatchUp(req.ctx); late != nil {
			s.log.Warn("replied before the change was seen", "request", req.id, "error", late)
		}
	}
	return status, reply, err
}

func (s *Server) problem(w http.ResponseWriter, req *request, err error) {
	if errors.Is(err, context.DeadlineExceeded) && bus.CodeOf(err) == bus.CodeInternal {
		err = bus.Errorf(bus.CodeTimeout, "serve request: %w", err)
	}
	p := api.NewProblem(err, req.id)
	level := slog.LevelInfo
	switch {
	case p.Status >= http.StatusInternalServerError:
		level = slog.LevelError
	case p.Status == http.StatusNotFound || p.Status == http.StatusConflict:
		level = slog.LevelDebug
	}
	if p.Status == http.StatusServiceUnavailable {
		p.RetryAfterMS = retryAfterMS
	}
	if c, ok := errors.AsType[*directory.HeadConflict](err); ok {
		p.Head = &api.Head{Room: c.Room, Epoch: c.Head.Epoch, Hash: c.Head.Hash}
	}
	s.log.Log(req.Context(), level, "request refused", "request", req.id, "method", req.Method, "path", req.URL.Path,
		"remote", req.RemoteAddr, "user", req.signer.Handle, "status", p.Status, "code", p.Code, "error", err)
	if err := api.WriteProblem(w, p); err != nil {
		s.log.Debug("reply not delivered", "request", req.id, "error", err)
	}
}

func (s *Server) refusePath(w http.ResponseWriter, r *http.Request) {
	s.problem(w, &request{Request: r, id: newRequestID()}, bus.Errorf(bus.CodeNotFound, "find route: there is no %.200q", r.URL.Path))
}

func (s *Server) refuseMethod(w http.ResponseWriter, r *http.Request, allowed []string) {
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	id := newRequestID()
	p := api.NewProblem(bus.Errorf(bus.CodeMalformed, "find route: %.200q takes %s, not %.20q", r.URL.Path, strings.Join(allowed, ", "), r.Method), id)
	p.Status = http.StatusMethodNotAllowed
	if err := api.WriteProblem(w, p); err != nil {
		s.log.Debug("reply not delivered", "request", id, "error", err)
	}
}

func newRequestID() string {
	var b [9]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process first
	return base64.RawURLEncoding.EncodeToString(b[:])
}
