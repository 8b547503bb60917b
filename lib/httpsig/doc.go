// Package httpsig signs the requests of the control plane and verifies them:
// one fixed profile of HTTP Message Signatures (RFC 9421) with digests of the
// content (RFC 9530).
//
// A client calls [Sign], or [SignDigest] for content it streams. A server calls
// [Verify] and then [Verified.Body] or [Verified.Reader], for every request,
// also where no content is expected: the signature covers the digest, and only
// reading the content shows that the two belong together.
//
// The profile. Every signature covers, in this order, "@method" "@authority"
// "@path" "@query" "content-digest", with the parameters created, expires
// (at most [bus.RequestLifetime] later), nonce (16 random bytes, base64url
// without padding), keyid (the text form of the transport key), alg="ed25519"
// and tag="unibus-ctl-1". Content-Digest has sha-256 and nothing else, and is
// there for empty content too. Each of the three header fields comes as one
// line in the canonical form of structured fields (RFC 9651). More, less or
// other than that is refused: nothing is negotiated.
//
// What a verified request gives: whoever holds the private half of
// [Verified.Key] signed exactly this method, authority, request target and
// content, within [bus.RequestClockSkew] of the server's clock.
//
// What it does not give: protection from replay, since no state is kept here;
// the server spends [Verified.Nonce] before it acts. That the key belongs to a
// user, who may do this, is the server's to decide. Header fields other than
// Content-Digest are not covered. That the authority is a name of this very
// server is not checked.
package httpsig
