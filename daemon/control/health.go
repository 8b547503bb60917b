package control

import (
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
)

func (s *Server) health(req *request) (int, any, error) {
	return http.StatusOK, s.cfg.Health(req.ctx), nil
}

// ready answers with the reason's own words: it names parts of the node, never
// users or rooms.
func (s *Server) ready(*request) (int, any, error) {
	if err := s.cfg.Ready(); err != nil {
		return http.StatusServiceUnavailable, api.Ready{Reasons: []string{err.Error()}}, nil
	}
	return http.StatusOK, api.Ready{Ready: true}, nil
}
