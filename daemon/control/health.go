package control

import (
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
)

func (s *Server) health(req *request) (int, any, error) {
	return http.StatusOK, s.cfg.Health(req.ctx), nil
}

// ready answers anybody, so it keeps to itself what a view that cannot follow
// stumbled over: that may name users and rooms.
func (s *Server) ready(req *request) (int, any, error) {
	if err := s.cfg.View.Err(); err != nil {
		s.log.Warn("not ready", "request", req.id, "error", err)
		return http.StatusServiceUnavailable, api.Ready{Reasons: []string{"the view of the store is not current"}}, nil
	}
	if err := s.cfg.Ready(); err != nil {
		return http.StatusServiceUnavailable, api.Ready{Reasons: []string{err.Error()}}, nil
	}
	ready := api.Ready{Ready: true}
	if s.cfg.Notes != nil {
		ready.Notes = s.cfg.Notes()
	}
	return http.StatusOK, ready, nil
}
