package access

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
)

// denied checks that a connection is not let in.
func (w *world) denied(p person, options ...nats.Option) {
	w.Helper()
	c, err := w.dial(p, newSession(), options...)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		w.Errorf("connecting returned %v, want an authorization violation", err)
	}
}

func TestAdmitsAnActiveUserWithItsCard(t *testing.T) {
	w := newWorld(t)
	w.connect(w.member("alice")).wantAlive()
}

func TestDeniesAStranger(t *testing.T) {
	w := newWorld(t)
	w.denied(w.stranger())
}

func TestDeniesAUserWithoutACard(t *testing.T) {
	w := newWorld(t)
	p := w.stranger()
	_, err := w.dir.AddUser(w.ctx, p.SignPub(), "alice", bus.UserMember)
	w.must(err)
	w.must(w.view.CatchUp(w.ctx))
	w.denied(p)
}

func TestDeniesARevokedUser(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	w.revoke(p)
	w.must(w.view.CatchUp(w.ctx))
	w.denied(p)
}

func TestDeniesASignatureOfAnotherNonce(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	transport := p.Transport(w.bus)
	w.denied(p, nats.Nkey(transport.NKey(), func([]byte) ([]byte, error) { return transport.SignNonce([]byte("AAAAAAAAAAAAAAA")) }))
}

func TestDeniesASignatureByAnotherKey(t *testing.T) {
	w := newWorld(t)
	alice, mallory := w.member("alice"), w.member("mallory")
	w.denied(alice, nats.Nkey(alice.Transport(w.bus).NKey(), mallory.Transport(w.bus).SignNonce))
}

func TestDeniesTheIdentityKeyInPlaceOfTheTransportKey(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	w.denied(p, nats.Nkey(identity.EncodeNKey(bus.TransportPub(p.SignPub())), func(nonce []byte) ([]byte, error) {
		return p.Transport(w.bus).SignRaw(nonce), nil
	}))
}

func TestDeniesAnEmptySignature(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	w.denied(p, nats.Nkey(p.Transport(w.bus).NKey(), func([]byte) ([]byte, error) { return nil, nil }))
}

func TestDeniesWithoutAnNKey(t *testing.T) {
	w := newWorld(t)
	w.denied(w.member("alice"), func(o *nats.Options) error {
		o.Nkey, o.SignatureCB = "", nil
		return nil
	})
}

func TestDeniesSmallOrderKeys(t *testing.T) {
	w := newWorld(t)
	identityPoint := bus.TransportPub{1}
	anySignature := append(make([]byte, 0, 64), identityPoint[:]...)
	anySignature = append(anySignature, make([]byte, 32)...)
	if !ed25519.Verify(identityPoint[:], []byte("any"), anySignature) {
		t.Fatal("the standard library refuses the point by now: the test shows nothing")
	}
	w.denied(w.member("alice"), nats.Nkey(identity.EncodeNKey(identityPoint), func([]byte) ([]byte, error) { return anySignature, nil }))
}

func TestDeniesASessionThatIsNone(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	for name, session := range map[string]string{
		"missing":        "",
		"another name":   "alice's laptop",
		"all zero":       bus.SessionID{}.String(),
		"too short":      newSession().String()[1:],
		"too long":       newSession().String() + "A",
		"not canonical":  strings.Repeat("A", 21) + "B",
		"with wildcards": "*.>",
	} {
		t.Run(name, func(t *testing.T) {
			w.denied(p, nats.Name(session))
		})
	}
}

func TestDeniesWhileTheNodeIsNotReady(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	before := w.connect(p)
	w.setReady(bus.Errorf(bus.CodeUnavailable, "the lease is old"))
	w.denied(p)
	before.wantAlive()
	w.setReady(nil)
	w.connect(p).wantAlive()
}

func TestDeniesAnExpiredCard(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	w.pass(bus.MaxCardLife + bus.ClockSkew)
	w.connect(p).wantAlive()
	w.pass(time.Second)
	w.denied(p)
}

func TestDeniesACardThatIsNotValidYet(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	w.pass(-bus.ClockSkew)
	w.connect(p).wantAlive()
	w.pass(-time.Second)
	w.denied(p)
}

func TestDeniesAKeyThatTwoIdentitiesClaim(t *testing.T) {
	w := newWorld(t)
	alice, mallory := w.member("alice"), w.member("mallory")
	w.putCard(w.cardFor(mallory, alice.Transport(w.bus).TransportPub(), 2))
	w.denied(alice)
	w.denied(mallory)
}

func TestDeniesMoreConnectionsThanAnIdentityMayHave(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	first := w.connect(p)
	for range maxConns - 1 {
		w.connect(p)
	}
	w.denied(p)
	w.connect(w.member("bob")).wantAlive()
	first.Close()
	w.eventually("a place for a connection in place of one that ended", func() bool {
		c, err := w.dial(p, newSession())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// A connection says CONNECT once: a second one could change who it is.
func TestCutsAConnectionThatSaysConnectAgain(t *testing.T) {
	w := newWorld(t)
	p := w.member("alice")
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.broker.ClientURL(), "nats://"))
	w.must(err)
	defer conn.Close()
	w.must(conn.SetDeadline(time.Now().Add(patience)))
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	w.must(err)
	_, after, _ := bytes.Cut(buf[:n], []byte(`"nonce":"`))
	nonce, _, _ := bytes.Cut(after, []byte(`"`))
	transport := p.Transport(w.bus)
	sig, err := transport.SignNonce(nonce)
	w.must(err)
	hello := fmt.Sprintf("CONNECT {\"nkey\":%q,\"sig\":%q,\"name\":%q,\"verbose\":false}\r\n",
		transport.NKey(), base64.RawURLEncoding.EncodeToString(sig), newSession())
	_, err = io.WriteString(conn, hello+"PING\r\n")
	w.must(err)
	n, err = conn.Read(buf)
	w.must(err)
	if !bytes.HasPrefix(buf[:n], []byte("PONG")) {
		t.Fatalf("the server said %q", buf[:n])
	}
	_, err = io.WriteString(conn, hello+"PING\r\n")
	w.must(err)
	rest, err := io.ReadAll(conn)
	if bytes.Contains(rest, []byte("PONG")) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a second CONNECT the server said %q, %v", rest, err)
	}
}

// lateView lets something happen between the first look at a user and the next.
type lateView struct {
	View
	happen atomic.Pointer[func()]
}

func (v *lateView) UserByTransport(key bus.TransportPub) (directory.User, bool) {
	user, ok := v.View.UserByTransport(key)
	if f := v.happen.Swap(nil); f != nil {
		(*f)()
	}
	return user, ok
}

func TestARevocationHandledWhileAConnectionComesInDeniesIt(t *testing.T) {
	view := new(lateView)
	w := newWorldWith(t, func(c *Config) {
		view.View = c.View
		c.View, c.CheckInterval = view, time.Hour
	})
	alice, bob := w.member("alice"), w.member("bob")
	witness := w.connect(bob)
	revoke := func() {
		// Changes are handled in order: when bob is cut, alice is through.
		w.revoke(alice)
		w.revoke(bob)
		witness.wantCut()
	}
	view.happen.Store(&revoke)
	w.denied(alice)
}

// A connection that comes in while its user is revoked must not survive.
func TestConnectionsRaceRevocationAndLose(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		p := w.member(bus.Handle(fmt.Sprintf("user%d", i)))
		var connecting sync.WaitGroup
		peers := make(chan *peer, 16)
		for range cap(peers) {
			connecting.Go(func() {
				if c, err := w.dial(p, newSession()); err == nil {
					peers <- c
				}
			})
		}
		w.revoke(p)
		connecting.Wait()
		close(peers)
		for c := range peers {
			c.wantCut()
		}
		w.denied(p)
	}
}
