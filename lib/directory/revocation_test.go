package directory

import (
	"bytes"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

func (w *world) byRoot(sign bus.SignPub) identity.Revocation {
	w.Helper()
	r, err := w.root.Revocation(sign)
	w.must(err)
	return r
}

func TestSignedRevocationEndsTheAccountForGood(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	own := alice.Revocation()
	u, err := w.dir.PutRevocation(w.ctx, own)
	w.must(err)
	if u.Active() || !u.RevokedAt.Equal(w.now()) || u.Handle != "alice" {
		t.Errorf("%+v", u)
	}
	first := u.RevokedAt
	w.pass(time.Hour)
	// The same again, one by the root as well, and an admin's word: nothing moves.
	for _, again := range []func() (User, error){
		func() (User, error) { return w.dir.PutRevocation(w.ctx, own) },
		func() (User, error) { return w.restarted().PutRevocation(w.ctx, w.byRoot(alice.SignPub())) },
		func() (User, error) { return w.dir.RevokeUser(w.ctx, alice.SignPub()) },
	} {
		u, err := again()
		w.must(err)
		if u.Active() || !u.RevokedAt.Equal(first) {
			t.Errorf("%+v", u)
		}
	}
	n, err := w.dir.Lookup(w.ctx, "alice")
	w.must(err)
	if !bytes.Equal(n.Revocation, own.Bytes()) {
		t.Errorf("kept %x", n.Revocation)
	}
	proofs, err := w.dir.Proofs(w.ctx)
	w.must(err)
	if len(proofs.Revocations) != 1 || !bytes.Equal(proofs.Revocations[alice.SignPub()], own.Bytes()) {
		t.Errorf("%+v", proofs)
	}
}

func TestARevocationProvesAnAdminsWordLater(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	_, err := w.dir.RevokeUser(w.ctx, alice.SignPub())
	w.must(err)
	if raw, err := w.dir.Revocation(w.ctx, alice.SignPub()); err != nil || raw != nil {
		t.Fatalf("%x, %v", raw, err)
	}
	r := w.byRoot(alice.SignPub())
	_, err = w.dir.PutRevocation(w.ctx, r)
	w.must(err)
	if raw, err := w.dir.Revocation(w.ctx, alice.SignPub()); err != nil || !bytes.Equal(raw, r.Bytes()) {
		t.Errorf("%x, %v", raw, err)
	}
}

// Anybody can make keys that revoke themselves; they must not fill the store.
func TestRevocationsOfNobodyAreNotKept(t *testing.T) {
	w := newWorld(t)
	stranger, alice := w.stranger(), w.member("alice")
	_, err := w.dir.PutRevocation(w.ctx, stranger.Revocation())
	want(t, err, bus.CodeNotFound)
	elsewhere := newWorld(t)
	_, err = w.dir.PutRevocation(w.ctx, elsewhere.byRoot(alice.SignPub()))
	want(t, err, bus.CodeWrongBus)
	proofs, err := w.dir.Proofs(w.ctx)
	w.must(err)
	if u, err := w.dir.User(w.ctx, alice.SignPub()); len(proofs.Revocations) != 0 || err != nil || !u.Active() {
		t.Errorf("%+v, %+v, %v", proofs, u, err)
	}
}

// A crash between the proof and the account is made good by handing it in again.
func TestARevocationThatWasHalfDoneIsFinished(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	_, err := w.dir.create(w.ctx, "control", revocationKey(alice.SignPub()), alice.Revocation().Bytes(), 0)
	w.must(err)
	u, err := w.restarted().PutRevocation(w.ctx, alice.Revocation())
	w.must(err)
	if u.Active() {
		t.Errorf("%+v", u)
	}
}

func TestAHandleIsNeverGivenAgain(t *testing.T) {
	w := newWorld(t)
	alice := w.member("alice")
	_, err := w.dir.RevokeUser(w.ctx, alice.SignPub())
	w.must(err)
	_, err = w.dir.AddUser(w.ctx, w.stranger().SignPub(), "alice", bus.UserMember)
	want(t, err, bus.CodeExists)
	if !bytes.Contains([]byte(err.Error()), []byte("choose another")) {
		t.Error(err)
	}
}
