package directory

import (
	"context"
	"errors"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// SpendNonce marks the nonce of a request as used, once in the whole cluster,
// for [bus.NonceLifetime]. The request may be acted on only if the error is
// nil: it has [bus.CodeNonceSpent] for a nonce that was used before, and
// whatever else goes wrong with the store denies too.
func (d *Directory) SpendNonce(ctx context.Context, key bus.TransportPub, nonce [16]byte) error {
	// The value tells this spending from every other, also from one by the
	// same request sent twice.
	m := newMark()
	_, err := d.create(ctx, store.Nonces, nonceKey(key, nonce), m[:], bus.NonceLifetime)
	if _, spent := errors.AsType[*lost](err); spent {
		return bus.Errorf(bus.CodeNonceSpent, "spend nonce: the request was sent before")
	}
	if err != nil {
		return bus.Errorf(bus.CodeUnavailable, "spend nonce: %w", err)
	}
	return nil
}
