package httpsig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

// Signer holds the key an identity uses towards the servers of one bus.
type Signer interface {
	// TransportPub returns the public half of the key.
	TransportPub() bus.TransportPub
	// SignRaw returns the Ed25519 signature (RFC 8032), 64 bytes, of msg as it
	// is. Here msg is always the signature base of a request.
	SignRaw(msg []byte) []byte
}

// Sign signs req, whose content is body, and sets Content-Digest,
// Signature-Input and Signature in place of any it has. It neither reads nor
// sets req.Body. Method, URL and Host must be final, and the request must then
// be sent once: a retry is signed again, or the server finds its nonce spent.
// The nonce comes from rand, which must be cryptographic.
//
// Errors have [bus.CodeMalformed] where the request cannot be signed as it is
// (a path that needs escaping, no host), else [bus.CodeInternal].
func Sign(req *http.Request, body []byte, s Signer, now time.Time, rand io.Reader) error {
	return SignDigest(req, sha256.Sum256(body), s, now, rand)
}

// SignDigest is [Sign] for content of which only the SHA-256 is at hand.
func SignDigest(req *http.Request, digest [sha256.Size]byte, s Signer, now time.Time, rand io.Reader) error {
	created := time.Unix(now.Unix(), 0)
	p := Params{Label: label, Created: created, Expires: created.Add(bus.RequestLifetime), Key: s.TransportPub()}
	if _, err := io.ReadFull(rand, p.Nonce[:]); err != nil {
		return bus.Errorf(bus.CodeInternal, "sign request: read nonce: %w", err)
	}
	contentDigest, err := formatDigest(digest)
	if err != nil {
		return bus.Errorf(bus.CodeInternal, "sign request: write %s: %w", HeaderDigest, err)
	}
	list := p.innerList()
	input, err := single(p.Label, list)
	if err != nil {
		return bus.Errorf(bus.CodeInternal, "sign request: write %s: %w", HeaderInput, err)
	}
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	req.Header.Set(HeaderDigest, contentDigest)
	base, err := signatureBase(req, list)
	if err != nil {
		return fmt.Errorf("sign request: %w", err)
	}
	sig := s.SignRaw(base)
	if len(sig) != ed25519.SignatureSize {
		return bus.Errorf(bus.CodeInternal, "sign request: signer returned %d bytes, want %d", len(sig), ed25519.SignatureSize)
	}
	signature, err := single(p.Label, httpsfv.NewItem(sig))
	if err != nil {
		return bus.Errorf(bus.CodeInternal, "sign request: write %s: %w", HeaderSignature, err)
	}
	req.Header.Set(HeaderInput, input)
	req.Header.Set(HeaderSignature, signature)
	return nil
}
