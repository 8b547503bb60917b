package directory

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

func TestCardsOnlyGoForward(t *testing.T) {
	w := newWorld(t)
	p := w.stranger()
	first := p.card
	want(t, w.dir.PutCard(w.ctx, first), bus.CodeForbidden) // no user
	_, err := w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember)
	w.must(err)
	w.must(w.dir.PutCard(w.ctx, first))
	w.must(w.dir.PutCard(w.ctx, first))

	w.pass(time.Minute)
	fork := w.newCard(p.Identity)
	want(t, w.dir.PutCard(w.ctx, fork), bus.CodeCardFork)

	_, err = p.AddKEM(rand.Reader)
	w.must(err)
	second := w.newCard(p.Identity)
	w.must(w.dir.PutCard(w.ctx, second))
	want(t, w.dir.PutCard(w.ctx, first), bus.CodeRollback)

	latest, err := w.dir.Card(w.ctx, p.ID())
	w.must(err)
	if latest.Hash() != second.Hash() {
		t.Error("the latest card is another")
	}
	for _, c := range []*identity.Card{first, second} {
		old, err := w.dir.CardByHash(w.ctx, p.ID(), c.Hash())
		w.must(err)
		if string(old.Bytes()) != string(c.Bytes()) {
			t.Error("a card changed")
		}
	}
	_, err = w.dir.CardByHash(w.ctx, p.ID(), fork.Hash())
	want(t, err, bus.CodeNotFound)
	_, err = w.dir.Card(w.ctx, w.stranger().ID())
	want(t, err, bus.CodeNotFound)
}

func TestCardsAreRefused(t *testing.T) {
	w := newWorld(t)
	p := w.stranger()
	_, err := w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember)
	w.must(err)

	foreign, err := identity.NewCard(p.Identity, bus.BusID{1}, w.now(), w.now().Add(time.Hour))
	w.must(err)
	want(t, w.dir.PutCard(w.ctx, foreign), bus.CodeWrongBus)

	expired, err := identity.NewCard(p.Identity, w.bus, w.now().Add(-2*time.Hour), w.now().Add(-time.Hour))
	w.must(err)
	want(t, w.dir.PutCard(w.ctx, expired), bus.CodeExpired)

	_, err = w.dir.RevokeUser(w.ctx, p.SignPub())
	w.must(err)
	want(t, w.dir.PutCard(w.ctx, p.card), bus.CodeRevoked)
}

func TestNoncesAreSpentOnce(t *testing.T) {
	w := newWorld(t)
	key, nonce := bus.TransportPub{1}, [16]byte{2}
	errs := parallel(8, func(int) error { return w.dir.SpendNonce(w.ctx, key, nonce) })
	oneWon(t, errs, bus.CodeNonceSpent)
	w.must(w.dir.SpendNonce(w.ctx, key, [16]byte{3}))
	w.must(w.dir.SpendNonce(w.ctx, bus.TransportPub{4}, nonce))
}
