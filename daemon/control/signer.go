package control

import (
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/httpsig"
)

// admit finds out who sent a request, whether a route is for them, reads the
// body, and spends the nonce of a request that changes something. Whatever is
// not known denies.
func (s *Server) admit(req *request, rt route, changes bool) (err error) {
	if rt.who == anyone || rt.who == localUser {
		req.body, err = readBody(req.Body)
		return err
	}
	if err := s.cfg.View.Err(); err != nil {
		return bus.Errorf(bus.CodeUnavailable, "find signer: %w", err)
	}
	verified, err := httpsig.Verify(req.Request, s.cfg.Now())
	if err != nil {
		return err
	}
	req.key = verified.Key
	if rt.who != ownCard { // the card itself says whose it is
		if err := s.findSigner(req, rt.who); err != nil {
			return err
		}
	}
	if req.body, err = verified.Body(req.Body, bus.MaxBody); err != nil {
		return err
	}
	if !changes {
		return nil
	}
	return s.cfg.Directory.SpendNonce(req.ctx, verified.Key, verified.Nonce)
}

func (s *Server) findSigner(req *request, level who) error {
	user, ok := s.cfg.View.UserByTransport(req.key)
	if !ok {
		return bus.Errorf(bus.CodeUnauthenticated, "find signer: no card here has the key %s", req.key)
	}
	req.signer = user
	if !user.Active() {
		return bus.Errorf(bus.CodeRevoked, "find signer: user %s was revoked", user.Handle)
	}
	if level != admin {
		return nil
	}
	stored, err := s.cfg.Directory.User(req.ctx, user.SignPub)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return bus.Errorf(bus.CodeForbidden, "find signer: user %s is not in the store", user.Handle)
	case err != nil:
		return err
	case !stored.IsAdmin():
		return bus.Errorf(bus.CodeForbidden, "find signer: user %s is no admin of the bus", user.Handle)
	}
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
