package control

import (
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

// putCard takes the card of an active user. The request is signed with the
// transport key that the card names, so nobody can claim a key they do not
// hold, and the card with the signing key, so nobody can publish for another.
func (s *Server) putCard(req *request) (int, any, error) {
	id, err := bus.ParseID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	upload, err := api.Decode[api.Card](req.body)
	if err != nil {
		return 0, nil, err
	}
	card, err := identity.ParseCard(upload.Card)
	if err != nil {
		return 0, nil, err
	}
	if card.ID() != id {
		return 0, nil, bus.Errorf(bus.CodeCardMismatch, "put card: it is of %s, not of %s", card.ID(), id)
	}
	if card.TransportPub != req.key {
		return 0, nil, bus.Errorf(bus.CodeUnauthenticated, "put card: the request is not signed with the key that the card names")
	}
	if err := s.cfg.Directory.PutCard(req.ctx, card); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}

func (s *Server) getCard(req *request) (int, any, error) {
	id, err := bus.ParseID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	var card *identity.Card
	if text := req.URL.Query().Get(api.QueryHash); text != "" {
		hash, err := bus.ParseCardHash(text)
		if err != nil {
			return 0, nil, err
		}
		if card, err = s.cfg.Directory.CardByHash(req.ctx, id, hash); err != nil {
			return 0, nil, err
		}
	} else if card, err = s.cfg.Directory.Card(req.ctx, id); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, api.Card{Card: card.Bytes()}, nil
}
