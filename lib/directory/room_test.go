package directory

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

func TestRoomIsMadeByItsOwner(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	s := w.genesis(alice, specs(bus.RoleWriter, bob)...)

	want(t, w.dir.CreateRoom(w.ctx, bob.ID(), s.Record, s.Sealed), bus.CodeNotAuthority)
	_, err := w.dir.Head(w.ctx, s.Record.Room)
	want(t, err, bus.CodeNotFound)

	for range 2 { // again is no change
		w.must(w.dir.CreateRoom(w.ctx, alice.ID(), s.Record, s.Sealed))
	}
	for _, p := range []person{alice, bob} {
		w.must(w.hasHead(s, p))
	}
	// Also when the room has gone on since.
	second := w.append(s, alice)
	w.must(w.dir.CreateRoom(w.ctx, alice.ID(), s.Record, s.Sealed))
	w.must(w.hasHead(second, alice))
}

func TestRecordsAreRefused(t *testing.T) {
	w := newWorld(t)
	alice, bob, eve := w.member("alice"), w.member("bob"), w.member("eve")
	head := w.create(alice, specs(bus.RoleWriter, bob)...)
	good := w.next(head, alice, specs(bus.RoleWriter, bob)...)

	unknownCard := w.stranger()
	_, err := w.dir.AddUser(w.ctx, unknownCard.SignPub(), "carol", bus.UserMember)
	w.must(err)
	revoked := w.member("dave")
	_, err = w.dir.RevokeUser(w.ctx, revoked.SignPub())
	w.must(err)
	byBob, err := room.Create(bob.Identity, draft(bob), w.now(), rand.Reader)
	w.must(err)
	swapped := []room.Sealed{good.Sealed[1], good.Sealed[0]}
	damaged := []room.Sealed{good.Sealed[0], {ID: good.Sealed[1].ID, Blob: bytes.Clone(good.Sealed[1].Blob)}}
	damaged[1].Blob[0] ^= 1
	expired, err := room.Next(alice.Identity, head.Record, head.Key, draft(alice), w.now().Add(-bus.DefaultRecordLife-time.Hour), rand.Reader)
	w.must(err)
	future, err := room.Next(alice.Identity, head.Record, head.Key, draft(alice), w.now().Add(time.Hour), rand.Reader)
	w.must(err)
	skipping := w.next(good, alice)
	// A record that eve made after a head that she made up.
	forged := w.next(w.genesis(eve), eve)
	withUnknown := w.next(head, alice, specs(bus.RoleReader, unknownCard)...)
	withRevoked := w.next(head, alice, specs(bus.RoleReader, revoked)...)

	for name, c := range map[string]struct {
		of     *room.Signed
		sealed []room.Sealed
		want   bus.Code
	}{
		"card that is not known":   {withUnknown, withUnknown.Sealed, bus.CodeCardMismatch},
		"revoked member":           {withRevoked, withRevoked.Sealed, bus.CodePolicy},
		"sealed keys in disorder":  {good, swapped, bus.CodeSealedMismatch},
		"sealed key damaged":       {good, damaged, bus.CodeSealedMismatch},
		"sealed key missing":       {good, good.Sealed[:1], bus.CodeSealedMismatch},
		"sealed keys missing":      {good, []room.Sealed{}, bus.CodeSealedMismatch},
		"expired":                  {expired, expired.Sealed, bus.CodeExpired},
		"from the future":          {future, future.Sealed, bus.CodeClockSkew},
		"a record ahead":           {skipping, skipping.Sealed, bus.CodeGap},
		"a first record, appended": {byBob, byBob.Sealed, bus.CodeNotAuthority},
		"of no room here":          {forged, forged.Sealed, bus.CodeNotAuthority},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, w.dir.AppendRecord(w.ctx, c.of.Record, c.sealed), c.want)
		})
	}
	w.must(w.hasHead(head, alice))
	w.must(w.dir.AppendRecord(w.ctx, good.Record, good.Sealed))
}

// A revocation must not freeze the rooms of whoever was revoked.
func TestMembersThatWereRevokedStayUntilTheyAreRemoved(t *testing.T) {
	w := newWorld(t)
	alice, dave := w.member("alice"), w.member("dave")
	head := w.create(alice, specs(bus.RoleWriter, dave)...)
	_, err := w.dir.RevokeUser(w.ctx, dave.SignPub())
	w.must(err)
	head = w.append(head, alice, specs(bus.RoleWriter, dave)...)
	more := w.next(head, alice, specs(bus.RoleOwner, dave)...)
	want(t, w.dir.AppendRecord(w.ctx, more.Record, more.Sealed), bus.CodePolicy)
	head = w.append(head, alice, specs(bus.RoleReader, dave)...)
	head = w.append(head, alice)
	again := w.next(head, alice, specs(bus.RoleReader, dave)...)
	want(t, w.dir.AppendRecord(w.ctx, again.Record, again.Sealed), bus.CodePolicy)
}

func TestAuthorityIsThatOfTheHead(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	head := w.create(alice, specs(bus.RoleAdmin, bob)...)
	// Bob makes two records while he is an admin. The first comes late, the
	// second when he has been removed.
	byBob := func() *room.Signed {
		s, err := room.Next(bob.Identity, head.Record, head.Key, draft(alice, specs(bus.RoleAdmin, bob)...), w.now(), rand.Reader)
		w.must(err)
		return s
	}
	late, removed := byBob(), byBob()
	head = w.append(head, alice, specs(bus.RoleAdmin, bob)...)
	err := w.dir.AppendRecord(w.ctx, late.Record, late.Sealed)
	want(t, err, bus.CodeConflict)
	c, ok := errors.AsType[*HeadConflict](err)
	if !ok || c.Room != head.Record.Room || c.Head != (Head{1, head.Record.Hash()}) {
		t.Fatalf("conflict is %+v", c)
	}
	w.append(head, alice)
	err = w.dir.AppendRecord(w.ctx, removed.Record, removed.Sealed)
	want(t, err, bus.CodeNotAuthority)
	if c, ok := errors.AsType[*HeadConflict](err); ok {
		t.Fatalf("who has no authority is told the head: %+v", c)
	}
}

func TestOneSuccessorOfAHeadWins(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	head := w.create(alice)
	const n = 6
	next := make([]*room.Signed, n)
	for i := range next {
		next[i] = w.next(head, alice)
	}
	errs := parallel(n, func(i int) error { return w.dir.AppendRecord(w.ctx, next[i].Record, next[i].Sealed) })
	winner := oneWon(t, errs, bus.CodeConflict)
	w.must(w.hasHead(next[winner], alice))
	for i, err := range errs {
		if c, ok := errors.AsType[*HeadConflict](err); i != winner && (!ok || c.Head.Hash != next[winner].Record.Hash()) {
			t.Errorf("loser %d was told %+v", i, c)
		}
	}
}

// The answer was lost, and before the author asks again somebody went on.
func TestAppendingAgainLaterIsNoConflict(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	first := w.create(alice)
	second := w.append(first, alice)
	third := w.append(second, alice)
	w.must(w.dir.AppendRecord(w.ctx, second.Record, second.Sealed))
	w.must(w.restarted().AppendRecord(w.ctx, second.Record, second.Sealed))
	w.must(w.hasHead(third, alice))
	fork := w.next(first, alice)
	want(t, w.dir.AppendRecord(w.ctx, fork.Record, fork.Sealed), bus.CodeConflict)
}

// The write of the head took place, its answer was lost, and somebody appended
// before the head was read again.
func TestLostAnswerIsNotALostRace(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	first := w.create(alice)
	second := w.next(first, alice)
	w.faults.plan(func(_ int, b store.Bucket, key string) fault {
		if key == headKey(first.Record.Room) {
			w.faults.plan(nil)
			w.faults.failReads(func(store.Bucket, string) error { // the first read after the write
				w.faults.failReads(nil)
				w.append(second, alice)
				return nil
			})
			return lostYes
		}
		return none
	})
	w.must(w.dir.AppendRecord(w.ctx, second.Record, second.Sealed))
	head, err := w.dir.Head(w.ctx, first.Record.Room)
	if err != nil || head.Epoch != 2 {
		t.Fatalf("%+v, %v", head, err)
	}
}

func TestRecordsArePaged(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	chain := []*room.Signed{w.create(alice)}
	for range 9 {
		chain = append(chain, w.append(chain[len(chain)-1], alice))
	}
	id := chain[0].Record.Room
	size := len(chain[1].Record.Bytes()) + len(chain[1].Record.MembersBytes())
	for _, dir := range []*Directory{w.dir, w.restarted()} {
		for _, c := range []struct {
			from  bus.Epoch
			bytes int
			count int
			more  bool
		}{
			{0, 1 << 20, 10, false},
			{4, 1 << 20, 6, false},
			{4, 3 * size, 3, true},
			{4, 1, 1, true}, // one at least
			{9, 1, 1, false},
			{10, 1 << 20, 0, false},
			{1 << 63, 1 << 20, 0, false},
		} {
			page, err := dir.Records(w.ctx, id, alice.ID(), c.from, c.bytes)
			w.must(err)
			if len(page.Records) != c.count || page.More != c.more || page.Last.Epoch != 9 {
				t.Errorf("from %d, %d bytes: %d records, more %t, last %d", c.from, c.bytes, len(page.Records), page.More, page.Last.Epoch)
			}
			for i, r := range page.Records {
				want := chain[int(c.from)+i].Record
				if !bytes.Equal(r.Record, want.Bytes()) || !bytes.Equal(r.Members, want.MembersBytes()) {
					t.Errorf("from %d: record %d is another", c.from, i)
				}
			}
		}
	}
}

func TestRemovedMembersReadUpToTheirRemoval(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol, eve := w.member("alice"), w.member("bob"), w.member("carol"), w.member("eve")
	everybody := specs(bus.RoleWriter, bob, carol)
	s := w.create(alice, everybody...)                      // 0
	id := s.Record.Room                                     //
	s = w.append(s, alice, specs(bus.RoleWriter, carol)...) // 1: bob is out
	s = w.append(s, alice, everybody...)                    // 2: bob is back
	s = w.append(s, alice, specs(bus.RoleWriter, bob)...)   // 3: carol is out
	s = w.append(s, alice)                                  // 4: bob is out
	w.append(s, alice)                                      // 5

	for _, dir := range []*Directory{w.dir, w.restarted()} {
		for _, c := range []struct {
			who  person
			last bus.Epoch
		}{{alice, 5}, {bob, 4}, {carol, 3}} {
			page, err := dir.Records(w.ctx, id, c.who.ID(), 0, 1<<20)
			w.must(err)
			if page.Last.Epoch != c.last || len(page.Records) != int(c.last)+1 || page.More {
				t.Errorf("reads %d records to %d, want to %d", len(page.Records), page.Last.Epoch, c.last)
			}
		}
		_, err := dir.Records(w.ctx, id, eve.ID(), 0, 1<<20)
		want(t, err, bus.CodeForbidden)
		_, err = dir.Records(w.ctx, bus.RoomID{1}, alice.ID(), 0, 1<<20)
		want(t, err, bus.CodeForbidden)

		for epoch, want := range map[bus.Epoch]bus.Code{0: "", 1: bus.CodeNotFound, 2: "", 3: "", 4: bus.CodeNotFound, 5: bus.CodeEpochUnknown, 6: bus.CodeEpochUnknown} {
			if _, err := dir.SealedKey(w.ctx, id, epoch, bob.ID(), bus.CardHash{}); bus.CodeOf(err) != want {
				t.Errorf("bob's key of epoch %d: %v, want %q", epoch, err, want)
			}
		}
		_, err = dir.SealedKey(w.ctx, id, 0, eve.ID(), bus.CardHash{})
		want(t, err, bus.CodeForbidden)
		_, err = dir.SealedKey(w.ctx, bus.RoomID{1}, 0, eve.ID(), bus.CardHash{})
		want(t, err, bus.CodeForbidden)
	}
}

// More members than one chunk of sealed keys holds.
func TestEveryMemberOfALargeRoomGetsItsOwnKey(t *testing.T) {
	w := newWorld(t)
	owner := w.member("owner")
	people := make([]person, bus.SealedChunk+40)
	for i := range people {
		people[i] = w.member(handleOf(i))
	}
	s := w.create(owner, specs(bus.RoleWriter, people...)...)
	if n := len(w.contents(store.Sealed)); n != 2 {
		t.Errorf("%d chunks", n)
	}
	for _, p := range append(people, owner) {
		w.must(w.hasHead(s, p))
	}
}

func TestRoomsWithoutEncryptionHaveNoKeys(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	d := draft(alice)
	d.Policy = bus.Policy{Suite: bus.SuitePlain, Flags: bus.FlagPersist}
	s, err := room.Create(alice.Identity, d, w.now(), rand.Reader)
	w.must(err)
	w.must(w.dir.CreateRoom(w.ctx, alice.ID(), s.Record, s.Sealed))
	_, err = w.dir.SealedKey(w.ctx, s.Record.Room, 0, alice.ID(), bus.CardHash{})
	want(t, err, bus.CodeNotFound)
	if keys := w.contents(store.Sealed); len(keys) != 0 {
		t.Errorf("stored %v", keys)
	}
}

func TestADamagedStoreIsNoticed(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	s := w.create(alice)
	for _, damaged := range []struct {
		b   store.Bucket
		key string
	}{
		{store.Records, recordKey(s.Record.Room, s.Record.Hash())},
		{store.Sealed, sealedKey(s.Record.Room, s.Record.Hash(), 0)},
	} {
		e, err := w.faults.Get(w.ctx, damaged.b, damaged.key)
		w.must(err)
		for _, change := range []func([]byte) []byte{
			func(v []byte) []byte { v[len(v)-1] ^= 1; return v },
			func(v []byte) []byte { return v[:len(v)-1] },
		} {
			value := change(bytes.Clone(e.Value))
			rev, err := w.faults.Update(w.ctx, damaged.b, damaged.key, value, e.Revision)
			w.must(err)
			_, err = w.dir.SealedKey(w.ctx, s.Record.Room, 0, alice.ID(), bus.CardHash{})
			want(t, err, bus.CodeInternal)
			e.Revision, err = w.faults.Update(w.ctx, damaged.b, damaged.key, e.Value, rev)
			w.must(err)
		}
		w.must(w.faults.Delete(w.ctx, damaged.b, damaged.key, e.Revision))
		_, err = w.dir.SealedKey(w.ctx, s.Record.Room, 0, alice.ID(), bus.CardHash{})
		want(t, err, bus.CodeInternal)
		_, err = w.faults.Create(w.ctx, damaged.b, damaged.key, e.Value, 0)
		w.must(err)
	}
	w.must(w.hasHead(s, alice))
}

// Any interleaving of two authors, refused writes and lost answers leaves one
// chain, in which every record that was answered with success is.
func TestChainHoldsWhatWasAcknowledged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		defer w.faults.Close()
		alice := w.member("alice")
		first := w.create(alice)
		known := []*room.Signed{first} // records that somebody could build on
		acknowledged := map[bus.RecordHash]bus.Epoch{}
		for i := range rapid.IntRange(1, 8).Draw(rt, "steps") {
			s := w.next(rapid.SampledFrom(known).Draw(rt, "base"), alice)
			at := rapid.IntRange(1, 4).Draw(rt, "write")
			f := fault(rapid.IntRange(0, 3).Draw(rt, "fault"))
			w.faults.plan(func(n int, _ store.Bucket, _ string) fault {
				if n == at {
					return f
				}
				return none
			})
			err := w.dir.AppendRecord(w.ctx, s.Record, s.Sealed)
			w.faults.plan(nil)
			known = append(known, s)
			switch bus.CodeOf(err) {
			case "":
				acknowledged[s.Record.Hash()] = s.Record.Epoch
			case bus.CodeConflict, bus.CodeGap, bus.CodeFork, bus.CodeUnavailable:
			default:
				rt.Fatalf("step %d: %v", i, err)
			}
		}
		if rapid.Bool().Draw(rt, "sweep") {
			w.pass(OrphanAge + time.Second)
			_, err := w.dir.SweepOrphans(w.ctx)
			w.must(err)
			if records, sealed := len(w.contents(store.Records)), len(w.contents(store.Sealed)); records != sealed {
				rt.Fatalf("%d records, %d chunks", records, sealed)
			}
		}
		page, err := w.restarted().Records(w.ctx, first.Record.Room, alice.ID(), 0, 1<<30)
		w.must(err)
		chain := room.NewChain(first.Record.Room)
		for _, raw := range page.Records {
			rec, err := room.ParseRecord(raw.Record, raw.Members)
			w.must(err)
			if err := chain.Accept(rec); err != nil {
				rt.Fatal(err)
			}
		}
		for h, e := range acknowledged {
			if rec := chain.At(e); rec == nil || rec.Hash() != h {
				rt.Fatalf("record %d was acknowledged and is not in the chain", e)
			}
		}
		if got := len(page.Records); got != len(acknowledged)+1 {
			rt.Fatal(fmt.Sprintf("%d records, %d acknowledged", got, len(acknowledged)+1))
		}
	})
}
