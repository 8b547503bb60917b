package control

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
)

// retryAfterMS is when a client may come again after a node could not serve.
const retryAfterMS = 1000

// request is one request whose sender has been found out and may make it.
type request struct {
	*http.Request
	ctx     context.Context
	id      string
	signer  directory.User // zero for routes without a signature
	key     bus.TransportPub
	card    *identity.Card // routes for the holder of a card only
	query   string         // value of the one parameter that the route has, or ""
	body    []byte         // whole and, where the request is signed, proven
	content io.Reader      // in place of body, where that streams: proven at its end
	line    *line          // where content streams
	digest  audit.Digest   // of what was signed, or of the body
	via     audit.Via      // how it is known who sent it
	change  *change        // what of it is in the audit log; nil while nothing is
	leave   func()         // ends what counts against the signer; nil while nothing does
}

// handle takes one request through its route and always replies.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, rt route) {
	ctx, cancel := context.WithTimeout(r.Context(), rt.timeout())
	defer cancel()
	req := &request{Request: r, ctx: ctx, id: newRequestID()}
	defer func() {
		if req.leave != nil {
			req.leave()
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.problem(w, req, bus.Errorf(bus.CodeInternal, "serve request: panic: %v\n%s", p, debug.Stack()))
		}
	}()
	status, reply, err := s.dispatch(w, req, rt)
	if err != nil {
		s.problem(w, req, err)
		return
	}
	if r, ok := reply.(responder); ok {
		if err := r.respond(s, w, req, status); err != nil {
			s.problem(w, req, err)
		}
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
	setHeaders(w, req.id)
	w.WriteHeader(status)
	if len(body) > 0 {
		if _, err := w.Write(body); err != nil {
			s.log.Debug("reply not delivered", "request", req.id, "error", err)
		}
	}
}

func (s *Server) dispatch(w http.ResponseWriter, req *request, rt route) (int, any, error) {
	if rt.changes() {
		// A node that does not know that it is current must change nothing.
		if err := s.cfg.Ready(); err != nil {
			return 0, nil, err
		}
	}
	var err error
	if req.query, err = parseQuery(req.URL, rt.query); err != nil {
		return 0, nil, err
	}
	req.Body = http.MaxBytesReader(unwrapped(w), req.Body, rt.limit)
	if rt.streams() {
		req.line = newLine(w)
		req.Body = req.line.reader(req.Body)
	}
	if err := s.admit(req, rt); err != nil {
		return 0, nil, err
	}
	status, reply, err := s.serve(req, rt)
	if err == nil && rt.changes() && !rt.streams() {
		s.settle(req)
	}
	return status, reply, err
}

// settle waits until this node acts by the change that was made. It is stored
// already, so being late is no failure of the request.
func (s *Server) settle(req *request) {
	ctx, cancel := context.WithTimeout(req.ctx, settleTimeout)
	defer cancel()
	err := s.cfg.View.CatchUp(ctx)
	if err == nil && s.cfg.Settle != nil {
		err = s.cfg.Settle(ctx)
	}
	if err != nil {
		s.log.Warn("replied before the change was acted by", "request", req.id, "error", err)
	}
}

// parseQuery returns the value of the one parameter that a route knows, "" if it
// is not there. Anything else in the query is refused.
func parseQuery(u *url.URL, known string) (string, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", bus.Errorf(bus.CodeMalformed, "read query: %w", err)
	}
	for name, list := range values {
		if name != known || len(list) != 1 || list[0] == "" {
			return "", bus.Errorf(bus.CodeMalformed, "read query: %.40q is unknown, empty or there twice", name)
		}
	}
	return values.Get(known), nil
}

func (s *Server) problem(w http.ResponseWriter, req *request, err error) {
	if errors.Is(err, context.DeadlineExceeded) && bus.CodeOf(err) == bus.CodeInternal {
		err = bus.Errorf(bus.CodeTimeout, "serve request: %w", err)
	}
	p := api.NewProblem(err, req.id)
	switch p.Code {
	case bus.CodeClockSkew:
		p.Detail += "; the time here is " + s.cfg.Now().UTC().Format(time.RFC3339)
	case bus.CodeUnavailable, bus.CodeClosed:
		p.RetryAfterMS = retryAfterMS
	}
	if c, ok := errors.AsType[*directory.HeadConflict](err); ok {
		p.Head = &api.Head{Room: c.Room, Epoch: c.Head.Epoch, Hash: c.Head.Hash}
	}
	level := levelOf(req, p.Status)
	if c, ok := w.(*countedWriter); ok && c.own {
		level = slog.LevelDebug
	}
	if l, ok := errors.AsType[*limited](err); ok {
		p.RetryAfterMS = l.after.Milliseconds()
		if l.first {
			level = slog.LevelWarn
		}
	}
	s.log.Log(req.Context(), level, "request refused", "request", req.id, "method", clip(req.Method), "path", clip(req.URL.Path),
		"remote", req.RemoteAddr, "user", req.signer.Handle, "status", p.Status, "code", p.Code, "error", err)
	s.send(w, p)
}

func (s *Server) send(w http.ResponseWriter, p api.Problem) {
	s.denied(w, p.Code)
	setHeaders(w, p.RequestID)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Signature") // RFC 9110 asks for one; ours is RFC 9421
	}
	if err := api.WriteProblem(w, p); err != nil {
		s.log.Debug("reply not delivered", "request", p.RequestID, "error", err)
	}
}

// levelOf is how loud a refusal is: what the node's operator must know, what
// tells of a client that does wrong, and what is everyday business.
func levelOf(req *request, status int) slog.Level {
	switch {
	case req.Context().Err() != nil: // the client went away
		return slog.LevelDebug
	case status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return slog.LevelWarn
	case status >= http.StatusInternalServerError:
		return slog.LevelError
	case status == http.StatusNotFound || status == http.StatusConflict:
		return slog.LevelDebug
	case status == http.StatusTooManyRequests: // a flood must not go on in the log
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// maxLogged bounds what a stranger can have written into one field of the log.
const maxLogged = 200

func clip(s string) string {
	if len(s) > maxLogged {
		s = strings.ToValidUTF8(s[:maxLogged], "") + "…"
	}
	return s
}

func setHeaders(w http.ResponseWriter, requestID string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Request-Id", requestID)
}

func (s *Server) refusePath(w http.ResponseWriter, r *http.Request) {
	s.problem(w, &request{Request: r, id: newRequestID()}, bus.Errorf(bus.CodeNotFound, "find route: there is no %.200q", r.URL.Path))
}

func (s *Server) refuseMethod(w http.ResponseWriter, r *http.Request, allowed []string) {
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	p := api.NewProblem(bus.Errorf(bus.CodeUsage, "find route: %.200q takes %s, not %.20q", r.URL.Path, list, r.Method), newRequestID())
	p.Status = http.StatusMethodNotAllowed
	s.send(w, p)
}

func newRequestID() string {
	var b [9]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process first
	return base64.RawURLEncoding.EncodeToString(b[:])
}
