package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// Invite makes somebody, named by handle, id or signing key, a member with this
// role, or gives a member another one. It makes the room's next record, with a
// new key. Somebody who loses the right to write keeps what it has stored so
// far (see [Room.Remove]).
//
// Errors: [bus.CodeNotAuthority] where this client may not, [bus.CodeNotFound]
// and [bus.CodePinChanged] for the handle, [bus.CodeRevoked] for one whose
// account has ended, [bus.CodeCardMismatch] and its kin where the servers show a
// card that cannot be right, [bus.CodeUnknownOutcome] where they took the record,
// or may have, and do not show it: it may still count, and the next change of the
// room sends it again before anything else.
func (r *Room) Invite(ctx context.Context, who string, role bus.Role) error {
	return r.invite(ctx, who, role, func(d *change, id bus.ID) { d.done = d.head.Role(id) == role })
}

// Add is [Room.Invite] for somebody who is to keep the role of a member already:
// it returns that role then, and changes nothing. It returns 0 where this call
// made them a member. Errors: those of Invite.
func (r *Room) Add(ctx context.Context, who string, role bus.Role) (had bus.Role, err error) {
	err = r.invite(ctx, who, role, func(d *change, id bus.ID) {
		had = d.head.Role(id)
		d.done = had.Valid()
	})
	return had, err
}

// invite gives somebody a role in the next record, unless check finds the change
// done already.
func (r *Room) invite(ctx context.Context, who string, role bus.Role, check func(*change, bus.ID)) error {
	peer, err := r.client.who(ctx, who)
	if err != nil {
		return err
	}
	switch {
	case !role.Valid():
		return bus.Errorf(bus.CodeUsage, "invite %s: %s is no role", who, role)
	case peer.Status == bus.UserRevoked || r.client.revoked.has(peer.ID):
		return bus.Errorf(bus.CodeRevoked, "invite %s: the account was revoked", who)
	}
	return r.change(ctx, "invite", asked, func(d *change) error {
		check(d, peer.ID)
		d.roles[peer.ID] = role
		return nil
	})
}

// Remove takes members, named by handle, id or signing key, out of the room. The
// next record has a key that they never get, and their connections lose the room
// at once on every node.
//
// What they have stored stays readable: Remove reads the stored room once, to
// list their sessions and how far each had come, and later frames of theirs count
// for nobody. Of a room that is not stored only what this client has read counts.
// The last owner is not removed: [bus.CodeTransition], and nothing is signed.
func (r *Room) Remove(ctx context.Context, who ...string) error {
	ids := make([]bus.ID, len(who))
	for i, w := range who {
		peer, err := r.client.who(ctx, w)
		if err != nil {
			return err
		}
		ids[i] = peer.ID
	}
	return r.change(ctx, "remove", asked, func(d *change) error {
		d.done = true
		for _, id := range ids {
			if _, member := d.head.Member(id); member {
				delete(d.roles, id)
				d.done = false
			}
		}
		return nil
	})
}

// RemoveRevoked takes members out of the room who were revoked as users of the bus:
// those of whom it is proven and, where word says that servers are to be believed,
// those of whom only they say so. It returns whom it removed, in ascending order of
// their ids; an admin cannot remove admins and owners. Running clients of admins and
// owners do it by themselves, for what is proven. Errors: those of [Room.Revoked] and
// [Room.Remove].
func (r *Room) RemoveRevoked(ctx context.Context, word bool) ([]Standing, error) {
	return r.removeRevoked(ctx, asked, word)
}

func (r *Room) removeRevoked(ctx context.Context, why occasion, word bool) ([]Standing, error) {
	revoked, err := r.Revoked(ctx)
	if err != nil {
		return nil, err
	}
	me := r.client.ID()
	revoked = slices.DeleteFunc(revoked, func(s Standing) bool { return s.ID == me || !s.Proven && !word })
	if len(revoked) == 0 {
		return nil, nil
	}
	var gone []Standing
	err = r.change(ctx, "remove revoked members", why, func(d *change) error {
		gone = nil // somebody else may have been first
		for _, s := range revoked {
			role := d.head.Role(s.ID)
			if role.Valid() && (!role.IsAuthority() || d.head.Role(me) == bus.RoleOwner) {
				delete(d.roles, s.ID)
				gone = append(gone, s)
			}
		}
		d.done = len(gone) == 0
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// Rotate makes the room's next record with the same members and a new key, and
// renews it for as long as it lived before.
func (r *Room) Rotate(ctx context.Context) error {
	return r.change(ctx, "rotate", asked, func(*change) error { return nil })
}

// change is a record in the making.
type change struct {
	head  *room.Record
	roles map[bus.ID]bus.Role // whom the next record has as a member
	done  bool                // the head is as wanted already
	// resolves are first records of branches that the next record gives up.
	resolves []bus.RecordHash
}

// changeTries is how often a change is made again after somebody else was first.
const changeTries = 16

// occasion is why a record is made.
type occasion int

const (
	asked   occasion = iota // somebody called
	unasked                 // this client thinks it is time
)

// change makes the next record of the room and has the servers accept it. Where
// somebody else was first it reads what they did and starts over. It signs
// nothing while an earlier record of its own may still become the head.
func (r *Room) change(ctx context.Context, verb string, why occasion, edit func(*change) error) error {
	if err := r.changeAlone(ctx, why, edit); err != nil {
		return fmt.Errorf("%s in room %s: %w", verb, r.id, err)
	}
	return nil
}

func (r *Room) changeAlone(ctx context.Context, why occasion, edit func(*change) error) error {
	s, err := r.beginSigning(ctx)
	if err != nil {
		return err
	}
	defer s.unlock()
	if err := s.finishEarlier(ctx, why); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := r.changeOnce(ctx, s, edit)
		// A conflict is there only once the head has moved.
		if bus.CodeOf(err) != bus.CodeConflict || try == changeTries || !sleep(ctx, mathrand.N(time.Duration(try)*20*time.Millisecond)) {
			return err
		}
	}
}

func (r *Room) changeOnce(ctx context.Context, s *signing, edit func(*change) error) error {
	if err := r.sync(ctx); err != nil {
		return err
	}
	head, key, _ := r.model.current()
	if role := head.Role(r.client.ID()); !role.IsAuthority() {
		return bus.Errorf(bus.CodeNotAuthority, "%s may not change it", describeRole(role))
	}
	d := change{head: head, roles: map[bus.ID]bus.Role{}}
	for _, m := range head.Members() {
		d.roles[m.ID] = m.Role
	}
	if err := edit(&d); err != nil || d.done {
		return err
	}
	if !slices.Contains(slices.Collect(maps.Values(d.roles)), bus.RoleOwner) {
		return bus.Errorf(bus.CodeTransition, "the room would be without an owner")
	}
	members, err := r.memberSpecs(ctx, &d)
	if err != nil {
		return err
	}
	name, err := head.OpenName(key)
	if err != nil {
		return err
	}
	cuts, err := r.cuts(ctx, &d)
	if err != nil {
		return err
	}
	draft := room.Draft{
		Policy:   head.Policy,
		Name:     name,
		Members:  members,
		Cuts:     cuts,
		Resolves: d.resolves,
		Life:     head.NotAfter.Sub(head.Created),
	}
	signed, err := room.Next(r.client.identity(), head, key, draft, r.client.config.Now(), rand.Reader)
	if err != nil {
		return err
	}
	return s.put(ctx, signed)
}

func describeRole(role bus.Role) string {
	if !role.Valid() {
		return "somebody who is no member"
	}
	return "a " + role.String()
}

// memberSpecs finds the cards to seal to. Members stay reachable with an expired
// card; whoever is new needs a valid one.
func (r *Room) memberSpecs(ctx context.Context, d *change) ([]room.MemberSpec, error) {
	ids := make([]bus.ID, 0, len(d.roles))
	for id := range d.roles {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b bus.ID) int { return bytes.Compare(a[:], b[:]) })
	cards, err := r.client.latestCards(ctx, ids)
	if err != nil {
		return nil, err
	}
	specs := make([]room.MemberSpec, 0, len(ids))
	for _, id := range ids {
		card := cards[id]
		if err := card.CheckTime(r.client.config.Now()); err != nil {
			if _, member := d.head.Member(id); !member {
				return nil, err
			}
			r.client.events.raise(EventCard, r.id, fmt.Errorf("seal to %s: %w", id, err), "")
		}
		specs = append(specs, room.MemberSpec{Card: card, Role: d.roles[id]})
	}
	return specs, nil
}

// cuts lists the sessions of those who lose the right to write.
func (r *Room) cuts(ctx context.Context, d *change) ([]room.Cut, error) {
	losers := map[bus.ID]bool{}
	for _, m := range d.head.Members() {
		if m.Role.CanWrite() && !d.roles[m.ID].CanWrite() {
			losers[m.ID] = true
		}
	}
	if len(losers) == 0 {
		return nil, nil
	}
	heights, err := r.heightsOf(ctx, d.head.Policy.Persisted(), losers)
	if err != nil {
		return nil, err
	}
	cuts := make([]room.Cut, 0, len(heights))
	for _, h := range heights {
		cuts = append(cuts, room.Cut{ID: h.Sender, Session: h.Session, LastSeq: h.Seq})
	}
	if over := len(cuts) - bus.MaxCuts; over > 0 {
		// The oldest go: a record has room for no more.
		r.client.events.raise(EventUpkeep, r.id, bus.Errorf(bus.CodeTooLarge, "%d sessions of removed members are too many for one record, the %d oldest are void", len(cuts), over), "")
		cuts = cuts[over:]
	}
	return cuts, nil
}
