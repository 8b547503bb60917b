package directory

import (
	"bytes"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

func TestAKeySealedAgainIsKeptBesideTheOriginal(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.member("alice"), w.member("bob")
	made := w.create(alice, room.MemberSpec{Card: bob.card, Role: bus.RoleReader})
	id := made.Record.Room
	read := func(card bus.CardHash) SealedKey {
		t.Helper()
		k, err := w.restarted().SealedKey(w.ctx, id, 0, bob.ID(), card)
		w.must(err)
		return k
	}
	original := read(bus.CardHash{})
	if original.Again || original.Card != bob.card.Hash() {
		t.Errorf("%+v", original)
	}
	_, err := bob.AddKEM(bytes.NewReader(make([]byte, 32)))
	w.must(err)
	second := w.newCard(bob.Identity)
	put := func(member person, card bus.CardHash, blob string) error {
		return w.dir.PutResealed(w.ctx, id, 0, member.ID(), card, []byte(blob))
	}
	want(t, put(bob, second.Hash(), "early"), bus.CodeCardMismatch)
	w.pass(time.Second)
	w.must(w.dir.PutCard(w.ctx, second))
	for _, blob := range []string{"again", "once more"} {
		w.must(put(bob, second.Hash(), blob))
		if k := read(bus.CardHash{}); !k.Again || k.Card != second.Hash() || string(k.Blob) != blob {
			t.Errorf("%+v", k)
		}
	}
	if k := read(second.Hash()); !k.Again || string(k.Blob) != "once more" {
		t.Errorf("by card: %+v", k)
	}
	if k := read(bob.card.Hash()); k.Again || !bytes.Equal(k.Blob, original.Blob) {
		t.Errorf("the original: %+v", k)
	}
	_, err = w.dir.SealedKey(w.ctx, id, 0, bob.ID(), bus.CardHash{9})
	want(t, err, bus.CodeNotFound)
	want(t, put(bob, bob.card.Hash(), "older"), bus.CodeRollback)
	want(t, put(bob, alice.card.Hash(), "another's card"), bus.CodeCardMismatch)
	want(t, put(bob, second.Hash(), string(make([]byte, bus.MaxSealedSize+1))), bus.CodeTooLarge)
	want(t, put(w.member("eve"), second.Hash(), "no member"), bus.CodeForbidden)
	want(t, w.dir.PutResealed(w.ctx, id, 1, bob.ID(), second.Hash(), nil), bus.CodeEpochUnknown)
	// Nobody else's copy is touched.
	k, err := w.dir.SealedKey(w.ctx, id, 0, alice.ID(), bus.CardHash{})
	if err != nil || k.Again {
		t.Errorf("%+v, %v", k, err)
	}
}
