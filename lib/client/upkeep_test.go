package client_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// together calls f for each room at once.
func together(rooms []*client.Room, f func(r *client.Room)) {
	var all sync.WaitGroup
	for _, r := range rooms {
		all.Go(func() { f(r) })
	}
	all.Wait()
}

// Somebody whose revocation is signed is taken out by any running client that may,
// once, and of whom only a server says so, by those who are told to believe it.
func TestRevokedMembersAreTakenOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, dave := w.user("alice"), w.user("dave")
	bobID := w.addUser("bob")
	bob, carol := w.dial(bobID, nil), w.user("carol")
	r, theirs := w.room(alice, "team", bob, carol, dave)
	if err := r.Invite(w.ctx(), dave.ID().String(), bus.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	atDave := theirs[2]
	if err := atDave.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	publish(t, w, theirs[0], "from bob")
	w.handIn(bobID.Revocation())
	if _, err := w.admin.RevokeUser(w.ctx(), carol.SignPub()); err != nil {
		t.Fatal(err)
	}
	before := r.Epoch()
	authorities := []*client.Room{r, atDave}
	for _, a := range authorities {
		if revoked, err := a.Revoked(w.ctx()); err != nil || len(revoked) != 2 {
			t.Fatalf("%v, %v", revoked, err)
		}
	}
	together(authorities, func(r *client.Room) { r.Upkeep(w.ctx()) })
	if err := r.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if roles := rolesIn(r); r.Epoch() != before+1 || roles[bob.ID()].Valid() || !roles[carol.ID()].Valid() {
		t.Errorf("epoch %d after %d, members %v", r.Epoch(), before, roles)
	}
	if have, _ := readable(t, w, r); len(have) != 1 {
		t.Errorf("what bob had stored: %q", have)
	}
	var mu sync.Mutex
	removed := 0
	together(authorities, func(r *client.Room) {
		gone, err := r.RemoveRevoked(w.ctx(), true)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		removed += len(gone)
	})
	if err := r.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if roles := rolesIn(r); r.Epoch() != before+2 || len(roles) != 2 || removed != 1 {
		t.Errorf("epoch %d after %d, members %v, removed %d", r.Epoch(), before, roles, removed)
	}
	if gone, err := r.RemoveRevoked(w.ctx(), true); err != nil || len(gone) != 0 || r.Epoch() != before+2 {
		t.Errorf("again: %v, %v", gone, err)
	}
}

// An admin cannot take out an owner, and does not try for ever.
func TestRevokedOwnerWaitsForAnOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	carolID := w.addUser("carol")
	carol := w.dial(carolID, nil)
	r, theirs := w.room(alice, "team", bob, carol)
	for who, role := range map[bus.ID]bus.Role{bob.ID(): bus.RoleAdmin, carol.ID(): bus.RoleOwner} {
		if err := r.Invite(w.ctx(), who.String(), role); err != nil {
			t.Fatal(err)
		}
	}
	w.handIn(carolID.Revocation())
	if gone, err := theirs[0].RemoveRevoked(w.ctx(), true); err != nil || len(gone) != 0 {
		t.Errorf("an admin: %v, %v", gone, err)
	}
	if gone, err := r.RemoveRevoked(w.ctx(), false); err != nil || len(gone) != 1 || gone[0].ID != carol.ID() {
		t.Errorf("an owner: %v, %v", gone, err)
	}
}

func rolesIn(r *client.Room) map[bus.ID]bus.Role {
	roles := map[bus.ID]bus.Role{}
	for _, m := range r.Members() {
		roles[m.ID] = m.Role
	}
	return roles
}

// Of several authorities whose room is due one makes the next record, and the
// others see that it is done.
func TestAuthoritiesDoNotFight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	policy := bus.DefaultPolicy()
	policy.Rotate = 20 * time.Second
	r, err := w.user("alice").CreateRoom(w.ctx(), "team", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	var authorities []*client.Room
	for _, name := range []bus.Handle{"bob", "carol", "dave"} {
		c := w.dial(w.addUser(name), func(c *client.Config) {
			c.Now = func() time.Time { return time.Now().Add(30 * time.Second) }
		})
		theirs := w.invite(r, c)
		if err := r.Invite(w.ctx(), c.ID().String(), bus.RoleAdmin); err != nil {
			t.Fatal(err)
		}
		authorities = append(authorities, theirs...)
	}
	before := r.Epoch()
	for range 2 {
		together(authorities, func(r *client.Room) {
			if err := r.RenewIfDue(w.ctx()); err != nil {
				t.Error(err)
			}
		})
		for _, r := range append(authorities, r) {
			if err := r.Refresh(w.ctx()); err != nil || r.Epoch() != before+1 {
				t.Errorf("epoch %d after %d, %v", r.Epoch(), before, err)
			}
		}
	}
}

// A member whose card has expired still gets every key, and who seals to it is
// warned: they have not been seen for long.
func TestExpiredCardIsSealedToWithAWarning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	warned := make(chan error, 16)
	alice := w.dial(w.addUser("alice"), func(c *client.Config) {
		// As far ahead as servers put up with.
		c.Now = func() time.Time { return time.Now().Add(50 * time.Second) }
		c.OnEvent = func(e client.Event) {
			if e.Kind == client.EventCard && e.Err != nil {
				warned <- e.Err
			}
		}
	})
	id := w.addUser("bob")
	bob := w.dial(id, nil)
	r, theirs := w.room(w.user("erin"), "team", alice, bob)
	if err := r.Invite(w.ctx(), alice.ID().String(), bus.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	if _, err := id.AddKEM(rand.Reader); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(-100 * time.Second).Truncate(time.Second)
	card, err := identity.NewCard(id, w.root.BusID(), end.Add(-bus.MaxCardLife), end)
	if err == nil {
		err = bob.PublishCard(w.ctx(), card)
	}
	if err == nil {
		err = theirs[0].Rotate(w.ctx())
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-warned:
		if !errors.Is(err, bus.ErrExpired) || !strings.Contains(err.Error(), bob.ID().String()) {
			t.Errorf("warned: %v", err)
		}
	case <-w.ctx().Done():
		t.Error("no warning")
	}
	if err := theirs[1].Refresh(w.ctx()); err != nil || theirs[1].Epoch() != theirs[0].Epoch() {
		t.Errorf("bob is at epoch %d: %v", theirs[1].Epoch(), err)
	}
}
