package control

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

// handIn brings a revocation as somebody without a key does.
func (w *world) handIn(id bus.ID, r identity.Revocation) (int, error) {
	w.Helper()
	req, _ := w.request(http.MethodPut, api.RevocationPath(id), api.Revocation{Revocation: r.Bytes()})
	return w.do(req, nil)
}

func TestAnybodyHandsInARevocation(t *testing.T) {
	w := newWorld(t)
	r := w.reader.Revocation()
	for _, what := range []string{"first", "again"} {
		status, err := w.handIn(w.reader.ID(), r)
		w.want(what, status, err, 204, "")
		// Whoever has a revocation cannot fill the log with it.
		if entries := w.audited(1); len(entries) != 2 {
			t.Errorf("%s: %d entries in the audit log", what, len(entries))
		}
	}
	status, err := w.call(w.reader, http.MethodGet, api.RoomsPath(), nil, nil)
	w.want("the one revoked", status, err, 403, bus.CodeRevoked)

	u, ok := w.view.UserByID(w.reader.ID())
	if !ok || u.Active() {
		t.Fatalf("%+v, %t", u, ok)
	}
	proven := api.Standing{ID: w.reader.ID(), Status: bus.UserRevoked, RevokedAt: &u.RevokedAt, Revocation: r.Bytes()}
	var standing api.Standing
	status, err = w.call(w.outsider, http.MethodGet, api.RevocationPath(w.reader.ID()), nil, &standing)
	w.want("standing", status, err, 200, "")
	if diff := cmp.Diff(proven, standing); diff != "" {
		t.Error(diff)
	}
	status, err = w.call(w.outsider, http.MethodGet, api.RevocationPath(w.owner.ID()), nil, &standing)
	w.want("of somebody active", status, err, 200, "")
	if standing.Status != bus.UserActive {
		t.Errorf("%+v", standing)
	}
	status, err = w.call(w.outsider, http.MethodGet, api.RevocationPath(w.stranger.ID()), nil, nil)
	w.want("of nobody", status, err, 404, bus.CodeNotFound)

	var members api.RevokedMembers
	status, err = w.call(w.owner, http.MethodGet, api.RevokedMembersPath(w.room.Record.Room), nil, &members)
	w.want("members", status, err, 200, "")
	if diff := cmp.Diff(api.RevokedMembers{Revoked: []api.Standing{proven}}, members); diff != "" {
		t.Error(diff)
	}
	var rooms api.RoomList
	status, err = w.call(w.owner, http.MethodGet, api.RoomsPath(), nil, &rooms)
	w.want("rooms", status, err, 200, "")
	if len(rooms.Rooms) != 1 || rooms.Rooms[0].Revoked != 1 {
		t.Errorf("%+v", rooms)
	}
	var info api.HandleInfo
	status, err = w.call(w.outsider, http.MethodGet, api.HandlePath("reader"), nil, &info)
	w.want("handle", status, err, 200, "")
	if string(info.Revocation) != string(r.Bytes()) || info.Status != bus.UserRevoked {
		t.Errorf("%+v", info)
	}
	var users api.UserList
	status, err = w.call(w.admin, http.MethodGet, api.UsersPath(), nil, &users)
	w.want("users", status, err, 200, "")
	for _, u := range users.Users {
		if (u.ID == w.reader.ID()) != (string(u.Revocation) == string(r.Bytes())) {
			t.Errorf("%+v", u)
		}
	}
}

func TestRevocationsThatProveNothingChangeNothing(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		id     bus.ID
		r      identity.Revocation
		status int
		code   bus.Code
	}{
		"another's":   {w.owner.ID(), w.reader.Revocation(), 400, bus.CodeMisrouted},
		"of nobody":   {w.stranger.ID(), w.stranger.Revocation(), 404, bus.CodeNotFound},
		"of no bytes": {w.owner.ID(), identity.Revocation{}, 400, bus.CodeMalformed},
	} {
		status, err := w.handIn(tc.id, tc.r)
		w.want(name, status, err, tc.status, tc.code)
	}
	damaged := append([]byte(nil), w.owner.Revocation().Bytes()...)
	damaged[len(damaged)-1] ^= 1
	req, _ := w.request(http.MethodPut, api.RevocationPath(w.owner.ID()), api.Revocation{Revocation: damaged})
	status, err := w.do(req, nil)
	w.want("damaged", status, err, 400, bus.CodeBadSignature)
	w.setReady(bus.Errorf(bus.CodeUnavailable, "not now"))
	status, err = w.handIn(w.owner.ID(), w.owner.Revocation())
	w.want("not ready", status, err, 503, bus.CodeUnavailable)
	if u, ok := w.view.UserByID(w.owner.ID()); !ok || !u.Active() {
		t.Errorf("%+v", u)
	}
}

func TestUnsignedChangesAreLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Unsigned, c.Limits.AddressRequests = rare(2), 1 })
	for range 2 {
		status, err := w.handIn(w.reader.ID(), w.reader.Revocation())
		w.want("within the limit", status, err, 204, "")
	}
	status, err := w.handIn(w.reader.ID(), w.reader.Revocation())
	w.want("beyond it", status, err, 429, bus.CodeRateLimited)
	status, err = w.call(w.owner, http.MethodGet, api.RoomsPath(), nil, nil)
	w.want("what is signed", status, err, 200, "")
}
