package hostile_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/httpsig"
	"github.com/enmanuel/unibus/lib/identity"
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

// login signs in to the node with a line that was signed elsewhere.
func (s *stage) login(connect string) error {
	s.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.node.ServerURL(), "nats://"))
	s.must(err)
	defer conn.Close()
	s.must(conn.SetDeadline(time.Now().Add(patience)))
	r := bufio.NewReader(conn)
	_, err = r.ReadString('\n')
	s.must(err)
	_, err = conn.Write([]byte(connect + "\r\nPING\r\n"))
	s.must(err)
	for {
		line, err := r.ReadString('\n')
		switch {
		case strings.HasPrefix(line, "PONG"):
			return nil
		case strings.Contains(line, "Authorization Violation"):
			return bus.Errorf(bus.CodeUnauthenticated, "sign in: %s", strings.TrimSpace(line))
		case err != nil:
			return err
		}
	}
}

// copyOf returns the same identity once more, as a thief has it.
func (s *stage) copyOf(id *identity.Identity) *identity.Identity {
	s.Helper()
	stolen, err := identity.Parse(id.Marshal())
	s.must(err)
	return stolen
}

// renewHere gives an identity a new key.
func (s *stage) renewHere(id *identity.Identity) {
	s.Helper()
	_, err := id.AddKEM(rand.Reader)
	s.must(err)
}

// renew gives an identity a new key, and the servers the card of it.
func (s *stage) renew(id *identity.Identity) {
	s.Helper()
	s.renewHere(id)
	s.dial(id).close()
}

// copyDir copies a state, but for what only guards it.
func (s *stage) copyDir(from, to string) {
	s.Helper()
	s.must(os.CopyFS(to, os.DirFS(from)))
}

// refusal returns a function that waits for the server's answer to the client's
// next PING, and returns whether it refused something before that.
func (a *actor) refusal() func() error {
	answered := make(chan error, 1)
	var mu sync.Mutex
	var refused error
	a.data.Heard(func(line string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case strings.HasPrefix(line, "-ERR 'Permissions Violation"):
			refused = bus.Errorf(bus.CodeForbidden, "%s", line)
		case line == "PONG":
			select {
			case answered <- refused:
			default:
			}
		}
	})
	return func() error {
		select {
		case err := <-answered:
			return err
		case <-time.After(patience):
			return errors.New("the server does not answer")
		}
	}
}
