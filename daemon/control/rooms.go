package control

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// recordsPage bounds the bytes of records in one reply. A single record is far
// smaller.
const recordsPage = 1 << 20

func (s *Server) listRooms(req *request) (int, any, error) {
	list := api.RoomList{Rooms: []api.RoomHead{}}
	for _, m := range s.cfg.View.RoomsOf(req.signer.ID) {
		rec, ok := s.cfg.View.Room(m.Room)
		if !ok || !rec.Role(req.signer.ID).Valid() {
			continue // left between the two looks
		}
		head := api.RoomHead{
			Head: api.Head{Room: m.Room, Epoch: rec.Epoch, Hash: rec.Hash()},
			Role: rec.Role(req.signer.ID), Persisted: rec.Policy.Persisted(),
		}
		if head.Role.IsAuthority() {
			head.Revoked = len(s.revokedIn(rec))
		}
		list.Rooms = append(list.Rooms, head)
	}
	slices.SortFunc(list.Rooms, func(a, b api.RoomHead) int { return bytes.Compare(a.Room[:], b.Room[:]) })
	return http.StatusOK, list, nil
}

// readUpload reads a record with its members and sealed keys.
func (s *Server) readUpload(req *request) (*room.Record, []room.Sealed, error) {
	upload, err := api.Decode[api.RecordUpload](req.body)
	if err != nil {
		return nil, nil, err
	}
	rec, err := room.ParseRecord(upload.Record, upload.Members)
	if err != nil {
		return nil, nil, err
	}
	if !rec.Policy.Encrypted() && !s.cfg.PlainRooms {
		return nil, nil, bus.Errorf(bus.CodePolicy, "read record: this node takes rooms without encryption on loopback only")
	}
	sealed := make([]room.Sealed, len(upload.Sealed))
	for i, k := range upload.Sealed {
		sealed[i] = room.Sealed{ID: k.ID, Blob: k.Blob}
	}
	return rec, sealed, nil
}

func (s *Server) createRoom(req *request) (int, any, error) {
	rec, sealed, err := s.readUpload(req)
	if err != nil {
		return 0, nil, err
	}
	if err := s.checkQuota(rec, req.signer.ID); err != nil {
		return 0, nil, err
	}
	if err := s.begin(req, rec.Room.String()); err != nil {
		return 0, nil, err
	}
	if err := s.cfg.Directory.CreateRoom(req.ctx, req.signer.ID, rec, sealed); err != nil {
		return 0, nil, err
	}
	req.change.moved(rec)
	s.log.Info("room created", "request", req.id, "by", req.signer.Handle, "room", rec.Room)
	return http.StatusCreated, headReply(rec), nil
}

func (s *Server) appendRecord(req *request) (int, any, error) {
	id, err := bus.ParseRoomID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	rec, sealed, err := s.readUpload(req)
	if err != nil {
		return 0, nil, err
	}
	if rec.Room != id {
		return 0, nil, bus.Errorf(bus.CodeMisrouted, "append record: it is of room %s, not %s", rec.Room, id)
	}
	if identity.IDOf(rec.Signer) != req.signer.ID {
		return 0, nil, bus.Errorf(bus.CodeNotAuthority, "append record: it is signed by somebody else than the request")
	}
	if err := s.checkQuota(rec, req.signer.ID); err != nil {
		return 0, nil, err
	}
	if err := s.begin(req, rec.Room.String()); err != nil {
		return 0, nil, err
	}
	if err := s.cfg.Directory.AppendRecord(req.ctx, rec, sealed); err != nil {
		return 0, nil, err
	}
	req.change.moved(rec)
	s.log.Info("room changed", "request", req.id, "by", req.signer.Handle, "room", rec.Room, "epoch", rec.Epoch)
	return http.StatusCreated, headReply(rec), nil
}

func headReply(rec *room.Record) api.Head {
	return api.Head{Room: rec.Room, Epoch: rec.Epoch, Hash: rec.Hash()}
}

func (s *Server) listRecords(req *request) (int, any, error) {
	id, err := bus.ParseRoomID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	var from bus.Epoch
	if req.query != "" {
		if from, err = api.ParseEpoch(req.query); err != nil {
			return 0, nil, err
		}
	}
	page, err := s.cfg.Directory.Records(req.ctx, id, req.signer.ID, from, recordsPage)
	if err != nil {
		return 0, nil, err
	}
	list := api.RecordList{Records: make([]api.RecordItem, len(page.Records)), Head: page.Last.Epoch, Hash: page.Last.Hash, More: page.More}
	for i, r := range page.Records {
		list.Records[i] = api.RecordItem{Record: r.Record, Members: r.Members}
	}
	return http.StatusOK, list, nil
}

func (s *Server) getKey(req *request) (int, any, error) {
	id, err := bus.ParseRoomID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	epoch, err := api.ParseEpoch(req.PathValue(api.ValueEpoch))
	if err != nil {
		return 0, nil, err
	}
	var card bus.CardHash
	if req.query != "" {
		if card, err = bus.ParseCardHash(req.query); err != nil {
			return 0, nil, err
		}
	}
	k, err := s.cfg.Directory.SealedKey(req.ctx, id, epoch, req.signer.ID, card)
	if err != nil {
		return 0, nil, err
	}
	reply := api.SealedKey{ID: req.signer.ID, Blob: k.Blob}
	if k.Again {
		reply.Card = &k.Card
	}
	return http.StatusOK, reply, nil
}

// putKey keeps what a member has sealed again to itself.
func (s *Server) putKey(req *request) (int, any, error) {
	id, err := bus.ParseRoomID(req.PathValue(api.ValueID))
	if err != nil {
		return 0, nil, err
	}
	epoch, err := api.ParseEpoch(req.PathValue(api.ValueEpoch))
	if err != nil {
		return 0, nil, err
	}
	k, err := api.Decode[api.Resealed](req.body)
	if err != nil {
		return 0, nil, err
	}
	if err := s.begin(req, k.Card.String()); err != nil {
		return 0, nil, err
	}
	if err := s.cfg.Directory.PutResealed(req.ctx, id, epoch, req.signer.ID, k.Card, k.Blob); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}

func (s *Server) makeCursors(req *request) (int, any, error) {
	cursors, err := api.Decode[api.CursorRequest](req.body)
	if err != nil {
		return 0, nil, err
	}
	reply, err := s.cfg.Cursors.Cursors(req.ctx, req.signer.ID, cursors)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, reply, nil
}
