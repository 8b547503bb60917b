package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/daemon/control"
	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// How much there is at most, so that what valid requests make is no growth.
const (
	maxUsers = 48
	maxRooms = 24
	maxRoom  = 12 // members of a room
)

// person is an identity with its key towards the bus.
type person struct {
	*identity.Identity
	transport *identity.Transport
	handle    bus.Handle
	card      *identity.Card
	standing  standing

	entries  sync.Mutex
	entrySeq uint64 // of the latest directory entry
}

// standing is what the bus knows of a person.
type standing uint8

const (
	stranger standing = iota // no account
	member
	admin
	revoked
)

// aRoom is a room and its author's copy of the head.
type aRoom struct {
	mu    sync.Mutex
	owner *person
	head  *room.Signed
}

// world is a node and those who call it.
type world struct {
	dir   string
	root  *identity.Root
	node  *node.Node
	log   *errorLog
	http  *http.Client
	tally *tally

	mu     sync.Mutex
	people []*person
	rooms  []*aRoom
	bodies [16][]byte // of valid requests, at random

	blobs [8]aBlob
}

func newWorld(ctx context.Context) (_ *world, err error) {
	w := &world{log: &errorLog{}, tally: newTally()}
	if w.dir, err = os.MkdirTemp("", "unibus-apifuzz-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.root, err = identity.GenerateRoot(rand.Reader); err != nil {
		return nil, err
	}
	first, err := w.newPerson("admin", admin)
	if err != nil {
		return nil, err
	}
	none := control.Rate{PerSecond: -1}
	w.node, err = node.Start(ctx, node.Config{
		BusID: w.root.BusID(), DataDir: w.dir + "/data", Name: "n1",
		ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: first.handle, SignPub: first.SignPub()},
		// The limits have tests of their own. Here they would hide the rest.
		Limits: control.Limits{Address: none, Unsigned: none, Reads: none, Changes: none},
		Logger: w.log.logger(),
	})
	if err != nil {
		return nil, err
	}
	w.http = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 16, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext},
		Timeout:   30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	w.people = []*person{first}
	if err := w.do(ctx, w.putCard(first)); err != nil {
		return nil, err
	}
	for _, standing := range []standing{admin, member, member, member, revoked, stranger} {
		if err := w.populate(ctx, standing); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) close() error {
	var errs []error
	if w.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		errs = append(errs, w.node.Stop(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

func (w *world) newPerson(handle bus.Handle, s standing) (*person, error) {
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		return nil, err
	}
	p := &person{Identity: id, transport: id.Transport(w.root.BusID()), handle: handle, standing: s}
	now := time.Now().UTC().Truncate(time.Second)
	p.card, err = identity.NewCard(id, w.root.BusID(), now.Add(-time.Minute), now.Add(bus.MaxCardLife/2))
	return p, err
}

// populate adds somebody through the API.
func (w *world) populate(ctx context.Context, s standing) error {
	w.mu.Lock()
	n := len(w.people)
	first := w.people[0]
	w.mu.Unlock()
	p, err := w.newPerson(bus.Handle(fmt.Sprintf("user%d", n)), s)
	if err != nil {
		return err
	}
	if s != stranger {
		role := bus.UserMember
		if s == admin {
			role = bus.UserAdmin
		}
		add := call{name: "POST /users", signer: first, method: http.MethodPost, path: api.UsersPath(),
			body: encode(api.AddUser{SignPub: p.SignPub(), Handle: p.handle, Role: role})}
		if err := w.do(ctx, add); err != nil {
			return err
		}
		if err := w.do(ctx, w.putCard(p)); err != nil {
			return err
		}
	}
	if s == revoked {
		if err := w.do(ctx, call{name: "POST revoke", signer: first, method: http.MethodPost, path: api.RevokePath(p.SignPub())}); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.people = append(w.people, p)
	return nil
}

func (w *world) putCard(p *person) call {
	return call{name: "PUT /cards", signer: p, method: http.MethodPut, path: api.CardPath(p.ID()), body: encode(api.Card{Card: p.card.Bytes()})}
}

// someone returns one of the people of a standing.
func (w *world) someone(c *chooser, want ...standing) *person {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*person
	for _, p := range w.people {
		if slices.Contains(want, p.standing) {
			list = append(list, p)
		}
	}
	return list[c.IntN(len(list))]
}

// aRoom returns a room, nil while there is none.
func (w *world) aRoom(c *chooser) *aRoom {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rooms) == 0 {
		return nil
	}
	return w.rooms[c.IntN(len(w.rooms))]
}
