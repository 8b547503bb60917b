package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// Room is a room of which the client is a member. It follows the room's
// records: who may send, who can read and with which key is always what the
// newest verified record says. It may be used from several goroutines at once.
type Room struct {
	client  *Client
	id      bus.RoomID
	model   *model
	pub     *publisher
	live    *liveHub
	seen    seenFrames
	hints   atomic.Int64 // that came since the last look they led to
	revokes atomic.Bool  // a hint said that a member was revoked
	told    sync.Map     // bus.ID of a revoked member to whether that was proven
	replies *replyHub

	opening int // calls of open under way; the client's lock guards it

	// of is set in a Room that only looks at what the servers show of another, and
	// follows no pin.
	of *Room
}

// Member is a member of a room.
type Member struct {
	ID     bus.ID
	Role   bus.Role
	Handle bus.Handle // as pinned by Resolve, "" where it is not known
}

// RoomOptions say what a new room is like. The zero value is
// [bus.DefaultPolicy] and a life of [bus.DefaultRecordLife].
type RoomOptions struct {
	Policy *bus.Policy   // nil is [bus.DefaultPolicy]
	Life   time.Duration // of the first record, whole seconds
}

// RoomInfo is what [Client.Rooms] tells about a room.
type RoomInfo struct {
	ID        bus.RoomID
	Name      bus.RoomName // "" where Err says why
	Role      bus.Role     // of this client
	Epoch     bus.Epoch
	Persisted bool
	Accepted  bool         // made or accepted here, so that its name resolves
	As        bus.RoomName // what it is called here, where that is not its name
	InvitedBy bus.ID       // who made this client a member; zero for who made the room
	Err       error        // the room's records failed verification, or could not be read
}

// acceptedRooms are the rooms whose names this client, or another process that
// shares its state, resolves.
type acceptedRooms struct {
	V     int            `json:"v"`
	Rooms []acceptedRoom `json:"rooms"` // in the order they were accepted
}

type acceptedRoom struct {
	Room bus.RoomID   `json:"room"`
	Name bus.RoomName `json:"name"`
}

// CreateRoom makes a room with the client as its owner and only member. The
// name is for its members; servers do not see it where the room is encrypted.
func (c *Client) CreateRoom(ctx context.Context, name bus.RoomName, opts RoomOptions) (*Room, error) {
	policy := bus.DefaultPolicy()
	if opts.Policy != nil {
		policy = *opts.Policy
	}
	draft := room.Draft{
		Policy:  policy,
		Name:    name,
		Members: []room.MemberSpec{{Card: c.card(), Role: bus.RoleOwner}},
		Life:    opts.Life,
	}
	signed, err := room.Create(c.identity(), draft, c.config.Now(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id := signed.Record.Room
	err = c.control.call(ctx, http.MethodPost, api.RoomsPath(), upload(signed), nil)
	if errors.Is(err, bus.ErrExists) || errors.Is(err, bus.ErrConflict) {
		// The id is the hash of a record with a fresh key: it can only be ours,
		// from an attempt whose answer got lost.
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if err := c.remember(ctx, id, name); err != nil {
		return nil, err
	}
	return c.openOwn(ctx, id)
}

// openOwn opens a room that was just made. Another node than the one that took
// it may be a little behind.
func (c *Client) openOwn(ctx context.Context, id bus.RoomID) (*Room, error) {
	for began := time.Now(); ; {
		r, err := c.open(ctx, id)
		behind := errors.Is(err, bus.ErrNotFound) || errors.Is(err, bus.ErrForbidden) || errors.Is(err, bus.ErrNotMember)
		if !behind || time.Since(began) > grantWait || !sleep(ctx, retryPause) {
			return r, err
		}
	}
}

// upload returns a new record as the control plane takes it.
func upload(s *room.Signed) api.RecordUpload {
	u := api.RecordUpload{Record: s.Record.Bytes(), Members: s.Record.MembersBytes(), Sealed: []api.SealedKey{}}
	for _, k := range s.Sealed {
		u.Sealed = append(u.Sealed, api.SealedKey{ID: k.ID, Blob: k.Blob})
	}
	return u
}

// AcceptRoom joins a room to which the client was invited: it verifies the
// room's history and pins the room's name to its id, so that [Client.Room]
// finds it by name. Accepting a room again is no change. A room that the client
// was removed from is [bus.CodeNotMember]; one whose name another room here has
// already is [bus.CodeExists], since whoever invites chooses the name.
func (c *Client) AcceptRoom(ctx context.Context, id bus.RoomID) (*Room, error) {
	return c.AcceptRoomAs(ctx, id, "")
}

// AcceptRoomAs is [Client.AcceptRoom] for a room that is to have another name here,
// or another one than so far.
func (c *Client) AcceptRoomAs(ctx context.Context, id bus.RoomID, as bus.RoomName) (*Room, error) {
	if as != "" {
		if _, err := bus.ParseRoomName(string(as)); err != nil {
			return nil, err
		}
	}
	r, err := c.open(ctx, id)
	if err != nil {
		return nil, err
	}
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	return r, c.accepted.update(ctx, func(a *acceptedRooms) error {
		at := slices.IndexFunc(a.Rooms, func(r acceptedRoom) bool { return r.Room == id })
		if at >= 0 && as == "" {
			return nil
		}
		want := cmp.Or(as, name)
		if i := slices.IndexFunc(a.Rooms, func(r acceptedRoom) bool { return r.Name == want && r.Room != id }); i >= 0 {
			return bus.Errorf(bus.CodeExists, "room %s here is called %s already", a.Rooms[i].Room, want)
		}
		if at < 0 {
			a.Rooms = append(a.Rooms, acceptedRoom{Room: id, Name: want})
		} else {
			a.Rooms[at].Name = want
		}
		a.V = 1
		return nil
	})
}

func (c *Client) remember(ctx context.Context, id bus.RoomID, name bus.RoomName) error {
	return c.accepted.update(ctx, func(a *acceptedRooms) error {
		a.V = 1
		if !slices.ContainsFunc(a.Rooms, func(r acceptedRoom) bool { return r.Room == id }) {
			a.Rooms = append(a.Rooms, acceptedRoom{Room: id, Name: name})
		}
		return nil
	})
}

// ForgetRoom removes what is kept here of a room that is for this client alone: the
// name that it was accepted under and the places of its cursors. With pins it also
// forgets which records were accepted, and proofs of forks and equivocation, so that
// the next look believes whatever the servers show: the last resort where a fork
// cannot be resolved. It tells nobody; the client stays a member. It returns whether
// the room had a name here.
func (c *Client) ForgetRoom(ctx context.Context, id bus.RoomID, pins bool) (named bool, err error) {
	if err := c.forgetRoom(ctx, id, pins, &named); err != nil {
		return named, fmt.Errorf("forget room %s: %w", id, err)
	}
	return named, nil
}

func (c *Client) forgetRoom(ctx context.Context, id bus.RoomID, pins bool, named *bool) error {
	err := c.accepted.update(ctx, func(a *acceptedRooms) error {
		a.V = 1
		before := len(a.Rooms)
		a.Rooms = slices.DeleteFunc(a.Rooms, func(r acceptedRoom) bool { return r.Room == id })
		*named = len(a.Rooms) < before
		return nil
	})
	if err != nil {
		return err
	}
	doomed, err := filepath.Glob(filepath.Join(c.state.path("cursors", id.Token()), "*.json"))
	if err != nil {
		return err
	}
	if pins {
		if err := c.pins.Forget(ctx, id); err != nil {
			return err
		}
		doomed = append(doomed, c.lineageFile(id).path)
		kept, err := c.Proofs(id)
		if err != nil {
			return err
		}
		for _, p := range kept {
			doomed = append(doomed, p.File)
		}
	}
	for _, name := range doomed {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Room returns a room by its id or by its name. Names are looked up among the
// rooms that this identity made or accepted here, never among those it was
// only invited to: whoever invites chooses the name. A name of two rooms is
// [bus.CodeAmbiguous] and the error lists both; one of none is
// [bus.CodeNotFound].
func (c *Client) Room(ctx context.Context, nameOrID string) (*Room, error) {
	id, err := c.RoomID(nameOrID)
	if err != nil {
		return nil, err
	}
	return c.open(ctx, id)
}

// RoomID returns the id of a room as [Client.Room] finds it, and asks no server.
func (c *Client) RoomID(nameOrID string) (bus.RoomID, error) {
	if id, err := bus.ParseRoomID(nameOrID); err == nil {
		return id, nil
	}
	name, err := bus.ParseRoomName(nameOrID)
	if err != nil {
		return bus.RoomID{}, err
	}
	ids, err := c.RoomsNamed(name)
	if err != nil {
		return bus.RoomID{}, err
	}
	switch len(ids) {
	case 0:
		return bus.RoomID{}, bus.Errorf(bus.CodeNotFound, "find room %q: no room of that name was made or accepted here", name)
	case 1:
		return ids[0], nil
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return bus.RoomID{}, bus.Errorf(bus.CodeAmbiguous, "find room %q: the name belongs to %s", name, strings.Join(texts, " and "))
}

// RoomsNamed returns the ids of the rooms of a name that this identity made or
// accepted here, in the order it did. It asks no server, so some of them may have
// ended, or the client been removed from them.
func (c *Client) RoomsNamed(name bus.RoomName) ([]bus.RoomID, error) {
	accepted, err := c.accepted.read()
	if err != nil {
		return nil, err
	}
	var ids []bus.RoomID
	for _, a := range accepted.Rooms {
		if a.Name == name {
			ids = append(ids, a.Room)
		}
	}
	return ids, nil
}

// Rooms returns the rooms that the client is a member of, those it was invited
// to and has not accepted too, in ascending order of their ids. A room that
// fails verification is in the list with its Err. From then on the client keeps
// all of them up to date, and renews and rotates those where it has authority.
func (c *Client) Rooms(ctx context.Context) ([]RoomInfo, error) {
	var list api.RoomList
	if err := c.control.call(ctx, http.MethodGet, api.RoomsPath(), nil, &list); err != nil {
		return nil, err
	}
	accepted, err := c.accepted.read()
	if err != nil {
		return nil, err
	}
	infos := make([]RoomInfo, len(list.Rooms))
	var loads errgroup.Group
	loads.SetLimit(roomLoaders)
	for i, h := range list.Rooms {
		infos[i] = RoomInfo{
			ID: h.Room, Role: h.Role, Epoch: h.Epoch, Persisted: h.Persisted,
		}
		if at := slices.IndexFunc(accepted.Rooms, func(a acceptedRoom) bool { return a.Room == h.Room }); at >= 0 {
			infos[i].Accepted, infos[i].As = true, accepted.Rooms[at].Name
		}
		loads.Go(func() error {
			infos[i].verify(ctx, c)
			return nil
		})
	}
	if err := loads.Wait(); err != nil {
		return nil, err
	}
	return infos, nil
}

// roomLoaders is how many rooms are read at once.
const roomLoaders = 4

// verify replaces the server's word by what the room's records say.
func (i *RoomInfo) verify(ctx context.Context, c *Client) {
	r, err := c.open(ctx, i.ID)
	if err == nil {
		err = r.syncTo(ctx, i.Epoch)
	}
	if err != nil {
		i.Err = err
		return
	}
	head, _, _ := r.model.current()
	i.Epoch, i.Role, i.Persisted = head.Epoch, head.Role(c.ID()), head.Policy.Persisted()
	i.InvitedBy = r.InvitedBy()
	i.Name, i.Err = r.name()
	if i.As == i.Name {
		i.As = ""
	}
}

// open returns the one Room of an id, with its records read and verified. A
// room of which none could be is not kept: servers may name any number of them.
func (c *Client) open(ctx context.Context, id bus.RoomID) (*Room, error) {
	r, letGo, err := c.hold(id)
	if err != nil {
		return nil, err
	}
	defer letGo()
	if err := r.syncTo(ctx, 0); err != nil {
		return nil, fmt.Errorf("open room %s: %w", id, err)
	}
	return r, nil
}

// hold returns the one Room of an id, read or not, and what is to be called when
// no more is expected to be read of it.
func (c *Client) hold(id bus.RoomID) (r *Room, letGo func(), err error) {
	if err := c.alive(); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.rooms[id]
	if !ok {
		r = &Room{client: c, id: id, model: newModel(id)}
		r.pub = newPublisher(r)
		if c.leaving != nil {
			r.pub.refuse(c.leaving)
		}
		r.live = newLiveHub(r)
		r.replies = newReplyHub(r)
		c.rooms[id] = r
	}
	r.opening++
	return r, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.opening--
		if head, _, _ := r.model.current(); head == nil && r.opening == 0 {
			delete(c.rooms, id)
		}
	}, nil
}

// loaded returns the rooms that were opened.
func (c *Client) loaded() []*Room {
	c.mu.Lock()
	defer c.mu.Unlock()
	rooms := make([]*Room, 0, len(c.rooms))
	for _, r := range c.rooms {
		if head, _, _ := r.model.current(); head != nil {
			rooms = append(rooms, r)
		}
	}
	return rooms
}

// ID returns the room's id.
func (r *Room) ID() bus.RoomID { return r.id }

// Name returns the room's name as the newest record has it that this client has
// a key for: after its removal that is an older one than the head. It is "" where
// there is none.
func (r *Room) Name() bus.RoomName {
	r.model.mu.RLock()
	defer r.model.mu.RUnlock()
	for e := r.model.head.Epoch; ; e-- {
		key, _ := r.model.chain.Key(e)
		name, err := r.model.chain.At(e).OpenName(key)
		if err == nil || e == 0 {
			return name
		}
	}
}

// name returns the name in the head, for members.
func (r *Room) name() (bus.RoomName, error) {
	head, key, _ := r.model.current()
	if _, member := head.Member(r.client.ID()); !member {
		return "", r.notMember()
	}
	return head.OpenName(key)
}

// Policy returns how the room works.
func (r *Room) Policy() bus.Policy {
	head, _, _ := r.model.current()
	return head.Policy
}

// Epoch returns the epoch of the newest record.
func (r *Room) Epoch() bus.Epoch {
	head, _, _ := r.model.current()
	return head.Epoch
}

// Role returns this client's role, 0 once it was removed.
func (r *Room) Role() bus.Role {
	head, _, _ := r.model.current()
	return head.Role(r.client.ID())
}

// ReadableFrom returns the first epoch whose messages this client can read up to now:
// 0 where it was there from the beginning, or the room shares its history with
// newcomers, and else the epoch that it came with.
func (r *Room) ReadableFrom() bus.Epoch {
	r.model.mu.RLock()
	defer r.model.mu.RUnlock()
	e := r.model.head.Epoch
	for e > 0 && r.model.head.Policy.Encrypted() {
		_, member := r.model.chain.At(e - 1).Member(r.client.ID())
		if !member && len(r.model.chain.At(e).HistoryCT) == 0 {
			return e
		}
		e--
	}
	return 0
}

// InvitedBy returns who signed the record that made this client a member, the last
// one if there were several; zero for who made the room, and for who is no member.
func (r *Room) InvitedBy() bus.ID {
	r.model.mu.RLock()
	defer r.model.mu.RUnlock()
	me := r.client.ID()
	for e := r.model.head.Epoch; ; e-- {
		rec := r.model.chain.At(e)
		_, member := rec.Member(me)
		switch {
		case !member && e == r.model.head.Epoch:
			return bus.ID{}
		case !member:
			return identity.IDOf(r.model.chain.At(e + 1).Signer)
		case e == 0:
			if by := identity.IDOf(rec.Signer); by != me {
				return by
			}
			return bus.ID{}
		}
	}
}

// Members returns the members in ascending order of their ids.
func (r *Room) Members() []Member {
	head, _, _ := r.model.current()
	members := make([]Member, 0, head.MemberCount())
	for _, m := range head.Members() {
		members = append(members, Member{ID: m.ID, Role: m.Role, Handle: r.client.handleOf(m.ID)})
	}
	return members
}

// Changed returns a channel that closes when the next record is accepted. Whoever
// looks at the room's members or policy after calling it misses none.
func (r *Room) Changed() <-chan struct{} {
	_, _, moved := r.model.current()
	return moved
}

// Refresh asks for new records now. Notices and the poll every
// [bus.HeadPoll] make it needless but for those who cannot wait for them.
func (r *Room) Refresh(ctx context.Context) error { return r.sync(ctx) }

// Log returns every record of the room, from the first to the head, each
// verified against the one before. A removed member gets them up to its removal.
func (r *Room) Log(ctx context.Context) ([]*room.Record, error) {
	if err := r.sync(ctx); err != nil {
		return nil, err
	}
	r.model.mu.RLock()
	defer r.model.mu.RUnlock()
	recs := make([]*room.Record, 0, r.model.head.Epoch+1)
	for e := bus.Epoch(0); e <= r.model.head.Epoch; e++ {
		recs = append(recs, r.model.chain.At(e))
	}
	return recs, nil
}
