package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

func decode(resp *http.Response, v any) error { return json.NewDecoder(resp.Body).Decode(v) }

func TestHealthAnswersAnybody(t *testing.T) {
	w := newWorld(t)
	w.setReady(errors.New("not now"))
	r, _ := w.request(http.MethodGet, api.HealthPath(), nil)
	var h api.Health
	status, err := w.do(r, &h)
	w.want("healthz", status, err, 200, "")
	if h.Status != "ok" || h.Node != "n1" {
		t.Errorf("%+v", h)
	}
	w.setReady(nil)
	r, _ = w.request(http.MethodGet, api.ReadyPath(), nil)
	var ready api.Ready
	status, err = w.do(r, &ready)
	w.want("readyz", status, err, 200, "")
	if !ready.Ready {
		t.Errorf("%+v", ready)
	}
}

// What a view stumbled over may name users and rooms.
func TestReadinessNamesNobody(t *testing.T) {
	w := newWorld(t)
	w.store.fail(down, nil)
	s := w.next(w.room, w.owner, w.reader)
	w.store.fail(func(b store.Bucket, key string) error {
		if b == store.Records && strings.HasSuffix(key, s.Record.Hash().String()) {
			return down(b, key)
		}
		return nil
	}, nil)
	w.must(w.dir.AppendRecord(w.ctx, s.Record, s.Sealed))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for w.view.Err() == nil {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			t.Fatal("the view noticed nothing")
		}
	}
	r, _ := w.request(http.MethodGet, api.ReadyPath(), nil)
	resp, err := w.client.Do(r)
	w.must(err)
	defer resp.Body.Close()
	var ready api.Ready
	w.must(decode(resp, &ready))
	if text := strings.Join(ready.Reasons, " "); resp.StatusCode != 503 || text == "" || strings.Contains(text, "secret-path") || strings.Contains(text, s.Record.Room.String()) {
		t.Errorf("%d: %q", resp.StatusCode, text)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, path string
		status       int
		code         bus.Code
		allow        string
	}{
		{http.MethodGet, "/", 404, bus.CodeNotFound, ""},
		{http.MethodGet, "/nothing", 404, bus.CodeNotFound, ""},
		{http.MethodGet, "/users/", 404, bus.CodeNotFound, ""},
		{http.MethodGet, "//users", 404, bus.CodeNotFound, ""},
		{http.MethodGet, "/rooms/../users", 404, bus.CodeNotFound, ""},
		{http.MethodGet, "/metrics", 404, bus.CodeNotFound, ""},
		{http.MethodDelete, api.UsersPath(), 405, bus.CodeUsage, "GET, POST"},
		{http.MethodPost, api.HealthPath(), 405, bus.CodeUsage, "GET"},
		{http.MethodGet, api.RevokePath(w.owner.SignPub()), 405, bus.CodeUsage, "POST"},
		{http.MethodGet, api.CursorsPath(), 405, bus.CodeUsage, "POST"},
		{http.MethodPatch, api.RecordsPath(w.room.Record.Room), 405, bus.CodeUsage, "GET, POST"},
		{"LIST", api.RoomsPath(), 405, bus.CodeUsage, "GET, POST"},
	} {
		r, _ := w.request(c.method, c.path, nil)
		r.URL.Opaque = strings.TrimPrefix(w.url, "http:") + c.path // as it is, not cleaned
		resp, err := w.client.Do(r)
		w.must(err)
		problem := api.ReadProblem(resp)
		w.want(c.method+" "+c.path, resp.StatusCode, problem, c.status, c.code)
		if got := resp.Header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, got, c.allow)
		}
		w.must(resp.Body.Close())
	}
}

func TestUsersAreAdministered(t *testing.T) {
	w := newWorld(t)
	p := w.person()
	var added api.User
	add := api.AddUser{SignPub: p.SignPub(), Handle: "carol", Role: bus.UserMember}
	status, err := w.call(w.admin, http.MethodPost, api.UsersPath(), add, &added)
	w.want("add", status, err, 201, "")
	if diff := cmp.Diff(api.User{SignPub: p.SignPub(), ID: p.ID(), Handle: "carol", Role: bus.UserMember, Status: bus.UserActive, CreatedAt: w.now}, added); diff != "" {
		t.Error(diff)
	}
	add.Role = bus.UserAdmin
	status, err = w.call(w.admin, http.MethodPost, api.UsersPath(), add, nil)
	w.want("add again", status, err, 409, bus.CodeExists)
	status, err = w.call(w.admin, http.MethodPost, api.UsersPath(), api.AddUser{SignPub: bus.SignPub{1}, Handle: "dave", Role: bus.UserMember}, nil)
	w.want("weak key", status, err, 400, bus.CodeWeakKey)

	var revoked api.User
	status, err = w.call(w.admin, http.MethodPost, api.RevokePath(p.SignPub()), nil, &revoked)
	w.want("revoke", status, err, 200, "")
	if revoked.Status != bus.UserRevoked || revoked.RevokedAt == nil || !revoked.RevokedAt.Equal(w.now) {
		t.Errorf("%+v", revoked)
	}
	status, err = w.call(w.admin, http.MethodPost, api.RevokePath(w.stranger.SignPub()), nil, nil)
	w.want("revoke nobody", status, err, 404, bus.CodeNotFound)
	status, err = w.call(w.admin, http.MethodPost, "/users/abc/revoke", nil, nil)
	w.want("revoke what is no key", status, err, 400, bus.CodeMalformed)

	var list api.UserList
	status, err = w.call(w.admin, http.MethodGet, api.UsersPath(), nil, &list)
	w.want("list", status, err, 200, "")
	if i := slices.IndexFunc(list.Users, func(u api.User) bool { return u.SignPub == p.SignPub() }); list.V != 1 || list.More || len(list.Users) != 8 || i < 0 || !cmp.Equal(list.Users[i], revoked) {
		t.Errorf("%+v", list)
	}
	after := list.Users[2].SignPub
	var rest api.UserList
	status, err = w.call(w.admin, http.MethodGet, api.UsersAfterPath(after), nil, &rest)
	w.want("list the rest", status, err, 200, "")
	if diff := cmp.Diff(list.Users[3:], rest.Users); diff != "" {
		t.Error(diff)
	}
	status, err = w.call(w.admin, http.MethodGet, api.UsersPath()+"?after=x", nil, nil)
	w.want("list after nothing", status, err, 400, bus.CodeMalformed)
	status, err = w.call(w.admin, http.MethodGet, api.UsersAfterPath(after)+"&after="+after.String(), nil, nil)
	w.want("list after two", status, err, 400, bus.CodeMalformed)
}

func TestUserPagesCoverEverybody(t *testing.T) {
	w := newWorld(t)
	for i := range usersPage {
		_, err := w.dir.AddUser(w.ctx, w.personWithoutCard(), bus.Handle(fmt.Sprintf("many-%d", i)), bus.UserMember)
		w.must(err)
	}
	seen, pages, path := map[bus.SignPub]bool{}, 0, api.UsersPath()
	for more := true; more; pages++ {
		var list api.UserList
		status, err := w.call(w.admin, http.MethodGet, path, nil, &list)
		w.want(path, status, err, 200, "")
		if len(list.Users) == 0 {
			t.Fatal("an empty page")
		}
		for _, u := range list.Users {
			seen[u.SignPub] = true
		}
		more, path = list.More, api.UsersAfterPath(list.Users[len(list.Users)-1].SignPub)
	}
	if len(seen) != usersPage+7 || pages != 2 {
		t.Errorf("%d users in %d pages", len(seen), pages)
	}
}

func (w *world) personWithoutCard() bus.SignPub {
	w.Helper()
	return w.person().SignPub()
}

func TestHandlesResolve(t *testing.T) {
	w := newWorld(t)
	get := func(h bus.Handle) (info api.HandleInfo) {
		status, err := w.call(w.outsider, http.MethodGet, api.HandlePath(h), nil, &info)
		w.want(string(h), status, err, 200, "")
		return info
	}
	if diff := cmp.Diff(api.HandleInfo{Handle: "owner", SignPub: w.owner.SignPub(), ID: w.owner.ID(), Status: bus.UserActive, Card: w.owner.card.Bytes()}, get("owner")); diff != "" {
		t.Error(diff)
	}
	if info := get("cardless"); info.Card != nil {
		t.Errorf("%+v", info)
	}
	if info := get("revoked"); info.Status != bus.UserRevoked {
		t.Errorf("%+v", info)
	}
	status, err := w.call(w.outsider, http.MethodGet, api.HandlePath("nobody"), nil, nil)
	w.want("nobody", status, err, 404, bus.CodeNotFound)
	status, err = w.call(w.outsider, http.MethodGet, "/handles/No%20Body", nil, nil)
	w.want("no handle", status, err, 400, bus.CodeMalformed)

	entry := w.entry("owner", w.owner)
	status, err = w.call(w.admin, http.MethodPut, api.HandlePath("reader"), api.Entry{Entry: entry}, nil)
	w.want("entry of another handle", status, err, 400, bus.CodeMisrouted)
	status, err = w.call(w.admin, http.MethodPut, api.HandlePath("reader"), api.Entry{Entry: w.entry("reader", w.owner)}, nil)
	w.want("entry for another id", status, err, 409, bus.CodeConflict)
	status, err = w.call(w.admin, http.MethodPut, api.HandlePath("owner"), api.Entry{Entry: entry}, nil)
	w.want("entry", status, err, 204, "")
	if info := get("owner"); string(info.Entry) != string(entry) {
		t.Errorf("%+v", info)
	}
	var users api.UserList
	status, err = w.call(w.admin, http.MethodGet, api.UsersPath(), nil, &users)
	w.want("list", status, err, 200, "")
	for _, u := range users.Users {
		if (u.Handle == "owner") != (string(u.Entry) == string(entry)) {
			t.Errorf("%+v", u)
		}
	}
}

func TestCardsStayReadableByHash(t *testing.T) {
	w := newWorld(t)
	old := w.owner.card
	_, err := w.owner.AddKEM(rand.Reader)
	w.must(err)
	next := w.newCard(w.owner.Identity)
	status, err := w.call(w.owner, http.MethodPut, api.CardPath(w.owner.ID()), api.Card{Card: next.Bytes()}, nil)
	w.want("put", status, err, 204, "")
	for path, want := range map[string][]byte{
		api.CardPath(w.owner.ID()):                    next.Bytes(),
		api.CardByHashPath(w.owner.ID(), old.Hash()):  old.Bytes(),
		api.CardByHashPath(w.owner.ID(), next.Hash()): next.Bytes(),
	} {
		var card api.Card
		status, err := w.call(w.reader, http.MethodGet, path, nil, &card)
		w.want(path, status, err, 200, "")
		if string(card.Card) != string(want) {
			t.Errorf("%s is another card", path)
		}
	}
	status, err = w.call(w.owner, http.MethodPut, api.CardPath(w.owner.ID()), api.Card{Card: old.Bytes()}, nil)
	w.want("put the old one", status, err, 409, bus.CodeRollback)
	status, err = w.call(w.reader, http.MethodGet, api.CardByHashPath(w.reader.ID(), old.Hash()), nil, nil)
	w.want("another's hash", status, err, 404, bus.CodeNotFound)
	status, err = w.call(w.reader, http.MethodGet, api.CardPath(w.reader.ID())+"?hash=x", nil, nil)
	w.want("no hash", status, err, 400, bus.CodeMalformed)
	status, err = w.call(w.reader, http.MethodGet, api.CardPath(w.reader.ID())+"?hash=", nil, nil)
	w.want("an empty hash", status, err, 400, bus.CodeMalformed)
	status, err = w.call(w.reader, http.MethodGet, api.CardPath(w.cardless.ID()), nil, nil)
	w.want("no card", status, err, 404, bus.CodeNotFound)
}

func TestRoomsAreMadeAndListed(t *testing.T) {
	w := newWorld(t)
	s := w.genesis(w.outsider, w.reader)
	var head api.Head
	for range 2 { // the answer to the first was lost
		status, err := w.call(w.outsider, http.MethodPost, api.RoomsPath(), upload(s), &head)
		w.want("create", status, err, 201, "")
		if head != (api.Head{Room: s.Record.Room, Epoch: 0, Hash: s.Record.Hash()}) {
			t.Errorf("%+v", head)
		}
	}
	// Listed at once: the reply comes when the view has the room.
	var list api.RoomList
	status, err := w.call(w.outsider, http.MethodGet, api.RoomsPath(), nil, &list)
	w.want("list", status, err, 200, "")
	if diff := cmp.Diff([]api.RoomHead{{Head: head, Role: bus.RoleOwner, Persisted: true}}, list.Rooms); diff != "" {
		t.Error(diff)
	}
	status, err = w.call(w.reader, http.MethodGet, api.RoomsPath(), nil, &list)
	w.want("list", status, err, 200, "")
	if len(list.Rooms) != 2 || !slices.IsSortedFunc(list.Rooms, func(a, b api.RoomHead) int { return slices.Compare(a.Room[:], b.Room[:]) }) {
		t.Errorf("%+v", list.Rooms)
	}
	status, err = w.call(w.removed, http.MethodGet, api.RoomsPath(), nil, &list)
	w.want("list", status, err, 200, "")
	if len(list.Rooms) != 0 {
		t.Errorf("%+v", list.Rooms)
	}
	status, err = w.call(w.reader, http.MethodPost, api.RoomsPath(), upload(w.genesis(w.owner)), nil)
	w.want("create for another", status, err, 403, bus.CodeNotAuthority)
	status, err = w.call(w.owner, http.MethodPost, api.RoomsPath(), upload(w.next(w.room, w.owner)), nil)
	w.want("create with a later record", status, err, 409, bus.CodeGap)
	short := upload(w.genesis(w.owner))
	short.Sealed = short.Sealed[:0]
	status, err = w.call(w.owner, http.MethodPost, api.RoomsPath(), short, nil)
	w.want("create without keys", status, err, 400, bus.CodeSealedMismatch)
	status, err = w.call(w.owner, http.MethodPost, api.RoomsPath(), upload(w.genesis(w.owner, w.cardless)), nil)
	w.want("create with an unknown card", status, err, 400, bus.CodeCardMismatch)
	status, err = w.call(w.owner, http.MethodPost, api.RoomsPath(), upload(w.genesis(w.owner, w.revoked)), nil)
	w.want("create with a revoked member", status, err, 403, bus.CodePolicy)
}

func TestPlainRoomsStayOnLoopback(t *testing.T) {
	plain := func(w *world) api.RecordUpload {
		d := draft(w.owner)
		d.Policy = bus.Policy{Suite: bus.SuitePlain, Flags: bus.FlagPersist}
		s, err := room.Create(w.owner.Identity, d, w.now, rand.Reader)
		w.must(err)
		return upload(s)
	}
	w := newWorld(t)
	status, err := w.call(w.owner, http.MethodPost, api.RoomsPath(), plain(w), nil)
	w.want("beyond loopback", status, err, 403, bus.CodePolicy)
	w = newWorld(t, func(c *Config) { c.PlainRooms = true })
	status, err = w.call(w.owner, http.MethodPost, api.RoomsPath(), plain(w), nil)
	w.want("on loopback", status, err, 201, "")
}

func TestLostRacesCarryTheHead(t *testing.T) {
	w := newWorld(t)
	path := api.RecordsPath(w.room.Record.Room)
	first, second := w.next(w.room, w.owner, w.reader), w.next(w.room, w.owner)
	var head api.Head
	status, err := w.call(w.owner, http.MethodPost, path, upload(first), &head)
	w.want("first", status, err, 201, "")
	status, err = w.call(w.owner, http.MethodPost, path, upload(second), nil)
	w.want("second", status, err, 409, bus.CodeConflict)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Problem.Head == nil || *e.Problem.Head != head {
		t.Errorf("problem: %+v", err)
	}
	ahead := w.next(w.next(first, w.owner), w.owner)
	status, err = w.call(w.owner, http.MethodPost, path, upload(ahead), nil)
	w.want("ahead", status, err, 409, bus.CodeGap)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Problem.Head == nil || *e.Problem.Head != head {
		t.Errorf("problem: %+v", err)
	}
	status, err = w.call(w.owner, http.MethodPost, path, upload(first), nil)
	w.want("first again", status, err, 201, "")
	status, err = w.call(w.owner, http.MethodPost, api.RecordsPath(bus.RoomID{1}), upload(w.next(first, w.owner)), nil)
	w.want("to another room", status, err, 400, bus.CodeMisrouted)
	// Whoever has no authority is told no head, and not whether there is a room.
	other := w.next(w.genesis(w.outsider), w.outsider)
	status, err = w.call(w.outsider, http.MethodPost, api.RecordsPath(other.Record.Room), upload(other), nil)
	w.want("to no room", status, err, 403, bus.CodeNotAuthority)
}

func TestChainsAreRead(t *testing.T) {
	w := newWorld(t)
	id := w.room.Record.Room
	head := w.room
	for range 3 {
		head = w.next(head, w.owner, w.reader)
		w.must(w.dir.AppendRecord(w.ctx, head.Record, head.Sealed))
	}
	var list api.RecordList
	status, err := w.call(w.reader, http.MethodGet, api.RecordsPath(id), nil, &list)
	w.want("chain", status, err, 200, "")
	chain := room.NewChain(id)
	for _, item := range list.Records {
		rec, err := room.ParseRecord(item.Record, item.Members)
		w.must(err)
		w.must(chain.Accept(rec))
	}
	if list.Head != 4 || list.More || chain.Head().Hash() != head.Record.Hash() {
		t.Errorf("head %d, more %t", list.Head, list.More)
	}
	status, err = w.call(w.reader, http.MethodGet, api.RecordsFromPath(id, 3), nil, &list)
	w.want("rest", status, err, 200, "")
	if len(list.Records) != 2 {
		t.Errorf("%d records", len(list.Records))
	}
	status, err = w.call(w.reader, http.MethodGet, api.RecordsFromPath(id, 99), nil, &list)
	w.want("beyond", status, err, 200, "")
	if len(list.Records) != 0 || list.Head != 4 {
		t.Errorf("%+v", list)
	}
	status, err = w.call(w.removed, http.MethodGet, api.RecordsPath(id), nil, &list)
	w.want("for the removed", status, err, 200, "")
	if len(list.Records) != 2 || list.Head != 1 {
		t.Errorf("%d records up to %d", len(list.Records), list.Head)
	}
	for _, path := range []string{api.RecordsPath(id) + "?from=-1", api.RecordsPath(id) + "?from=01", api.RecordsPath(id) + "?form=1", "/rooms/x/records"} {
		status, err = w.call(w.reader, http.MethodGet, path, nil, nil)
		w.want(path, status, err, 400, bus.CodeMalformed)
	}
	status, err = w.call(w.reader, http.MethodGet, api.RecordsPath(bus.RoomID{1}), nil, nil)
	w.want("no room", status, err, 403, bus.CodeForbidden)
}

func TestMembersGetTheirOwnKeysOnly(t *testing.T) {
	w := newWorld(t)
	id := w.room.Record.Room
	for who, p := range map[string]person{"owner": w.owner, "reader": w.reader} {
		var key api.SealedKey
		status, err := w.call(p, http.MethodGet, api.KeyPath(id, 1), nil, &key)
		w.want(who, status, err, 200, "")
		if key.ID != p.ID() {
			t.Errorf("%s has the key of %s", who, key.ID)
		}
		opened, err := w.room.Record.OpenKey(p.Identity, key.Blob)
		if err != nil || opened != w.room.Key {
			t.Errorf("%s: %v", who, err)
		}
	}
	for _, c := range []struct {
		who    person
		path   string
		status int
		code   bus.Code
	}{
		{w.reader, api.KeyPath(id, 0), 404, bus.CodeNotFound},
		{w.reader, api.KeyPath(id, 2), 404, bus.CodeEpochUnknown},
		{w.removed, api.KeyPath(id, 0), 200, ""},
		{w.reader, "/rooms/" + id.String() + "/keys/x", 400, bus.CodeMalformed},
		{w.reader, "/rooms/x/keys/0", 400, bus.CodeMalformed},
		{w.reader, api.KeyPath(bus.RoomID{1}, 0), 403, bus.CodeForbidden},
	} {
		status, err := w.call(c.who, http.MethodGet, c.path, nil, nil)
		w.want(c.path, status, err, c.status, c.code)
	}
}

func TestCursorsAreMadeForTheSigner(t *testing.T) {
	w := newWorld(t)
	want := api.CursorReply{CatchUp: []api.CatchUpConsumer{{Slot: 1, Room: w.room.Record.Room, Stream: "S", Consumer: "c", Last: 7}}}
	req := api.CursorRequest{Session: bus.SessionID{1}, CatchUp: []api.CatchUp{{Slot: 1, Room: w.room.Record.Room, From: 3}}}
	w.mu.Lock()
	w.cursors = func(id bus.ID, got api.CursorRequest) (api.CursorReply, error) {
		if id != w.reader.ID() || !cmp.Equal(got, req) {
			return api.CursorReply{}, fmt.Errorf("asked for %s: %+v", id, got)
		}
		return want, nil
	}
	w.mu.Unlock()
	var got api.CursorReply
	status, err := w.call(w.reader, http.MethodPost, api.CursorsPath(), req, &got)
	w.want("cursors", status, err, 200, "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.mu.Lock()
	w.cursors = func(bus.ID, api.CursorRequest) (api.CursorReply, error) {
		return api.CursorReply{}, bus.Errorf(bus.CodeNotMember, "make consumers: not a member")
	}
	w.mu.Unlock()
	status, err = w.call(w.outsider, http.MethodPost, api.CursorsPath(), req, nil)
	w.want("of another's room", status, err, 403, bus.CodeNotMember)
}

// A reply to a change comes when what acts by the view has acted.
func TestRepliesWaitForWhatActsByThem(t *testing.T) {
	var w *world
	var settled []bool
	w = newWorld(t, func(c *Config) {
		c.Settle = func(context.Context) error {
			u, ok := w.view.UserBySignPub(w.outsider.SignPub())
			settled = append(settled, ok && !u.Active())
			return errors.New("too slow") // logged, and no failure of what is done
		}
	})
	var seen []directory.Change
	w.view.OnChange(func(c directory.Change) { seen = append(seen, c) })
	status, err := w.call(w.admin, http.MethodPost, api.RevokePath(w.outsider.SignPub()), nil, nil)
	w.want("revoke", status, err, 200, "")
	if len(settled) != 1 || !settled[0] || len(seen) != 1 || seen[0].UserAfter.Active() {
		t.Errorf("settled %v, seen %v", settled, seen)
	}
	status, err = w.call(w.outsider, http.MethodGet, api.RoomsPath(), nil, nil)
	w.want("after revocation", status, err, 403, bus.CodeRevoked)
	if !strings.Contains(w.log.String(), "too slow") {
		t.Error("nothing in the log")
	}
}

func TestWhatFailsInsideIsLoggedAndNotShown(t *testing.T) {
	w := newWorld(t)
	w.mu.Lock()
	w.cursors = func(_ bus.ID, req api.CursorRequest) (api.CursorReply, error) {
		if req.Session == (bus.SessionID{2}) {
			panic("secret-state")
		}
		return api.CursorReply{}, errors.New("open /secret-path: no such file")
	}
	w.mu.Unlock()
	for _, session := range []bus.SessionID{{1}, {2}} {
		req := api.CursorRequest{Session: session, CatchUp: []api.CatchUp{{Room: w.room.Record.Room, From: 1}}}
		status, err := w.call(w.reader, http.MethodPost, api.CursorsPath(), req, nil)
		w.want("cursors", status, err, 500, bus.CodeInternal)
		e, ok := errors.AsType[*api.Error](err)
		if !ok || e.Problem.RequestID == "" || strings.Contains(err.Error(), "secret") || e.Problem.Detail != "" {
			t.Errorf("%+v", err)
		}
		if log := w.log.String(); !strings.Contains(log, e.Problem.RequestID) || !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "secret") {
			t.Errorf("log: %s", log)
		}
	}
	w.store.fail(down, nil)
	status, err := w.call(w.reader, http.MethodGet, api.CardPath(w.owner.ID()), nil, nil)
	w.want("store down", status, err, 503, bus.CodeUnavailable)
	if e, ok := errors.AsType[*api.Error](err); !ok || strings.Contains(err.Error(), "secret") || e.RetryAfter() <= 0 {
		t.Errorf("%+v", err)
	}
}

func TestSkewIsToldTheTime(t *testing.T) {
	w := newWorld(t)
	r, raw := w.request(http.MethodGet, api.RoomsPath(), nil)
	w.sign(r, raw, w.reader, w.now.Add(-time.Hour))
	_, err := w.do(r, nil)
	if text := w.now.UTC().Format(time.RFC3339); !errors.Is(err, bus.ErrClockSkew) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v does not name %s", err, text)
	}
}
