package hostile_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/httpsig"
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

// upload hands a node the next record of a room, signed by the client's identity
// but not made by its library.
func (a *actor) upload(id bus.RoomID, signed *hostile.Signed) error {
	rec := a.stage.parse(signed)
	u := api.RecordUpload{Record: signed.Record, Members: signed.Members, Sealed: []api.SealedKey{}}
	for _, m := range rec.Members() {
		u.Sealed = append(u.Sealed, api.SealedKey{ID: m.ID, Blob: signed.Sealed[m.ID]})
	}
	body, err := api.Encode(u)
	if err != nil {
		return err
	}
	x, err := a.request(http.MethodPost, api.RecordsPath(id), body)
	if err == nil && x.Status != http.StatusCreated {
		err = fmt.Errorf("upload record: %d %s", x.Status, x.Answer)
	}
	return err
}

// request has the node answer a request that the client's transport key signs.
func (a *actor) request(method, path string, body []byte) (*hostile.Exchange, error) {
	req, err := http.NewRequestWithContext(a.stage.ctx(), method, a.control.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", api.MediaJSON)
	if err := httpsig.Sign(req, body, a.id.Transport(a.stage.root.BusID()), time.Now(), rand.Reader); err != nil {
		return nil, err
	}
	return a.control.Send(req.Context(), req, body)
}
