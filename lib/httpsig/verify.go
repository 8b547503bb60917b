package httpsig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// Verified is what a signature proved about a request. Its content is not among
// it until [Verified.Body] or [Verified.Reader] has read it to the end.
type Verified struct {
	Key              bus.TransportPub // who signed
	Nonce            [16]byte         // to be spent by the server before it acts
	Created, Expires time.Time        // whole seconds, UTC
	DigestHeader     string           // the value of Content-Digest
	Digest           [sha256.Size]byte
	Base             [sha256.Size]byte // SHA-256 of the signature base, which names all that was signed
}

// Verify checks everything about the signature of req except the content, of
// which it reads nothing, and whether the nonce was seen before. It works on
// requests as a server receives them and as a client has signed them.
//
// Errors have
//   - [bus.CodeMalformed] where a header field or the request target does not
//     parse, comes more than once or is over its limit,
//   - [bus.CodeClockSkew] where the time of signing is more than
//     [bus.RequestClockSkew] from now,
//   - [bus.CodeUnauthenticated] where the request is not signed, or by another
//     profile, or has expired, or names a weak key (then also
//     [bus.ErrWeakKey]), or where the signature does not hold.
func Verify(req *http.Request, now time.Time) (Verified, error) {
	v, err := verify(req, now)
	if err != nil {
		return Verified{}, fmt.Errorf("verify request: %w", err)
	}
	return v, nil
}

func verify(req *http.Request, now time.Time) (Verified, error) {
	input, err := oneLine(req.Header, HeaderInput)
	if err != nil {
		return Verified{}, err
	}
	signature, err := oneLine(req.Header, HeaderSignature)
	if err != nil {
		return Verified{}, err
	}
	contentDigest, err := oneLine(req.Header, HeaderDigest)
	if err != nil {
		return Verified{}, err
	}
	p, list, err := parseInput(input)
	if err != nil {
		return Verified{}, err
	}
	name, sig, err := parseBytes(HeaderSignature, signature, maxSignature)
	if err != nil {
		return Verified{}, err
	}
	if err := checkSize(HeaderSignature, sig, ed25519.SignatureSize); err != nil {
		return Verified{}, err
	}
	if name != p.Label {
		return Verified{}, bus.Errorf(bus.CodeUnauthenticated, "match labels: %s has %.40q, %s has %.40q", HeaderInput, p.Label, HeaderSignature, name)
	}
	digest, err := parseDigest(contentDigest)
	if err != nil {
		return Verified{}, err
	}
	if err := checkTimes(p, now); err != nil {
		return Verified{}, err
	}
	// Under a key of small order one signature fits every request.
	if err := wire.CheckPublicKey(p.Key[:]); err != nil {
		return Verified{}, bus.Errorf(bus.CodeUnauthenticated, "check key: %w", err)
	}
	base, err := signatureBase(req, list)
	if err != nil {
		return Verified{}, err
	}
	if !ed25519.Verify(p.Key[:], base, sig) {
		return Verified{}, bus.Errorf(bus.CodeUnauthenticated, "check signature: it does not hold for key %s", p.Key.Fingerprint())
	}
	return Verified{
		Key: p.Key, Nonce: p.Nonce, Created: p.Created, Expires: p.Expires,
		DigestHeader: contentDigest, Digest: digest, Base: sha256.Sum256(base),
	}, nil
}

// checkTimes counts in whole seconds: a duration cannot hold the distance to
// every time that a structured field can name.
func checkTimes(p Params, now time.Time) error {
	const (
		skew     = int64(bus.RequestClockSkew / time.Second)
		lifetime = int64(bus.RequestLifetime / time.Second)
	)
	here, created, expires := now.Unix(), p.Created.Unix(), p.Expires.Unix()
	switch {
	case created > here+skew:
		return bus.Errorf(bus.CodeClockSkew, "check created: the signer's clock is %d s ahead of this one, %d s are allowed", created-here, skew)
	case created < here-skew:
		return bus.Errorf(bus.CodeClockSkew, "check created: the signer's clock is %d s behind this one, or the request was %[1]d s on its way; %d s are allowed", here-created, skew)
	case expires <= created || expires > created+lifetime:
		return bus.Errorf(bus.CodeUnauthenticated, "check expires: %d s after created, want 1 to %d", expires-created, lifetime)
	case here > expires:
		return bus.Errorf(bus.CodeUnauthenticated, "check expires: the request expired %d s ago", here-expires)
	}
	return nil
}
