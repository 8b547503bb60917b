package control

import (
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

// putCard stores the card by which its sender was found.
func (s *Server) putCard(req *request) (int, any, error) {
	if err := s.begin(req, req.card.Hash().String()); err != nil {
		return 0, nil, err
	}
	if err := s.cfg.Directory.PutCard(req.ctx, req.card); err != nil {
		return 0, nil, err
	}
	s.log.Info("card put", "request", req.id, "by", req.signer.Handle, "seq", req.card.Seq)
	return http.StatusNoContent, nil, nil
}

func (s *Server) getCard(req *request) (int, any, error) {
	id, err := bus.ParseID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	var card *identity.Card
	if req.query == "" {
		card, err = s.cfg.Directory.Card(req.ctx, id)
	} else {
		var hash bus.CardHash
		if hash, err = bus.ParseCardHash(req.query); err == nil {
			card, err = s.cfg.Directory.CardByHash(req.ctx, id, hash)
		}
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, api.Card{Card: card.Bytes()}, nil
}
