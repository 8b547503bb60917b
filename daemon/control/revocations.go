package control

import (
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// putRevocation takes a signed revocation from anybody: whoever signed it need
// not have a key that works any more, or be awake.
func (s *Server) putRevocation(req *request) (int, any, error) {
	id, err := bus.ParseID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	upload, err := api.Decode[api.Revocation](req.body)
	if err != nil {
		return 0, nil, err
	}
	revocation, err := identity.ParseRevocation(upload.Revocation)
	if err != nil {
		return 0, nil, err
	}
	if err := revocation.Check(s.cfg.Directory.BusID(), id); err != nil {
		return 0, nil, err
	}
	// Anybody can make a key and revoke it: that is not to fill the audit log.
	u, err := s.cfg.Directory.User(req.ctx, revocation.SignPub)
	if err != nil {
		return 0, nil, err
	}
	// Nor is one that is kept already, which every member can ask for.
	if !u.Active() {
		kept, err := s.cfg.Directory.Revocation(req.ctx, u.SignPub)
		if err != nil {
			return 0, nil, err
		}
		if kept != nil {
			return http.StatusNoContent, nil, nil
		}
	}
	if err := s.begin(req, revocation.SignPub.String()); err != nil {
		return 0, nil, err
	}
	if u, err = s.cfg.Directory.PutRevocation(req.ctx, revocation); err != nil {
		return 0, nil, err
	}
	s.log.Info("user revoked by signature", "request", req.id, "remote", req.RemoteAddr, "handle", u.Handle, "sign_pub", u.SignPub, "by_root", !revocation.BySelf())
	return http.StatusNoContent, nil, nil
}

// getStanding says whether somebody is revoked, and proves it where it can.
func (s *Server) getStanding(req *request) (int, any, error) {
	id, err := bus.ParseID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	u, ok := s.cfg.View.UserByID(id)
	if !ok {
		return 0, nil, bus.Errorf(bus.CodeNotFound, "find user: %s is none of this bus", id)
	}
	reply, err := s.standing(req, u)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, reply, nil
}

func (s *Server) standing(req *request, u directory.User) (api.Standing, error) {
	reply := api.Standing{ID: u.ID, Status: u.Status}
	if u.Active() {
		return reply, nil
	}
	reply.RevokedAt = &u.RevokedAt
	var err error
	reply.Revocation, err = s.cfg.Directory.Revocation(req.ctx, u.SignPub)
	return reply, err
}

// listRevoked names the members of a room's head who were revoked.
func (s *Server) listRevoked(req *request) (int, any, error) {
	id, err := bus.ParseRoomID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	head, ok := s.cfg.View.Room(id)
	if !ok || !head.Role(req.signer.ID).Valid() {
		return 0, nil, bus.Errorf(bus.CodeForbidden, "list revoked members: no such room %s, or no member of it", id)
	}
	list := api.RevokedMembers{Revoked: []api.Standing{}}
	for _, u := range s.revokedIn(head) {
		reply, err := s.standing(req, u)
		if err != nil {
			return 0, nil, err
		}
		list.Revoked = append(list.Revoked, reply)
	}
	return http.StatusOK, list, nil
}

// revokedIn returns the members of a record who were revoked, as the view has it.
func (s *Server) revokedIn(rec *room.Record) []directory.User {
	var revoked []directory.User
	for _, m := range rec.Members() {
		if u, ok := s.cfg.View.UserByID(m.ID); ok && !u.Active() {
			revoked = append(revoked, u)
		}
	}
	return revoked
}
