package control

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/httpsig"
	"github.com/enmanuel/unibus/lib/identity"
)

// admit finds out who sent a request, whether a route is for them, reads the
// body, and spends the nonce of a request that changes something. Whatever is
// not known denies. Before the sender is known to be a user, nothing is
// written and only as much is read as a card has; from then on the request
// counts as one of theirs, and may be one too many.
func (s *Server) admit(req *request, rt route) (err error) {
	switch {
	case req.ContentLength > rt.limit:
		return bus.Errorf(bus.CodeTooLarge, "read body: %d bytes, at most %d", req.ContentLength, rt.limit)
	case rt.who == anyone || rt.who == localUser:
		if rt.who == anyone && rt.changes() {
			if err := s.limitUnsigned(req); err != nil {
				return err
			}
		}
		req.body, err = readBody(req.Body)
		req.digest, req.via = sha256.Sum256(req.body), audit.ViaSocket
		if rt.who == anyone {
			req.via = audit.ViaProof
		}
		return err
	}
	if err := s.cfg.View.Err(); err != nil {
		return bus.Errorf(bus.CodeUnavailable, "find signer: %w", err)
	}
	verified, err := httpsig.Verify(req.Request, s.cfg.Now())
	if err != nil {
		return err
	}
	req.key, req.digest, req.via = verified.Key, verified.Base, audit.ViaSignature
	if rt.who != cardHolder { // the card itself says whose it is
		if err := s.findSigner(req); err != nil {
			return err
		}
		if err := s.limitIdentity(req, rt); err != nil {
			return err
		}
	}
	if rt.who == admin {
		if err := s.checkAdmin(req); err != nil {
			return err
		}
	}
	if rt.streams() && rt.limit > noBody {
		req.content = verified.Reader(req.Body, rt.limit)
	} else if req.body, err = verified.Body(req.Body, rt.limit); err != nil {
		return err
	}
	if rt.who == cardHolder {
		if err := s.findCardHolder(req); err != nil {
			return err
		}
		if err := s.limitIdentity(req, rt); err != nil {
			return err
		}
	}
	known(req.ctx)
	if !rt.changes() {
		return nil
	}
	return s.cfg.Directory.SpendNonce(req.ctx, verified.Key, verified.Nonce)
}

// findSigner finds the active user whose latest card has the key.
func (s *Server) findSigner(req *request) error {
	user, ok := s.cfg.View.UserByTransport(req.key)
	if !ok {
		return bus.Errorf(bus.CodeUnauthenticated, "find signer: no card here has the key %s", req.key)
	}
	req.signer = user
	if !user.Active() {
		return bus.Errorf(bus.CodeRevoked, "find signer: user %s was revoked", user.Handle)
	}
	return nil
}

// checkAdmin refuses a signer who is no admin in the store.
func (s *Server) checkAdmin(req *request) error {
	stored, err := s.cfg.Directory.User(req.ctx, req.signer.SignPub)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return bus.Errorf(bus.CodeForbidden, "check admin: user %s is not in the store", req.signer.Handle)
	case err != nil:
		return err
	case !stored.IsAdmin():
		return bus.Errorf(bus.CodeForbidden, "check admin: user %s is no admin of the bus", req.signer.Handle)
	}
	return nil
}

// findCardHolder finds the active user that the card in the request makes the
// sender out to be. The request is signed with the transport key that the card
// names, so nobody can claim a key they do not hold, and the card with the
// signing key, so nobody can publish for another. The user is looked up in the
// store: one that was added a moment ago is not yet in every view.
func (s *Server) findCardHolder(req *request) error {
	id, err := bus.ParseID(req.PathValue(api.ValueID))
	if err != nil {
		return err
	}
	upload, err := api.Decode[api.Card](req.body)
	if err != nil {
		return err
	}
	card, err := identity.ParseCard(upload.Card)
	if err != nil {
		return err
	}
	if card.TransportPub != req.key {
		return bus.Errorf(bus.CodeUnauthenticated, "find holder of card: the request is not signed with the key that the card names")
	}
	if card.ID() != id {
		return bus.Errorf(bus.CodeCardMismatch, "find holder of card: it is of %s, not of %s", card.ID(), id)
	}
	user, err := s.cfg.Directory.User(req.ctx, card.SignPub)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return bus.Errorf(bus.CodeUnauthenticated, "find holder of card: %s is no user of this bus", card.ID())
	case err != nil:
		return err
	case !user.Active():
		return bus.Errorf(bus.CodeRevoked, "find holder of card: user %s was revoked", user.Handle)
	}
	req.signer, req.card, req.via = user, card, audit.ViaCard
	return nil
}

// readBody reads a body that no signature covers.
func readBody(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(r)
	if err == nil {
		return body, nil
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, bus.Errorf(bus.CodeTooLarge, "read body: more than %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, bus.Errorf(bus.CodeTimeout, "read body: %w", err)
	}
	return nil, bus.Errorf(bus.CodeMalformed, "read body: %w", err)
}
