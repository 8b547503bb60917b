package control

import (
	"crypto/rand"
	"net/http"
	"testing"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// spec is a member of a room in these tests.
type spec struct {
	who  person
	role bus.Role
}

func members(specs ...spec) room.Draft {
	d := room.Draft{Policy: bus.DefaultPolicy(), Name: "quota"}
	for _, s := range specs {
		d.Members = append(d.Members, room.MemberSpec{Card: s.who.card, Role: s.role})
	}
	return d
}

func (w *world) create(owner person, specs ...spec) (*room.Signed, int, error) {
	w.Helper()
	s, err := room.Create(owner.Identity, members(specs...), w.now, rand.Reader)
	w.must(err)
	status, err := w.call(owner, http.MethodPost, api.RoomsPath(), upload(s), nil)
	return s, status, err
}

func (w *world) append(head *room.Signed, signer person, specs ...spec) (*room.Signed, int, error) {
	w.Helper()
	s, err := room.Next(signer.Identity, head.Record, head.Key, members(specs...), w.now, rand.Reader)
	w.must(err)
	status, err := w.call(signer, http.MethodPost, api.RecordsPath(s.Record.Room), upload(s), nil)
	return s, status, err
}

// In these worlds the owner owns one room already and the reader is in it.

func TestOwnedRoomsAreLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.OwnedRooms = 2 })
	owner, reader := spec{w.owner, bus.RoleOwner}, spec{w.reader, bus.RoleOwner}
	last, status, err := w.create(w.owner, owner)
	w.want("second room", status, err, 201, "")
	_, status, err = w.create(w.owner, owner)
	w.want("third room", status, err, 403, bus.CodeQuota)
	status, err = w.call(w.owner, http.MethodPost, api.RoomsPath(), upload(last), nil)
	w.want("the second one again", status, err, 201, "")

	// Rooms that one has already may still be changed, but passed on only to
	// somebody who may have more.
	shared, status, err := w.append(last, w.owner, owner, reader)
	w.want("a second owner", status, err, 201, "")
	_, status, err = w.create(w.reader, reader)
	w.want("the second owner's second room", status, err, 201, "")
	_, status, err = w.create(w.reader, reader)
	w.want("the second owner's third room", status, err, 403, bus.CodeQuota)
	others, status, err := w.create(w.outsider, spec{w.outsider, bus.RoleOwner}, spec{w.owner, bus.RoleReader})
	w.want("somebody else's room", status, err, 201, "")
	_, status, err = w.append(others, w.outsider, spec{w.outsider, bus.RoleOwner}, owner)
	w.want("made an owner beyond the limit", status, err, 403, bus.CodeQuota)

	_, status, err = w.append(shared, w.owner, spec{w.owner, bus.RoleReader}, reader)
	w.want("passed on", status, err, 201, "")
	_, status, err = w.create(w.owner, owner)
	w.want("a room instead", status, err, 201, "")
}

func TestMembershipsAreLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Memberships = 2 })
	outsider, reader := spec{w.outsider, bus.RoleOwner}, spec{w.reader, bus.RoleReader}
	second, status, err := w.create(w.outsider, outsider, reader)
	w.want("second membership", status, err, 201, "")
	_, status, err = w.create(w.outsider, outsider, reader)
	w.want("third, as the room is made", status, err, 403, bus.CodeQuota)
	alone, status, err := w.create(w.outsider, outsider)
	w.want("a room without", status, err, 201, "")
	_, status, err = w.append(alone, w.outsider, outsider, reader)
	w.want("third, by an invitation", status, err, 403, bus.CodeQuota)

	_, status, err = w.create(w.reader, spec{w.reader, bus.RoleOwner})
	w.want("a room of its own", status, err, 201, "")
	second, status, err = w.append(second, w.outsider, outsider, spec{w.reader, bus.RoleWriter})
	w.want("another role in the same room", status, err, 201, "")
	_, status, err = w.append(second, w.outsider, outsider)
	w.want("out again", status, err, 201, "")
	_, status, err = w.append(w.room, w.owner, spec{w.owner, bus.RoleOwner})
	w.want("out of another", status, err, 201, "")
	_, status, err = w.append(alone, w.outsider, outsider, reader)
	w.want("there is room again", status, err, 201, "")
}

func TestQuotasMayBeOff(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.OwnedRooms, c.Limits.Memberships = -1, -1 })
	for range 3 {
		_, status, err := w.create(w.owner, spec{w.owner, bus.RoleOwner}, spec{w.reader, bus.RoleReader})
		w.want("another room", status, err, 201, "")
	}
}

// Whoever has no authority in a room does not learn from it who is in how many.
func TestQuotasAreNotForOutsiders(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Memberships = 1 })
	_, status, err := w.create(w.admin, spec{w.admin, bus.RoleOwner})
	w.want("the admin is in a room", status, err, 201, "")
	// It follows one that the room does not have.
	promoted, err := room.Next(w.owner.Identity, w.room.Record, w.room.Key, members(spec{w.owner, bus.RoleOwner}, spec{w.reader, bus.RoleAdmin}), w.now, rand.Reader)
	w.must(err)
	_, status, err = w.append(promoted, w.reader, spec{w.owner, bus.RoleOwner}, spec{w.reader, bus.RoleAdmin}, spec{w.admin, bus.RoleReader})
	w.want("a reader's record", status, err, 403, bus.CodeNotAuthority)
}
