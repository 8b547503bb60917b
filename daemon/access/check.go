package access

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
)

const (
	// maxConns is how many connections one identity may have open.
	maxConns = 128
	// admitTimeout bounds what admitting a connection may wait for.
	admitTimeout = 5 * time.Second
)

// Check implements [server.Authentication]. The connection shows its nkey, a
// signature over the nonce it was given, and its session as its name; the
// broker has put its address in place of the user name.
func (a *Access) Check(client server.ClientAuthentication) bool {
	ctx, cancel := context.WithTimeout(context.Background(), admitTimeout)
	defer cancel()
	c, err := a.identify(client)
	if err == nil {
		// Consumers over rooms that the member lost while it was away must be
		// gone before it can fetch from them.
		err = a.dropLost(ctx, c.id)
	}
	if err == nil {
		err = a.admit(c)
	}
	if err != nil {
		opts := client.GetOpts()
		if a.broker.Probing(opts.Username) {
			a.log.Debug("the node's own probe denied", "code", bus.CodeOf(err))
			return false
		}
		a.metrics.Denied(metrics.Data, bus.CodeOf(err))
		a.log.Warn("connection denied", "remote", opts.Username, "nkey", clip(opts.Nkey), "code", bus.CodeOf(err), "reason", err)
		return false
	}
	a.metrics.Admitted()
	a.log.Debug("connection admitted", "remote", c.remote, "id", c.id, "session", c.session)
	return true
}

// clip keeps a stranger's text from filling the log.
func clip(s string) string { return s[:min(len(s), 64)] }

// identify verifies what the connection shows and finds out who it is.
func (a *Access) identify(client server.ClientAuthentication) (*conn, error) {
	opts := client.GetOpts()
	transport, err := identity.ParseNKey(opts.Nkey)
	if err != nil {
		return nil, err
	}
	session, err := bus.ParseSessionID(opts.Name)
	if err != nil {
		return nil, err
	}
	if session == (bus.SessionID{}) {
		return nil, bus.Errorf(bus.CodeMalformed, "check connection: the session is all zero")
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(opts.Sig)
	if err != nil {
		return nil, bus.Errorf(bus.CodeMalformed, "check connection: signature: %w", err)
	}
	nonce := client.GetNonce()
	if len(nonce) == 0 || len(sig) != ed25519.SignatureSize || !ed25519.Verify(transport[:], nonce, sig) {
		return nil, bus.Errorf(bus.CodeBadSignature, "check connection: the nonce is not signed by the key shown")
	}
	if err := a.ready(); err != nil {
		return nil, fmt.Errorf("check connection: %w", err)
	}
	user, err := a.userOf(transport)
	if err != nil {
		return nil, err
	}
	return &conn{
		client: client, cid: client.GetID(),
		id: user.ID, session: session, transport: transport, remote: opts.Username,
	}, nil
}

// userOf returns the active user whose current card has the transport key. Its
// errors have [bus.CodeUnauthenticated], [bus.CodeRevoked] or [bus.CodeExpired].
func (a *Access) userOf(transport bus.TransportPub) (directory.User, error) {
	user, ok := a.view.UserByTransport(transport)
	if !ok {
		return user, bus.Errorf(bus.CodeUnauthenticated, "check connection: no user has this key")
	}
	if !user.Active() {
		return user, bus.Errorf(bus.CodeRevoked, "check connection: user %s is %s", user.Handle, user.Status)
	}
	card, ok := a.view.Card(user.ID)
	if !ok || card.TransportPub != transport {
		return user, bus.Errorf(bus.CodeUnauthenticated, "check connection: the card of user %s has another key", user.Handle)
	}
	now := a.now()
	if now.Before(card.NotBefore.Add(-bus.ClockSkew)) || now.After(card.NotAfter.Add(bus.ClockSkew)) {
		return user, bus.Errorf(bus.CodeExpired, "check connection: the card of user %s is not valid now", user.Handle)
	}
	return user, nil
}

// admit registers the connection with the rights its identity has now. A
// change of the view is handled under the same lock after the view has moved:
// either it shows here already, or its handling finds the connection.
func (a *Access) admit(c *conn) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns == nil {
		return bus.Errorf(bus.CodeClosed, "check connection: the node is shutting down")
	}
	if err := a.stillGood(c); err != nil {
		return err
	}
	mine := a.conns[c.id]
	if mine[c.cid] != nil {
		return bus.Errorf(bus.CodeMalformed, "check connection: it was admitted already")
	}
	if len(mine) >= maxConns {
		return bus.Errorf(bus.CodeRateLimited, "check connection: the identity has %d connections", len(mine))
	}
	if mine == nil {
		mine = make(map[uint64]*conn)
		a.conns[c.id] = mine
	}
	mine[c.cid] = c
	c.rights = a.currentRights(c)
	c.client.RegisterUser(&server.User{
		Username:    c.id.Token(),
		Account:     a.account,
		Permissions: c.rights.permissions(),
	})
	return nil
}

func (a *Access) currentRights(c *conn) rights {
	return rightsOf(c.id, c.session, c.transport, a.view.RoomsOf(c.id))
}
