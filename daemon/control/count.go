package control

import (
	"net/http"
	"strings"
	"time"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
)

// count counts the requests of a plane and times them. A request is counted
// under the pattern of its route: what it really asked for is nobody's business.
func (s *Server) count(plane metrics.Plane, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, own := s.own.Load(r.RemoteAddr); own {
			next.ServeHTTP(&countedWriter{ResponseWriter: w, own: true}, r)
			return
		}
		begun := time.Now() // of the machine: how long it took is no business of the injected clock
		done := s.cfg.Metrics.RequestBegan(r.Method)
		counted := &countedWriter{ResponseWriter: w, plane: plane, status: http.StatusOK}
		defer func() { done(routeOf(r), counted.status, time.Since(begun)) }()
		next.ServeHTTP(counted, r)
	})
}

// routeOf returns the pattern that the mux found for a request.
func routeOf(r *http.Request) string {
	_, pattern, ok := strings.Cut(r.Pattern, " ")
	if !ok {
		pattern = r.Pattern
	}
	if pattern == "" || pattern == "/" {
		return metrics.NoRoute
	}
	return pattern
}

// countedWriter remembers the status of a reply.
type countedWriter struct {
	http.ResponseWriter
	plane  metrics.Plane
	status int
	own    bool // the request is one of the node's own probes
}

// WriteHeader implements [http.ResponseWriter].
func (w *countedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// unwrapped returns the server's own writer, which can do more.
func unwrapped(w http.ResponseWriter) http.ResponseWriter {
	if c, ok := w.(*countedWriter); ok {
		return c.ResponseWriter
	}
	return w
}

// denied counts a refusal.
func (s *Server) denied(w http.ResponseWriter, code bus.Code) {
	if c, ok := w.(*countedWriter); ok && !c.own {
		s.cfg.Metrics.Denied(c.plane, code)
	}
}
