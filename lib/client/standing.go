package client

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// Standing is what is known of whether an identity may still use the bus.
type Standing struct {
	ID      bus.ID
	Revoked bool
	// Proven tells that the identity itself, or the root of the bus, has signed
	// that it is revoked. That is remembered: no server takes it back. Without it
	// Revoked is the word of a server.
	Proven bool
	At     time.Time // when, by the word of a server; zero where none said
}

// revokedKeys are the signed revocations that this client, or another process
// that shares its state, has verified.
type revokedKeys struct {
	V       int                  `json:"v"`
	Revoked map[bus.ID]api.Bytes `json:"revoked"`
}

// revocations is what is known of them in this process. The zero value knows
// none.
type revocations struct {
	mu     sync.Mutex // while they are read and replaced
	proven atomic.Pointer[map[bus.ID]bool]
}

func (r *revocations) has(id bus.ID) bool {
	known := r.proven.Load()
	return known != nil && (*known)[id]
}

// Standing asks whether somebody, named by handle, id or signing key, may still
// use the bus. The error has [bus.CodeNotFound] for who never could.
func (c *Client) Standing(ctx context.Context, who string) (Standing, error) {
	peer, err := c.who(ctx, who)
	if err != nil {
		return Standing{}, err
	}
	if c.revoked.has(peer.ID) {
		return Standing{ID: peer.ID, Revoked: true, Proven: true}, nil
	}
	var reply api.Standing
	if err := c.control.call(ctx, http.MethodGet, api.RevocationPath(peer.ID), nil, &reply); err != nil {
		return Standing{}, err
	}
	if reply.ID != peer.ID {
		return Standing{}, bus.Errorf(bus.CodeMalformed, "ask for the standing of %s: the server speaks of %s", peer.ID, reply.ID)
	}
	said, err := c.judgeStandings(ctx, []api.Standing{reply})
	if err != nil {
		return Standing{}, err
	}
	return said[0], nil
}

// Revoked returns the members of the room who were revoked as users of the bus,
// by the word of a server or by proof, in ascending order of their ids. They are
// members, and get every new key, until an authority removes them.
func (r *Room) Revoked(ctx context.Context) ([]Standing, error) {
	c := r.client
	var reply api.RevokedMembers
	if err := c.control.call(ctx, http.MethodGet, api.RevokedMembersPath(r.id), nil, &reply); err != nil {
		return nil, err
	}
	head, _, _ := r.model.current()
	// Anybody can make keys and revoke them: what is of no member is not kept.
	members := slices.DeleteFunc(reply.Revoked, func(s api.Standing) bool {
		_, is := head.Member(s.ID)
		return !is
	})
	said, err := c.judgeStandings(ctx, members)
	if err != nil {
		return nil, fmt.Errorf("look for revoked members of room %s: %w", r.id, err)
	}
	var revoked []Standing
	for _, m := range head.Members() {
		// What was proven once counts whether or not the server still says so.
		s := Standing{ID: m.ID, Revoked: c.revoked.has(m.ID), Proven: c.revoked.has(m.ID)}
		if i := slices.IndexFunc(said, func(s Standing) bool { return s.ID == m.ID }); i >= 0 {
			s = said[i]
		}
		if s.Revoked {
			revoked = append(revoked, s)
		}
	}
	return revoked, nil
}

// judgeStandings verifies what a server says of some identities, and remembers
// what it proves. A proof that is none is reported and proves nothing.
func (c *Client) judgeStandings(ctx context.Context, said []api.Standing) ([]Standing, error) {
	out := make([]Standing, len(said))
	fresh := map[bus.ID]api.Bytes{}
	for i, s := range said {
		out[i] = Standing{ID: s.ID, Revoked: s.Status == bus.UserRevoked || c.revoked.has(s.ID), Proven: c.revoked.has(s.ID)}
		if s.RevokedAt != nil {
			out[i].At = *s.RevokedAt
		}
		if len(s.Revocation) == 0 || out[i].Proven {
			continue
		}
		if err := c.checkRevocation(s.ID, s.Revocation); err != nil {
			c.events.raise(EventSecurity, bus.RoomID{}, err, "")
			continue
		}
		out[i].Revoked, out[i].Proven = true, true
		fresh[s.ID] = s.Revocation
	}
	if len(fresh) == 0 {
		return out, nil
	}
	err := c.revokedFile.update(ctx, func(k *revokedKeys) error {
		k.V = 1
		if k.Revoked == nil {
			k.Revoked = map[bus.ID]api.Bytes{}
		}
		maps.Copy(k.Revoked, fresh)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, c.loadRevocations()
}

func (c *Client) checkRevocation(id bus.ID, raw []byte) error {
	r, err := identity.ParseRevocation(raw)
	if err == nil {
		err = r.Check(c.config.BusID, id)
	}
	if err != nil {
		return fmt.Errorf("verify revocation of %s: %w", id, err)
	}
	return nil
}

// loadRevocations makes known what is in the state, verified again.
func (c *Client) loadRevocations() error {
	c.revoked.mu.Lock()
	defer c.revoked.mu.Unlock()
	keys, err := c.revokedFile.read()
	if err != nil {
		return err
	}
	proven := make(map[bus.ID]bool, len(keys.Revoked))
	for id, raw := range keys.Revoked {
		if c.revoked.has(id) {
			proven[id] = true
			continue
		}
		if err := c.checkRevocation(id, raw); err != nil {
			return fmt.Errorf("read state %s: %w", c.revokedFile.path, err)
		}
		proven[id] = true
	}
	c.revoked.proven.Store(&proven)
	return nil
}

// hasRevoked reports whether a member of the head is known to be revoked.
func (r *Room) hasRevoked(head *room.Record) bool {
	return slices.ContainsFunc(head.Members(), func(m room.Member) bool { return r.client.revoked.has(m.ID) })
}

// tellRevoked looks for members who were revoked, where this client could remove
// them, and raises an event for each that it has not told of.
func (r *Room) tellRevoked(ctx context.Context) {
	head, _, _ := r.model.current()
	if head == nil || !head.Role(r.client.ID()).IsAuthority() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	revoked, err := r.Revoked(limited)
	if err != nil {
		if ctx.Err() == nil {
			r.client.log.Warn("client", "room", r.id.String(), "look_for_revoked", err)
		}
		return
	}
	for _, s := range revoked {
		if told, known := r.told.Swap(s.ID, s.Proven); known && told == s.Proven {
			continue
		}
		word := "by the word of a server"
		if s.Proven {
			word = "proven by signature"
		}
		r.client.events.raise(EventRevoked, r.id, bus.Errorf(bus.CodeRevoked, "member %s was revoked", s.ID), word)
	}
}
