package hostile_test

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// weakKey is the identity point of edwards25519.
var weakKey = bus.SignPub{1}

// weakSignature is one under weakKey, of every message: R is the identity point
// and S is 0 (RFC 8032, section 5.1.7).
func weakSignature() []byte {
	sig, err := hex.DecodeString("01" + hex.EncodeToString(make([]byte, 63)))
	if err != nil {
		panic(err)
	}
	return sig
}

// within returns a context that ends soon, for steps that have no other end.
func (s *stage) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.Context(), d)
}

// acceptFalse has the client accept a room of which its server alone knows.
func (a *actor) acceptFalse(first *hostile.Signed) error {
	a.stage.keepKey(first.Key)
	id := hostile.RoomOf(first)
	a.shows(id, nil, first)
	_, err := a.AcceptRoom(a.stage.ctx(), id)
	return err
}

// plainRoom makes a room without encryption.
func (s *stage) plainRoom(a *actor) *client.Room {
	s.Helper()
	policy := bus.Policy{Suite: bus.SuitePlain, Flags: bus.FlagPersist}
	r, err := a.CreateRoom(s.ctx(), bus.RoomName(s.name), client.RoomOptions{Policy: &policy})
	s.must(err)
	return r
}
