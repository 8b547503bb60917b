package control

import (
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// checkQuota refuses a record that makes somebody an owner of more rooms than
// they may have, or that puts somebody else than its sender into more.
//
// A bus with fewer rooms than an identity may have needs no look at the members.
func (s *Server) checkQuota(rec *room.Record, sender bus.ID) error {
	before, known := s.cfg.View.Room(rec.Room)
	if known && (before.Epoch >= rec.Epoch || !before.Authority(rec.Signer).IsAuthority()) {
		return nil // changes nothing, or will be refused for a better reason
	}
	_, rooms := s.cfg.View.Counts()
	limits := s.cfg.Limits
	countOwners, countMembers := over(rooms+1, limits.OwnedRooms), over(rooms+1, limits.Memberships)
	if !countOwners && !countMembers {
		return nil
	}
	for _, m := range rec.Members() {
		var was bus.Role
		if known {
			was = before.Role(m.ID)
		}
		owns := countOwners && m.Role == bus.RoleOwner && was != bus.RoleOwner
		joins := countMembers && !was.Valid() && m.ID != sender
		if !owns && !joins {
			continue
		}
		member, owner := s.cfg.View.CountRooms(m.ID)
		switch {
		case owns && over(owner+1, limits.OwnedRooms):
			return bus.Errorf(bus.CodeQuota, "check quota: %s owns %d rooms, and %d is all an identity may", m.ID, owner, limits.OwnedRooms)
		case joins && over(member+1, limits.Memberships):
			return bus.Errorf(bus.CodeQuota, "check quota: %s is in %d rooms, and %d is all others may put it into", m.ID, member, limits.Memberships)
		}
	}
	return nil
}
