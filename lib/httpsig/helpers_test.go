package httpsig

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"net/http"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

// noon is the time of every signature in these tests.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

type testSigner struct{ key ed25519.PrivateKey }

func newSigner(seed byte) testSigner {
	return testSigner{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

func (s testSigner) TransportPub() bus.TransportPub {
	return bus.TransportPub(s.key.Public().(ed25519.PublicKey))
}

func (s testSigner) SignRaw(msg []byte) []byte { return ed25519.Sign(s.key, msg) }

// nonces returns a source of randomness that always gives the same bytes.
func nonces() *bytes.Reader { return bytes.NewReader([]byte("0123456789abcdef")) }

var alice = newSigner(1)

const (
	testURL  = "http://Node-1.example:8443/rooms/a%2Fb/records?from=3&from=4"
	testBody = `{"hello": "world"}`
)

// newSigned returns a request as a server reads it that alice signed at noon.
func newSigned(t testing.TB) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, testURL, bytes.NewReader([]byte(testBody)))
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(req, []byte(testBody), alice, noon, nonces()); err != nil {
		t.Fatal(err)
	}
	return receive(t, req)
}

// receive writes a client's request and reads it as a server does.
func receive(t testing.TB, req *http.Request) *http.Request {
	t.Helper()
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// resign puts input into req and signs it with alice's key, whatever it says,
// so that nothing but the check of the profile can refuse it.
func resign(t testing.TB, req *http.Request, input string) {
	t.Helper()
	dict, err := httpsfv.UnmarshalDictionary([]string{input})
	if err != nil {
		t.Fatal(err)
	}
	name := dict.Names()[0]
	member, _ := dict.Get(name)
	base, err := signatureBase(req, member.(httpsfv.InnerList))
	if err != nil {
		t.Fatal(err)
	}
	signature, err := single(name, httpsfv.NewItem(alice.SignRaw(base)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(HeaderInput, input)
	req.Header.Set(HeaderSignature, signature)
}

// wantCode checks the code of an error, "" for none.
func wantCode(t testing.TB, err error, want bus.Code) {
	t.Helper()
	if got := bus.CodeOf(err); got != want {
		t.Fatalf("got code %q (%v), want %q", got, err, want)
	}
}
