package httpsig

import (
	"net/http"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

func FuzzParseParams(f *testing.F) {
	good := newSigned(f).Header.Get(HeaderInput)
	for _, seed := range []string{
		good, good + ", " + good, strings.Replace(good, "created", "created=1.5;created", 1),
		`sig1=("date" "@method");created=1618884473;keyid="test-key-ed25519"`,
		`a=(1 :AA==: ?1 tok "s" @1 1.5 %"%c3%a4");b;c=-1`, `sig1=()`, `sig1`, `=`, `a=(`, ``, ` `, `a=-`, `a=:`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input string) {
		p, list, err := parseInput(input)
		if err != nil {
			if code := bus.CodeOf(err); code != bus.CodeMalformed && code != bus.CodeUnauthenticated {
				t.Fatalf("code %q: %v", code, err)
			}
			return
		}
		if len(input) > maxInput {
			t.Fatalf("accepted %d bytes", len(input))
		}
		// What is accepted is written back as it came, up to the order of parameters.
		if again, err := single(p.Label, list); err != nil || again != input {
			t.Fatalf("accepted %q, wrote %q (%v)", input, again, err)
		}
		own, err := single(p.Label, p.innerList())
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseParams(own); err != nil || back != p {
			t.Fatalf("read %+v, then %+v (%v)", p, back, err)
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	for _, seed := range []string{
		"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPF=:",
		"sha-512=::", "sha-256=:AAAA:", "sha-256", "sha-256=:", `sha-256="x"`, "", "sha-256=::;a, b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		digest, err := parseDigest(value)
		if err != nil {
			if code := bus.CodeOf(err); code != bus.CodeMalformed && code != bus.CodeUnauthenticated {
				t.Fatalf("code %q: %v", code, err)
			}
			return
		}
		if again, err := formatDigest(digest); err != nil || again != value {
			t.Fatalf("accepted %q, wrote %q (%v)", value, again, err)
		}
	})
}

// FuzzVerify looks for a request that verifies under alice's key and is not the
// one that she signed.
func FuzzVerify(f *testing.F) {
	good := newSigned(f)
	input, signature, digest := good.Header.Get(HeaderInput), good.Header.Get(HeaderSignature), good.Header.Get(HeaderDigest)
	f.Add(good.Method, good.Host, good.RequestURI, input, signature, digest)
	f.Add("", "", "", "", "", "")
	f.Add("GET", "[::1%a]:80", "*", input, "sig1=:AA==:", "sha-256=::")
	f.Add("POST", "NODE-1.example:8443", good.RequestURI+"\n", input, signature, digest)
	f.Fuzz(func(t *testing.T, method, host, target, in, sig, dig string) {
		req := &http.Request{Method: method, Host: host, RequestURI: target, Header: http.Header{
			HeaderInput: {in}, HeaderSignature: {sig}, HeaderDigest: {dig},
		}}
		v, err := Verify(req, noon)
		switch bus.CodeOf(err) {
		case bus.CodeMalformed, bus.CodeUnauthenticated, bus.CodeClockSkew:
		case "":
			same := method == good.Method && strings.EqualFold(host, good.Host) && target == good.RequestURI && dig == digest
			if v.Key == alice.TransportPub() && !same {
				t.Fatalf("alice signed something else: %q %q %q %q", method, host, target, dig)
			}
		default:
			t.Fatalf("code %q: %v", bus.CodeOf(err), err)
		}
	})
}
