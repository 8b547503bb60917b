package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	mathrand "math/rand/v2"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// chooser makes the choices of one worker.
type chooser struct{ *mathrand.Rand }

func pick[T any](c *chooser, list ...T) T { return list[c.IntN(len(list))] }

// call is a request before it is signed.
type call struct {
	name   string // what the tally counts it as
	signer *person
	method string
	path   string // with query
	body   []byte
	paced  bool   // may be refused because it came too soon
	strict bool   // done holds only for the very request
	done   func() // after success; nil if there is nothing to remember
	end    func() // in any case
}

func encode(v any) []byte {
	raw, err := api.Encode(v)
	if err != nil {
		panic(err) // values of this program's own making
	}
	return raw
}

// valid makes a request that must be served.
type valid struct {
	name string
	make func(w *world, c *chooser) (call, error)
}

// errNotNow tells that there is nothing yet that such a request could be about.
var errNotNow = errors.New("not now")

func get(name string, path func(w *world, c *chooser, me *person) (string, error), who ...standing) valid {
	if len(who) == 0 {
		who = []standing{member, admin}
	}
	return valid{name, func(w *world, c *chooser) (call, error) {
		me := w.someone(c, who...)
		p, err := path(w, c, me)
		return call{name: name, signer: me, method: http.MethodGet, path: p}, err
	}}
}

var valids = []valid{
	get("GET /healthz", func(*world, *chooser, *person) (string, error) { return api.HealthPath(), nil }),
	get("GET /readyz", func(*world, *chooser, *person) (string, error) { return api.ReadyPath(), nil }),
	get("GET /cards", func(w *world, c *chooser, _ *person) (string, error) {
		p := w.someone(c, member, admin)
		return pick(c, api.CardPath(p.ID()), api.CardByHashPath(p.ID(), p.card.Hash())), nil
	}),
	get("GET /handles", func(w *world, c *chooser, _ *person) (string, error) {
		return api.HandlePath(w.someone(c, member, admin, revoked).handle), nil
	}),
	get("GET /users", func(w *world, c *chooser, _ *person) (string, error) {
		return pick(c, api.UsersPath(), api.UsersAfterPath(w.someone(c, member).SignPub())), nil
	}, admin),
	get("GET /rooms", func(*world, *chooser, *person) (string, error) { return api.RoomsPath(), nil }),
	{"GET records", func(w *world, c *chooser) (call, error) {
		r, err := w.lockRoom(c)
		if err != nil {
			return call{}, err
		}
		defer r.mu.Unlock()
		from := bus.Epoch(c.Uint64N(uint64(r.head.Record.Epoch) + 1))
		return call{name: "GET records", signer: r.owner, method: http.MethodGet, path: api.RecordsFromPath(r.head.Record.Room, from)}, nil
	}},
	{"GET key", func(w *world, c *chooser) (call, error) {
		r, err := w.lockRoom(c)
		if err != nil {
			return call{}, err
		}
		defer r.mu.Unlock()
		epoch := bus.Epoch(c.Uint64N(uint64(r.head.Record.Epoch) + 1))
		return call{name: "GET key", signer: r.owner, method: http.MethodGet, path: api.KeyPath(r.head.Record.Room, epoch)}, nil
	}},
	{"PUT /cards", func(w *world, c *chooser) (call, error) { return w.putCard(w.someone(c, member, admin)), nil }},
	{"PUT /handles", putEntry},
	{"POST /users", addUser},
	{"POST /rooms", createRoom},
	{"POST records", appendRecord},
	{"POST /cursors", makeCursors},
	{"GET revoked", func(w *world, c *chooser) (call, error) {
		r, err := w.lockRoom(c)
		if err != nil {
			return call{}, err
		}
		defer r.mu.Unlock()
		return call{name: "GET revoked", signer: r.owner, method: http.MethodGet, path: api.RevokedMembersPath(r.head.Record.Room)}, nil
	}},
	get("GET /revocations", func(w *world, c *chooser, _ *person) (string, error) {
		return api.RevocationPath(w.someone(c, member, admin, revoked).ID()), nil
	}),
	{"PUT /revocations", func(w *world, c *chooser) (call, error) {
		// Only of those who are revoked anyway: it is for good.
		p := w.someone(c, revoked)
		return call{name: "PUT /revocations", signer: p, method: http.MethodPut, path: api.RevocationPath(p.ID()),
			body: encode(api.Revocation{Revocation: p.Revocation().Bytes()})}, nil
	}},
	{"PUT key", func(w *world, c *chooser) (call, error) {
		r, err := w.lockRoom(c)
		if err != nil {
			return call{}, err
		}
		return call{name: "PUT key", signer: r.owner, method: http.MethodPut, path: api.KeyPath(r.head.Record.Room, r.head.Record.Epoch),
			body: encode(api.Resealed{Card: r.owner.card.Hash(), Blob: c.bytes(1 + c.IntN(bus.MaxSealedSize))}), end: r.mu.Unlock}, nil
	}},
	{"POST /reports", func(w *world, c *chooser) (call, error) {
		return call{name: "POST /reports", signer: w.someone(c, member, admin), method: http.MethodPost, path: api.ReportsPath(), paced: true,
			body: encode(api.Report{V: 1, Counts: map[bus.Code]uint32{bus.CodeDecrypt: 1 + c.Uint32N(9)}})}, nil
	}},
	{"PUT blob", putBlob},
	withBlob("HEAD blob", http.MethodHead, func(_ *chooser, b *aBlob) string { return api.BlobPath(b.hash) }),
	withBlob("GET blob", http.MethodGet, func(c *chooser, b *aBlob) string {
		return api.BlobFromPath(b.hash, c.Int64N(int64(len(b.content))))
	}),
	withBlob("DELETE blob", http.MethodDelete, func(_ *chooser, b *aBlob) string { return api.BlobPath(b.hash) }),
}

// bytes returns n random bytes.
func (c *chooser) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return b
}

// aBlob is the place of one blob, which is there or not.
type aBlob struct {
	mu      sync.Mutex
	owner   *person
	hash    bus.BlobHash
	content []byte // nil while it is not there
}

func putBlob(w *world, c *chooser) (call, error) {
	b := &w.blobs[c.IntN(len(w.blobs))]
	b.mu.Lock()
	if b.content != nil {
		b.mu.Unlock()
		return call{}, errNotNow
	}
	content, owner := c.bytes(1+c.IntN(64<<10)), w.someone(c, member, admin)
	hash := bus.BlobHash(sha256.Sum256(content))
	return call{
		name: "PUT blob", signer: owner, method: http.MethodPut, path: api.BlobPartPath(hash, 0, int64(len(content))), body: content, strict: true,
		done: func() { b.owner, b.hash, b.content = owner, hash, content },
		end:  b.mu.Unlock,
	}, nil
}

func withBlob(name, method string, path func(*chooser, *aBlob) string) valid {
	return valid{name, func(w *world, c *chooser) (call, error) {
		b := &w.blobs[c.IntN(len(w.blobs))]
		b.mu.Lock()
		if b.content == nil {
			b.mu.Unlock()
			return call{}, errNotNow
		}
		x := call{name: name, signer: b.owner, method: method, path: path(c, b), end: b.mu.Unlock}
		if method == http.MethodDelete {
			x.done = func() { b.content = nil }
		}
		return x, nil
	}}
}

// lockRoom returns a room that nobody else changes until it is unlocked.
func (w *world) lockRoom(c *chooser) (*aRoom, error) {
	r := w.aRoom(c)
	if r == nil {
		return nil, errNotNow
	}
	r.mu.Lock()
	return r, nil
}

func putEntry(w *world, c *chooser) (call, error) {
	p := w.someone(c, member, admin)
	p.entries.Lock() // a later entry must not overtake this one
	raw, err := w.root.SignEntry(identity.Entry{BusID: w.root.BusID(), Handle: p.handle, ID: p.ID(),
		Seq: p.entrySeq + 1, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		p.entries.Unlock()
		return call{}, err
	}
	return call{name: "PUT /handles", signer: w.someone(c, admin), method: http.MethodPut,
		path: api.HandlePath(p.handle), body: encode(api.Entry{Entry: raw}),
		done: func() { p.entrySeq++ },
		end:  p.entries.Unlock,
	}, nil
}

func addUser(w *world, c *chooser) (call, error) {
	w.mu.Lock()
	n := len(w.people)
	w.mu.Unlock()
	if n >= maxUsers {
		return call{}, errNotNow
	}
	p, err := w.newPerson(bus.Handle(fmt.Sprintf("u%x", c.Uint64())), member)
	return call{
		name: "POST /users", signer: w.someone(c, admin), method: http.MethodPost, path: api.UsersPath(),
		body: encode(api.AddUser{SignPub: p.SignPub(), Handle: p.handle, Role: bus.UserMember}),
		done: func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			// Without a card it can sign nothing yet.
			p.standing = stranger
			w.people = append(w.people, p)
		},
	}, err
}

func upload(s *room.Signed) []byte {
	u := api.RecordUpload{Record: s.Record.Bytes(), Members: s.Record.MembersBytes(), Sealed: []api.SealedKey{}}
	for _, k := range s.Sealed {
		u.Sealed = append(u.Sealed, api.SealedKey{ID: k.ID, Blob: k.Blob})
	}
	return encode(u)
}

func (w *world) draft(c *chooser, owner *person) room.Draft {
	d := room.Draft{Policy: bus.DefaultPolicy(), Name: "agent.scout.in",
		Members: []room.MemberSpec{{Card: owner.card, Role: bus.RoleOwner}}}
	in := map[*person]bool{owner: true}
	for range c.IntN(maxRoom) {
		if p := w.someone(c, member, admin); !in[p] {
			in[p] = true
			d.Members = append(d.Members, room.MemberSpec{Card: p.card, Role: pick(c, bus.RoleReader, bus.RoleWriter, bus.RoleAdmin)})
		}
	}
	return d
}

func createRoom(w *world, c *chooser) (call, error) {
	w.mu.Lock()
	n := len(w.rooms)
	w.mu.Unlock()
	if n >= maxRooms {
		return call{}, errNotNow
	}
	owner := w.someone(c, member, admin)
	s, err := room.Create(owner.Identity, w.draft(c, owner), time.Now(), rand.Reader)
	if err != nil {
		return call{}, err
	}
	return call{
		name: "POST /rooms", signer: owner, method: http.MethodPost, path: api.RoomsPath(), body: upload(s),
		done: func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.rooms = append(w.rooms, &aRoom{owner: owner, head: s})
		},
	}, nil
}

func appendRecord(w *world, c *chooser) (call, error) {
	r, err := w.lockRoom(c)
	if err != nil {
		return call{}, err
	}
	s, err := room.Next(r.owner.Identity, r.head.Record, r.head.Key, w.draft(c, r.owner), time.Now(), rand.Reader)
	if err != nil {
		r.mu.Unlock()
		return call{}, err
	}
	return call{
		name: "POST records", signer: r.owner, method: http.MethodPost, path: api.RecordsPath(s.Record.Room), body: upload(s),
		done: func() { r.head = s },
		end:  r.mu.Unlock,
	}, nil
}

func makeCursors(w *world, c *chooser) (call, error) {
	// A consumer lives on for a while. Few rooms and one session, a run of a
	// client, have few of them, all made in the warm-up.
	w.mu.Lock()
	rooms := w.rooms[:min(len(w.rooms), 2)]
	w.mu.Unlock()
	if len(rooms) == 0 {
		return call{}, errNotNow
	}
	r := pick(c, rooms...)
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.head.Record.Room
	req := api.CursorRequest{Session: bus.SessionID{0: 1}}
	if c.IntN(2) == 0 {
		req.Tail = []api.TailShard{{Shard: bus.Shard(id), Rooms: []bus.RoomID{id}, Keep: c.IntN(2) == 0}}
	} else {
		req.CatchUp = []api.CatchUp{{Slot: c.IntN(bus.CatchUpSlots), Room: id, From: 1}}
	}
	return call{name: "POST /cursors", signer: r.owner, method: http.MethodPost, path: api.CursorsPath(), body: encode(req)}, nil
}
