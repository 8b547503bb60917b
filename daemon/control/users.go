package control

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
)

// usersPage is how many users one reply lists.
const usersPage = 1000

func userReply(u directory.User) api.User {
	reply := api.User{
		SignPub: u.SignPub, ID: u.ID, Handle: u.Handle, Role: u.Role, Status: u.Status, CreatedAt: u.CreatedAt,
	}
	if !u.RevokedAt.IsZero() {
		reply.RevokedAt = &u.RevokedAt
	}
	return reply
}

func (s *Server) listUsers(req *request) (int, any, error) {
	users, err := s.cfg.Directory.Users(req.ctx)
	if err != nil {
		return 0, nil, err
	}
	from := 0
	if req.query != "" {
		after, err := bus.ParseSignPub(req.query)
		if err != nil {
			return 0, nil, err
		}
		var found bool
		from, found = slices.BinarySearchFunc(users, after, func(u directory.User, key bus.SignPub) int {
			return bytes.Compare(u.SignPub[:], key[:])
		})
		if found {
			from++
		}
	}
	proofs, err := s.cfg.Directory.Proofs(req.ctx)
	if err != nil {
		return 0, nil, err
	}
	page := users[from:min(len(users), from+usersPage)]
	list := api.UserList{V: 1, Users: make([]api.User, len(page)), More: from+len(page) < len(users)}
	for i, u := range page {
		list.Users[i] = userReply(u)
		list.Users[i].Entry, list.Users[i].Revocation = proofs.Entries[u.Handle], proofs.Revocations[u.SignPub]
	}
	return http.StatusOK, list, nil
}

func (s *Server) addUser(req *request) (int, any, error) {
	add, err := api.Decode[api.AddUser](req.body)
	if err != nil {
		return 0, nil, err
	}
	if err := s.begin(req, string(add.Handle)+" "+add.SignPub.String()); err != nil {
		return 0, nil, err
	}
	u, err := s.cfg.Directory.AddUser(req.ctx, add.SignPub, add.Handle, add.Role)
	if err != nil {
		return 0, nil, err
	}
	s.log.Info("user added", "request", req.id, "by", req.signer.Handle, "handle", u.Handle, "role", u.Role, "sign_pub", u.SignPub)
	return http.StatusCreated, userReply(u), nil
}

func (s *Server) revokeUser(req *request) (int, any, error) {
	key, err := bus.ParseSignPub(req.PathValue(api.ValueSignPub))
	if err != nil {
		return 0, nil, err
	}
	if err := s.begin(req, key.String()); err != nil {
		return 0, nil, err
	}
	u, err := s.cfg.Directory.RevokeUser(req.ctx, key)
	if err != nil {
		return 0, nil, err
	}
	s.log.Info("user revoked", "request", req.id, "by", req.signer.Handle, "handle", u.Handle, "sign_pub", u.SignPub)
	return http.StatusOK, userReply(u), nil
}

func (s *Server) getHandle(req *request) (int, any, error) {
	handle, err := bus.ParseHandle(req.PathValue(api.ValueHandle))
	if err != nil {
		return 0, nil, err
	}
	named, err := s.cfg.Directory.Lookup(req.ctx, handle)
	if err != nil {
		return 0, nil, err
	}
	info := api.HandleInfo{
		Handle: named.User.Handle, SignPub: named.User.SignPub, ID: named.User.ID, Status: named.User.Status,
		Entry: named.Entry, Revocation: named.Revocation,
	}
	if named.Card != nil {
		info.Card = named.Card.Bytes()
	}
	return http.StatusOK, info, nil
}

func (s *Server) putEntry(req *request) (int, any, error) {
	handle, err := bus.ParseHandle(req.PathValue(api.ValueHandle))
	if err != nil {
		return 0, nil, err
	}
	entry, err := api.Decode[api.Entry](req.body)
	if err != nil {
		return 0, nil, err
	}
	if err := s.begin(req, string(handle)); err != nil {
		return 0, nil, err
	}
	if err := s.cfg.Directory.PutEntry(req.ctx, handle, entry.Entry); err != nil {
		return 0, nil, err
	}
	s.log.Info("directory entry put", "request", req.id, "by", req.signer.Handle, "handle", handle)
	return http.StatusNoContent, nil, nil
}
