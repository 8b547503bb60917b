package directory

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store"
)

func TestUsersAreAddedOnce(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.stranger(), w.stranger()
	u, err := w.dir.AddUser(w.ctx, alice.SignPub(), "alice", bus.UserMember)
	w.must(err)
	if diff := cmp.Diff(User{SignPub: alice.SignPub(), ID: alice.ID(), Handle: "alice", Role: bus.UserMember, Status: bus.UserActive, CreatedAt: w.now()}, u); diff != "" {
		t.Fatal(diff)
	}
	for name, c := range map[string]struct {
		sign   bus.SignPub
		handle bus.Handle
		role   bus.UserRole
		want   bus.Code
	}{
		"the same again":         {alice.SignPub(), "alice", bus.UserMember, bus.CodeExists},
		"the key as admin":       {alice.SignPub(), "alice", bus.UserAdmin, bus.CodeExists},
		"the key under a handle": {alice.SignPub(), "alicia", bus.UserMember, bus.CodeExists},
		"the handle":             {bob.SignPub(), "alice", bus.UserMember, bus.CodeExists},
		"a weak key":             {bus.SignPub{1}, "carol", bus.UserMember, bus.CodeWeakKey},
		"a bad handle":           {bob.SignPub(), "Bob", bus.UserMember, bus.CodeMalformed},
		"a bad role":             {bob.SignPub(), "bob", "owner", bus.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.dir.AddUser(w.ctx, c.sign, c.handle, c.role)
			want(t, err, c.want)
		})
	}
	stored, err := w.dir.User(w.ctx, alice.SignPub())
	w.must(err)
	if diff := cmp.Diff(u, stored); diff != "" {
		t.Errorf("the user changed: %s", diff)
	}
	if _, err := w.dir.Lookup(w.ctx, "alicia"); bus.CodeOf(err) != bus.CodeNotFound {
		t.Errorf("a refused handle: %v", err)
	}
	if _, err := w.dir.User(w.ctx, bob.SignPub()); bus.CodeOf(err) != bus.CodeNotFound {
		t.Errorf("a refused user: %v", err)
	}
	// The refused handle is free.
	_, err = w.dir.AddUser(w.ctx, bob.SignPub(), "alicia", bus.UserMember)
	w.must(err)
	users, err := w.dir.Users(w.ctx)
	w.must(err)
	if len(users) != 2 || !slices.IsSortedFunc(users, func(a, b User) int { return slices.Compare(a.SignPub[:], b.SignPub[:]) }) {
		t.Errorf("users: %v", users)
	}
}

func TestRevokingIsForGood(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	w.pass(time.Hour)
	first, err := w.dir.RevokeUser(w.ctx, p.SignPub())
	w.must(err)
	if first.Active() || !first.RevokedAt.Equal(w.now()) || first.Handle != "alice" {
		t.Fatalf("%+v", first)
	}
	w.pass(time.Hour)
	again, err := w.dir.RevokeUser(w.ctx, p.SignPub())
	w.must(err)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error(diff)
	}
	_, err = w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserAdmin)
	want(t, err, bus.CodeExists)
	_, err = w.dir.AddUser(w.ctx, w.stranger().SignPub(), "alice", bus.UserMember)
	want(t, err, bus.CodeExists)
	_, err = w.dir.RevokeUser(w.ctx, w.stranger().SignPub())
	want(t, err, bus.CodeNotFound)
}

func TestOneHandleBelongsToOneUser(t *testing.T) {
	w := newWorld(t)
	const n = 8
	people := make([]person, n)
	for i := range people {
		people[i] = w.stranger()
	}
	errs := parallel(n, func(i int) error {
		_, err := w.dir.AddUser(w.ctx, people[i].SignPub(), "alice", bus.UserMember)
		return err
	})
	winner := oneWon(t, errs, bus.CodeExists)
	named, err := w.dir.Lookup(w.ctx, "alice")
	w.must(err)
	if named.User.SignPub != people[winner].SignPub() {
		t.Error("the handle is not the winner's")
	}
	if users, err := w.dir.Users(w.ctx); err != nil || len(users) != 1 {
		t.Errorf("%d users, %v", len(users), err)
	}
}

func TestOneKeyIsOneUser(t *testing.T) {
	w := newWorld(t)
	const n = 8
	p := w.stranger()
	errs := parallel(n, func(i int) error {
		_, err := w.dir.AddUser(w.ctx, p.SignPub(), handleOf(i), bus.UserMember)
		return err
	})
	winner := oneWon(t, errs, bus.CodeExists)
	w.pass(OrphanAge + time.Second)
	_, err := w.dir.SweepOrphans(w.ctx)
	w.must(err)
	for i := range n {
		_, err := w.dir.Lookup(w.ctx, handleOf(i))
		if (i == winner) != (err == nil) {
			t.Errorf("handle %d of winner %d: %v", i, winner, err)
		}
		if i != winner {
			_, err = w.dir.AddUser(w.ctx, w.stranger().SignPub(), handleOf(i), bus.UserMember)
			w.must(err)
		}
	}
}

// A crash between the claim of a handle and its user.
func TestAddingAgainGoesOnAfterACrash(t *testing.T) {
	crash := func(t *testing.T) (*world, person) {
		w := newWorld(t)
		p := w.stranger()
		w.faults.plan(func(_ int, _ store.Bucket, key string) fault {
			if key == userKey(p.SignPub()) {
				return refused
			}
			return none
		})
		_, err := w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember)
		want(t, err, bus.CodeUnavailable)
		w.faults.plan(nil)
		if _, err := w.dir.Lookup(w.ctx, "alice"); bus.CodeOf(err) != bus.CodeNotFound {
			t.Fatalf("a handle without its user: %v", err)
		}
		return w, p
	}
	t.Run("by the same key", func(t *testing.T) {
		w, p := crash(t)
		_, err := w.restarted().AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember)
		w.must(err)
		_, err = w.dir.Lookup(w.ctx, "alice")
		w.must(err)
	})
	t.Run("by another key once the claim was swept", func(t *testing.T) {
		w, _ := crash(t)
		other := w.stranger()
		_, err := w.dir.AddUser(w.ctx, other.SignPub(), "alice", bus.UserMember)
		want(t, err, bus.CodeExists)
		if n, err := w.dir.SweepOrphans(w.ctx); n != 0 || err != nil {
			t.Fatalf("swept %d young claims, %v", n, err)
		}
		w.pass(OrphanAge + time.Second)
		if n, err := w.dir.SweepOrphans(w.ctx); n != 1 || err != nil {
			t.Fatalf("swept %d, %v", n, err)
		}
		_, err = w.dir.AddUser(w.ctx, other.SignPub(), "alice", bus.UserMember)
		w.must(err)
	})
	t.Run("while the sweep is at it", func(t *testing.T) {
		w, p := crash(t)
		w.pass(OrphanAge + time.Second)
		w.faults.plan(func(n int, _ store.Bucket, key string) fault {
			if n == 1 && key == handleKey("alice") { // about to be deleted
				w.faults.plan(nil)
				_, err := w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember)
				w.must(err)
			}
			return none
		})
		if n, err := w.dir.SweepOrphans(w.ctx); n != 0 || err != nil {
			t.Fatalf("swept %d, %v", n, err)
		}
		_, err := w.dir.Lookup(w.ctx, "alice")
		w.must(err)
	})
}

func TestFirstAdminIsBootstrappedOnce(t *testing.T) {
	w := newWorld(t)
	w.member("bob") // a member is no admin
	admin, other := w.stranger(), w.stranger()
	created, err := w.dir.BootstrapAdmin(w.ctx, admin.SignPub(), "root")
	if err != nil || !created {
		t.Fatalf("%t, %v", created, err)
	}
	for _, p := range []person{admin, other} {
		if created, err := w.dir.BootstrapAdmin(w.ctx, p.SignPub(), "root2"); err != nil || created {
			t.Errorf("again: %t, %v", created, err)
		}
	}
	_, err = w.dir.RevokeUser(w.ctx, admin.SignPub())
	w.must(err)
	if created, err := w.dir.BootstrapAdmin(w.ctx, other.SignPub(), "root2"); err != nil || created {
		t.Errorf("after the admin was revoked: %t, %v", created, err)
	}
}

func TestBootstrapRacesHaveOneWinner(t *testing.T) {
	w := newWorld(t)
	people := []person{w.stranger(), w.stranger(), w.stranger(), w.stranger()}
	created := make([]bool, len(people))
	errs := parallel(len(people), func(i int) (err error) {
		created[i], err = w.dir.BootstrapAdmin(w.ctx, people[i].SignPub(), handleOf(i))
		return err
	})
	admins := 0
	for i := range people {
		if created[i] {
			admins++
		}
		if errs[i] != nil && bus.CodeOf(errs[i]) != bus.CodeConflict {
			t.Errorf("%d: %v", i, errs[i])
		}
	}
	if users, err := w.dir.Users(w.ctx); err != nil || len(users) != 1 || admins != 1 {
		t.Errorf("%d admins made, users %v, %v", admins, users, err)
	}
}

func TestBootstrapGoesOnAfterACrash(t *testing.T) {
	w := newWorld(t)
	admin := w.stranger()
	w.faults.plan(func(n int, _ store.Bucket, _ string) fault {
		if n > 1 {
			return refused
		}
		return none
	})
	_, err := w.dir.BootstrapAdmin(w.ctx, admin.SignPub(), "root")
	want(t, err, bus.CodeUnavailable)
	w.faults.plan(nil)
	_, err = w.dir.BootstrapAdmin(w.ctx, w.stranger().SignPub(), "other")
	want(t, err, bus.CodeConflict)
	if created, err := w.restarted().BootstrapAdmin(w.ctx, admin.SignPub(), "root"); err != nil || !created {
		t.Fatalf("%t, %v", created, err)
	}
}

func TestBootstrapDoesNotPromoteAMember(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	_, err := w.dir.BootstrapAdmin(w.ctx, p.SignPub(), "alice")
	want(t, err, bus.CodeExists)
}

func TestDirectoryEntriesGoForward(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	sign := func(e identity.Entry) []byte {
		raw, err := w.root.SignEntry(e)
		w.must(err)
		return raw
	}
	entry := func(h bus.Handle, id bus.ID, seq uint64) identity.Entry {
		return identity.Entry{BusID: w.bus, Handle: h, ID: id, Seq: seq, NotAfter: w.now().Add(time.Hour)}
	}
	second := sign(entry("alice", alice.ID(), 2))
	w.must(w.dir.PutEntry(w.ctx, "alice", second))
	w.must(w.dir.PutEntry(w.ctx, "alice", second))
	expired := entry("alice", alice.ID(), 9)
	expired.NotAfter = w.now().Add(-time.Hour)
	other := entry("alice", alice.ID(), 2)
	other.NotAfter = w.now().Add(2 * time.Hour)
	for name, c := range map[string]struct {
		h    bus.Handle
		raw  []byte
		want bus.Code
	}{
		"an older number":       {"alice", sign(entry("alice", alice.ID(), 1)), bus.CodeRollback},
		"another of the number": {"alice", sign(other), bus.CodeEquivocation},
		"for somebody else":     {"alice", sign(entry("alice", bob.ID(), 3)), bus.CodeConflict},
		"for nobody":            {"carol", sign(entry("carol", bob.ID(), 3)), bus.CodeNotFound},
		"expired":               {"alice", sign(expired), bus.CodeExpired},
		"of another handle":     {"bob", second, bus.CodeMisrouted},
		"damaged":               {"alice", second[:len(second)-1], bus.CodeMalformed},
	} {
		if err := w.dir.PutEntry(w.ctx, c.h, c.raw); bus.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	third := sign(entry("alice", alice.ID(), 3))
	w.must(w.dir.PutEntry(w.ctx, "alice", third))
	named, err := w.dir.Lookup(w.ctx, "alice")
	w.must(err)
	if string(named.Entry) != string(third) || named.Card == nil || named.Card.Hash() != alice.card.Hash() {
		t.Errorf("%+v", named)
	}
}
