package httpsig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestSignWritesTheProfile(t *testing.T) {
	req := newSigned(t)
	const params = `("@method" "@authority" "@path" "@query" "content-digest");created=1773489600;expires=1773489660` +
		`;nonce="MDEyMzQ1Njc4OWFiY2RlZg";keyid="iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w";alg="ed25519";tag="unibus-ctl-1"`
	const base = `"@method": POST
"@authority": node-1.example:8443
"@path": /rooms/a%2Fb/records
"@query": ?from=3&from=4
"content-digest": sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:
"@signature-params": ` + params
	want := map[string][]string{
		HeaderDigest:    {"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"},
		HeaderInput:     {"sig1=" + params},
		HeaderSignature: {"sig1=:" + base64.StdEncoding.EncodeToString(ed25519.Sign(alice.key, []byte(base))) + ":"},
	}
	for name, lines := range want {
		if diff := cmp.Diff(lines, req.Header.Values(name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	v, err := Verify(req, noon)
	if err != nil {
		t.Fatal(err)
	}
	wantVerified := Verified{
		Key: alice.TransportPub(), Nonce: [16]byte([]byte("0123456789abcdef")),
		Created: noon, Expires: noon.Add(bus.RequestLifetime),
		DigestHeader: want[HeaderDigest][0], Digest: v.Digest, Base: sha256.Sum256([]byte(base)),
	}
	if diff := cmp.Diff(wantVerified, v); diff != "" {
		t.Errorf("verified (-want +got):\n%s", diff)
	}
	if body, err := v.Body(req.Body, bus.MaxBody); err != nil || string(body) != testBody {
		t.Errorf("read %q (%v)", body, err)
	}
}

func TestSignReplacesAnEarlierSignature(t *testing.T) {
	req, err := http.NewRequest(http.MethodPut, "https://node.example/cards/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Sign(req, nil, alice, noon, nonces()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Verify(req, noon); err != nil {
		t.Error(err)
	}
}

func TestSignRefusesWhatItCannotSign(t *testing.T) {
	request := func(change func(*http.Request)) *http.Request {
		req, err := http.NewRequest(http.MethodGet, "https://node.example/rooms", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		return req
	}
	for _, c := range []struct {
		name   string
		change func(*http.Request)
	}{
		{"host with other letters", func(r *http.Request) { r.Host = "nöde.example" }},
		{"host with a line break", func(r *http.Request) { r.Host = "node\n\"@path\": /" }},
		{"no host", func(r *http.Request) { r.Host, r.URL.Host = "", "" }},
		{"long host", func(r *http.Request) { r.Host = strings.Repeat("a", 300) }},
		{"opaque URL", func(r *http.Request) { r.URL = &url.URL{Scheme: "https", Opaque: "rooms"} }},
		{"no URL", func(r *http.Request) { r.URL = nil }},
		{"space in the query", func(r *http.Request) { r.URL.RawQuery = "a b" }},
		{"line break in the query", func(r *http.Request) { r.URL.RawQuery = "a\nb" }},
		{"other letters in the query", func(r *http.Request) { r.URL.RawQuery = "ä" }},
		{"long query", func(r *http.Request) { r.URL.RawQuery = strings.Repeat("a", bus.MaxURL) }},
		{"lower-case method", func(r *http.Request) { r.Method = "get" }},
		{"long method", func(r *http.Request) { r.Method = strings.Repeat("A", 17) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := request(c.change)
			wantCode(t, Sign(req, nil, alice, noon, nonces()), bus.CodeMalformed)
			if req.Header.Get(HeaderSignature) != "" {
				t.Error("a signature was set all the same")
			}
		})
	}
}

func TestSignReportsFailingRandomnessAndSigner(t *testing.T) {
	req, err := http.NewRequest(http.MethodGet, "https://node.example/rooms", nil)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := Sign(req, nil, alice, noon, iotest.ErrReader(broken)); !errors.Is(err, broken) || bus.CodeOf(err) != bus.CodeInternal {
		t.Errorf("failing randomness: %v", err)
	}
	wantCode(t, Sign(req, nil, shortSigner{alice}, noon, nonces()), bus.CodeInternal)
	if len(req.Header.Values(HeaderSignature)) != 0 {
		t.Error("a signature was set all the same")
	}
}

type shortSigner struct{ testSigner }

func (s shortSigner) SignRaw(msg []byte) []byte { return s.testSigner.SignRaw(msg)[:63] }
