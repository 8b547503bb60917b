package httpsig

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

// edit returns a change of one header field by replacing old, which must be there.
func edit(name, old, new string) func(testing.TB, *http.Request) {
	return func(t testing.TB, r *http.Request) {
		t.Helper()
		was := r.Header.Get(name)
		if !strings.Contains(was, old) {
			t.Fatalf("%s %q does not contain %q", name, was, old)
		}
		r.Header.Set(name, strings.Replace(was, old, new, 1))
	}
}

// signed is edit of Signature-Input by somebody who can sign the result.
func signed(old, new string) func(testing.TB, *http.Request) {
	return func(t testing.TB, r *http.Request) {
		t.Helper()
		edit(HeaderInput, old, new)(t, r)
		resign(t, r, r.Header.Get(HeaderInput))
	}
}

type tamper struct {
	name   string
	change func(testing.TB, *http.Request)
	want   bus.Code
}

func runTampers(t *testing.T, cases []tamper) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req := newSigned(t)
			if _, err := Verify(req, noon); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			c.change(t, req)
			v, err := Verify(req, noon)
			wantCode(t, err, c.want)
			if err != nil && v != (Verified{}) {
				t.Errorf("returned %+v with an error", v)
			}
		})
	}
}

func TestVerifyRefusesTamperedComponents(t *testing.T) {
	set := func(change func(*http.Request)) func(testing.TB, *http.Request) {
		return func(_ testing.TB, r *http.Request) { change(r) }
	}
	runTampers(t, []tamper{
		{"another method", set(func(r *http.Request) { r.Method = http.MethodPut }), bus.CodeUnauthenticated},
		{"no method", set(func(r *http.Request) { r.Method = "" }), bus.CodeUnauthenticated},
		{"lower-case method", set(func(r *http.Request) { r.Method = "post" }), bus.CodeMalformed},
		{"another host", set(func(r *http.Request) { r.Host = "node-2.example:8443" }), bus.CodeUnauthenticated},
		{"another port", set(func(r *http.Request) { r.Host = "node-1.example:8444" }), bus.CodeUnauthenticated},
		{"default port", set(func(r *http.Request) { r.Host = "node-1.example" }), bus.CodeUnauthenticated},
		{"default port behind the port", set(func(r *http.Request) { r.Host += ":80" }), bus.CodeMalformed},
		{"port that is no number", set(func(r *http.Request) { r.Host = "node-1.example:http" }), bus.CodeMalformed},
		{"address without its bracket", set(func(r *http.Request) { r.Host = "[::1" }), bus.CodeMalformed},
		{"address with a tail", set(func(r *http.Request) { r.Host = "[::1]a:80" }), bus.CodeMalformed},
		{"port alone", set(func(r *http.Request) { r.Host = ":8443" }), bus.CodeMalformed},
		{"no host", set(func(r *http.Request) { r.Host = "" }), bus.CodeMalformed},
		{"host with a line break", set(func(r *http.Request) { r.Host += "\n" }), bus.CodeMalformed},
		{"another path", set(func(r *http.Request) { r.RequestURI = "/rooms/a%2Fc/records?from=3&from=4" }), bus.CodeUnauthenticated},
		{"decoded path", set(func(r *http.Request) { r.RequestURI = "/rooms/a/b/records?from=3&from=4" }), bus.CodeUnauthenticated},
		{"path escaped in lower case", set(func(r *http.Request) { r.RequestURI = "/rooms/a%2fb/records?from=3&from=4" }), bus.CodeUnauthenticated},
		{"another query", set(func(r *http.Request) { r.RequestURI = "/rooms/a%2Fb/records?from=3&from=5" }), bus.CodeUnauthenticated},
		{"query in another order", set(func(r *http.Request) { r.RequestURI = "/rooms/a%2Fb/records?from=4&from=3" }), bus.CodeUnauthenticated},
		{"no query", set(func(r *http.Request) { r.RequestURI = "/rooms/a%2Fb/records" }), bus.CodeUnauthenticated},
		{"query moved into the path", set(func(r *http.Request) { r.RequestURI = "/rooms/a%2Fb/records%3Ffrom=3&from=4" }), bus.CodeUnauthenticated},
		{"long target", set(func(r *http.Request) { r.RequestURI += strings.Repeat("a", bus.MaxURL) }), bus.CodeMalformed},
		{"absolute target", set(func(r *http.Request) { r.RequestURI = "http://node-1.example:8443" + r.RequestURI }), bus.CodeMalformed},
		{"control character in the target", set(func(r *http.Request) { r.RequestURI += "\x00" }), bus.CodeMalformed},
		{"no target", set(func(r *http.Request) { r.RequestURI, r.URL = "", nil }), bus.CodeMalformed},
		{"another digest", edit(HeaderDigest, "X48E", "X48F"), bus.CodeUnauthenticated},
	})
}

func TestVerifyRefusesTamperedParameters(t *testing.T) {
	bob := newSigner(2).TransportPub().String()
	runTampers(t, []tamper{
		{"created a second later", edit(HeaderInput, "created=1773489600", "created=1773489601"), bus.CodeUnauthenticated},
		{"created a second earlier", edit(HeaderInput, "created=1773489600", "created=1773489599"), bus.CodeUnauthenticated},
		{"expires a second earlier", edit(HeaderInput, "expires=1773489660", "expires=1773489659"), bus.CodeUnauthenticated},
		{"another nonce", edit(HeaderInput, `"MDEy`, `"MDEz`), bus.CodeUnauthenticated},
		{"another key", edit(HeaderInput, alice.TransportPub().String(), bob), bus.CodeUnauthenticated},
		{"parameters in another order", edit(HeaderInput, `;alg="ed25519";tag="unibus-ctl-1"`, `;tag="unibus-ctl-1";alg="ed25519"`), bus.CodeUnauthenticated},
		{"the signature of another label", edit(HeaderSignature, "sig1=", "sig2="), bus.CodeUnauthenticated},
		{"a long signature", edit(HeaderSignature, "sig1=:", "sig1=:AAAA"), bus.CodeMalformed},
		{"a short signature", func(_ testing.TB, r *http.Request) { r.Header.Set(HeaderSignature, "sig1=:AAAA:") }, bus.CodeMalformed},
		{"a signature that is a string", func(_ testing.TB, r *http.Request) { r.Header.Set(HeaderSignature, `sig1="AAAA"`) }, bus.CodeMalformed},
		{"a signature that is a list", func(_ testing.TB, r *http.Request) { r.Header.Set(HeaderSignature, `sig1=(:AAAA:)`) }, bus.CodeMalformed},
		{"a signature with a parameter", func(_ testing.TB, r *http.Request) {
			r.Header.Set(HeaderSignature, r.Header.Get(HeaderSignature)+";a")
		}, bus.CodeMalformed},
	})
}

func TestVerifyRefusesOtherProfilesEvenWhenSigned(t *testing.T) {
	const list = `("@method" "@authority" "@path" "@query" "content-digest")`
	cases := []tamper{
		{"fewer components", signed(` "content-digest")`, ")"), bus.CodeUnauthenticated},
		{"no components", signed(list, "()"), bus.CodeUnauthenticated},
		{"more components", signed(`"content-digest")`, `"content-digest" "user-agent")`), bus.CodeUnauthenticated},
		{"components in another order", signed(`"@method" "@authority"`, `"@authority" "@method"`), bus.CodeUnauthenticated},
		{"a component with a parameter", edit(HeaderInput, `"content-digest")`, `"content-digest";sf)`), bus.CodeUnauthenticated},
		{"a component twice", edit(HeaderInput, `"@method" `, `"@method" "@method" `), bus.CodeUnauthenticated},
		{"a component that is a token", edit(HeaderInput, `"@method"`, `method`), bus.CodeMalformed},
		{"another algorithm", signed(`"ed25519"`, `"ed448"`), bus.CodeUnauthenticated},
		{"an algorithm that is a token", signed(`"ed25519"`, `ed25519`), bus.CodeMalformed},
		{"another tag", signed(`"unibus-ctl-1"`, `"unibus-ctl-2"`), bus.CodeUnauthenticated},
		{"an unknown parameter", signed(";alg", ";extra=1;alg"), bus.CodeUnauthenticated},
		{"times that are dates", signed("created=", "created=@"), bus.CodeMalformed},
		{"times with a fraction", signed("created=1773489600", "created=1773489600.5"), bus.CodeMalformed},
		{"times without a value", signed("created=1773489600", "created"), bus.CodeMalformed},
		{"a short nonce", signed(`"MDEyMzQ1Njc4OWFiY2RlZg"`, `"MDEyMzQ1Njc4OWFiY2Rl"`), bus.CodeMalformed},
		{"a long nonce", signed(`"MDEyMzQ1Njc4OWFiY2RlZg"`, `"MDEyMzQ1Njc4OWFiY2RlZmdn"`), bus.CodeMalformed},
		{"a padded nonce", signed(`"MDEyMzQ1Njc4OWFiY2RlZg"`, `"MDEyMzQ1Njc4OWFiY2RlZg=="`), bus.CodeMalformed},
		{"a nonce with stray bits", signed(`2RlZg"`, `2RlZh"`), bus.CodeMalformed},
		{"a nonce that is bytes", signed(`"MDEyMzQ1Njc4OWFiY2RlZg"`, `:MDEyMzQ1Njc4OWFiY2RlZg==:`), bus.CodeMalformed},
		{"a short key", signed(`keyid="iojj`, `keyid="`), bus.CodeMalformed},
		{"a key that is a token", signed(`"`+alice.TransportPub().String()+`"`, alice.TransportPub().String()), bus.CodeMalformed},
		{"no lifetime", signed("expires=1773489660", "expires=1773489600"), bus.CodeUnauthenticated},
		{"expiry before creation", signed("expires=1773489660", "expires=1773489599"), bus.CodeUnauthenticated},
		{"a long lifetime", signed("expires=1773489660", "expires=1773489661"), bus.CodeUnauthenticated},
		{"the longest lifetime", signed("expires=1773489660", "expires=999999999999999"), bus.CodeUnauthenticated},
		{"the earliest creation", signed("created=1773489600", "created=-999999999999999"), bus.CodeClockSkew},
		{"the latest creation", signed("created=1773489600", "created=999999999999999"), bus.CodeClockSkew},
	}
	for _, param := range []string{
		";created=1773489600", ";expires=1773489660", `;nonce="MDEyMzQ1Njc4OWFiY2RlZg"`,
		`;keyid="` + alice.TransportPub().String() + `"`, `;alg="ed25519"`, `;tag="unibus-ctl-1"`,
	} {
		cases = append(cases,
			tamper{"without " + param, signed(param, ""), bus.CodeUnauthenticated},
			tamper{"twice " + param, edit(HeaderInput, param, param+param), bus.CodeMalformed})
	}
	runTampers(t, cases)
}

func TestVerifyAcceptsWhatTheProfileLeavesOpen(t *testing.T) {
	runTampers(t, []tamper{
		{"another label", signed("sig1=", "other-label="), ""},
		{"parameters in another order", signed(`;alg="ed25519";tag="unibus-ctl-1"`, `;tag="unibus-ctl-1";alg="ed25519"`), ""},
		{"a shorter lifetime", signed("expires=1773489660", "expires=1773489601"), ""},
		{"host in upper case", func(_ testing.TB, r *http.Request) { r.Host = strings.ToUpper(r.Host) }, ""},
		{"other header fields twice", func(_ testing.TB, r *http.Request) {
			r.Header.Add("X-Trace", "1")
			r.Header.Add("X-Trace", "2")
		}, ""},
	})
}

func TestVerifyRefusesHeadersThatAreNotOneCanonicalLine(t *testing.T) {
	var cases []tamper
	for _, name := range []string{HeaderInput, HeaderSignature, HeaderDigest} {
		change := func(f func(value string) []string) func(testing.TB, *http.Request) {
			return func(_ testing.TB, r *http.Request) { r.Header[name] = f(r.Header.Get(name)) }
		}
		two := func(first, second string) string { return first + ", x" + second }
		cases = append(cases, []tamper{
			{name + " missing", change(func(string) []string { return nil }), bus.CodeUnauthenticated},
			{name + " empty", change(func(string) []string { return []string{""} }), bus.CodeUnauthenticated},
			{name + " twice", change(func(v string) []string { return []string{v, v} }), bus.CodeMalformed},
			{name + " twice, once empty", change(func(v string) []string { return []string{v, ""} }), bus.CodeMalformed},
			{name + " with two members", change(func(v string) []string { return []string{two(v, v)} }), bus.CodeUnauthenticated},
			{name + " with a member given twice", change(func(v string) []string { return []string{v + ", " + v} }), bus.CodeMalformed},
			{name + " with a space before", change(func(v string) []string { return []string{" " + v} }), bus.CodeMalformed},
			{name + " with a space after", change(func(v string) []string { return []string{v + " "} }), bus.CodeMalformed},
			{name + " with a line break", change(func(v string) []string { return []string{v + "\n"} }), bus.CodeMalformed},
			{name + " cut short", change(func(v string) []string { return []string{v[:len(v)-1]} }), bus.CodeMalformed},
			{name + " a lone key", change(func(string) []string { return []string{"sig1"} }), bus.CodeMalformed},
			{name + " no dictionary", change(func(string) []string { return []string{"=)("} }), bus.CodeMalformed},
			{name + " too long", change(func(v string) []string { return []string{v + ";a=" + strings.Repeat("1", 2<<10)} }), bus.CodeMalformed},
		}...)
	}
	cases = append(cases,
		tamper{"stray bits in the signature", func(t testing.TB, r *http.Request) {
			was := r.Header.Get(HeaderSignature) // ends in 4 stray bits, "==:"
			i := len(was) - 4
			r.Header.Set(HeaderSignature, was[:i]+string(was[i]+1)+was[i+1:])
		}, bus.CodeMalformed},
		tamper{"a digest of another algorithm", func(_ testing.TB, r *http.Request) {
			r.Header.Set(HeaderDigest, "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:")
		}, bus.CodeUnauthenticated},
		tamper{"a digest of the wrong length", func(_ testing.TB, r *http.Request) {
			r.Header.Set(HeaderDigest, "sha-256=:AAAA:")
		}, bus.CodeMalformed},
	)
	runTampers(t, cases)
}

func TestVerifyRefusesEveryFlippedBitOfTheHeaders(t *testing.T) {
	for _, name := range []string{HeaderInput, HeaderSignature, HeaderDigest} {
		req := newSigned(t)
		was := req.Header.Get(name)
		for i := range len(was) {
			for bit := range 8 {
				changed := []byte(was)
				changed[i] ^= 1 << bit
				req.Header.Set(name, string(changed))
				switch _, err := Verify(req, noon); bus.CodeOf(err) {
				case bus.CodeMalformed, bus.CodeUnauthenticated, bus.CodeClockSkew:
				default:
					t.Fatalf("%s %q: %v", name, changed, err)
				}
			}
		}
		req.Header.Set(name, was)
		if _, err := Verify(req, noon); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerifyRefusesWeakKeys(t *testing.T) {
	identity := [32]byte{1}
	// 2^255-18, which encodes the y of the identity without being reduced.
	notCanonical := [32]byte(bytes.Repeat([]byte{0xff}, 32))
	notCanonical[0], notCanonical[31] = 0xee, 0x7f
	orderTwo := [32]byte(bytes.Repeat([]byte{0xff}, 32)) // 2^255-20
	orderTwo[0], orderTwo[31] = 0xec, 0x7f
	noPoint := [32]byte{2}
	for name, key := range map[string][32]byte{
		"identity": identity, "order two": orderTwo, "not canonical": notCanonical, "no point": noPoint,
	} {
		t.Run(name, func(t *testing.T) {
			req := newSigned(t)
			edit(HeaderInput, alice.TransportPub().String(), bus.TransportPub(key).String())(t, req)
			// R = identity and S = 0 hold for every message under the identity.
			forged, err := single(label, httpsfv.NewItem(append(identity[:], make([]byte, 32)...)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(HeaderSignature, forged)
			_, err = Verify(req, noon)
			wantCode(t, err, bus.CodeUnauthenticated)
			if !errors.Is(err, bus.ErrWeakKey) {
				t.Errorf("%v does not say that the key is weak", err)
			}
		})
	}
}

func TestVerifyHoldsTheClockWindow(t *testing.T) {
	req := newSigned(t)
	for _, c := range []struct {
		now  time.Duration // the server's clock, from the signer's
		want bus.Code
		says string
	}{
		{-60 * time.Second, "", ""},
		{-61 * time.Second, bus.CodeClockSkew, "61 s ahead"},
		{-24 * time.Hour, bus.CodeClockSkew, "86400 s ahead"},
		{0, "", ""},
		{60*time.Second + 999*time.Millisecond, "", ""},
		{61 * time.Second, bus.CodeClockSkew, "61 s behind"},
		{24 * time.Hour, bus.CodeClockSkew, "86400 s behind"},
	} {
		t.Run(c.now.String(), func(t *testing.T) {
			_, err := Verify(req, noon.Add(c.now))
			wantCode(t, err, c.want)
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func TestVerifyHoldsTheExpiry(t *testing.T) {
	req := newSigned(t)
	signed("expires=1773489660", "expires=1773489610")(t, req)
	_, err := Verify(req, noon.Add(10*time.Second))
	wantCode(t, err, "")
	_, err = Verify(req, noon.Add(11*time.Second))
	wantCode(t, err, bus.CodeUnauthenticated)
}

// A nonce is remembered for longer than any request that carries it is
// accepted, whatever the clocks.
func TestNoncesOutliveTheirRequests(t *testing.T) {
	if longest := bus.RequestClockSkew + bus.RequestLifetime; bus.NonceLifetime < longest {
		t.Errorf("requests are accepted for up to %s, nonces remembered for %s", longest, bus.NonceLifetime)
	}
}

func TestAuthorityOmitsTheDefaultPort(t *testing.T) {
	for _, c := range []struct {
		host  string
		https bool
		want  string
	}{
		{"node", false, "node"},
		{"Node.EXAMPLE:80", false, "node.example"},
		{"node:443", false, "node:443"},
		{"node:443", true, "node"},
		{"node:80", true, "node:80"},
		{"node:", true, "node"},
		{"node:8443", true, "node:8443"},
		{"[::1]:443", true, "[::1]"},
		{"[::80]", false, "[::80]"},
		{"[::1]", false, "[::1]"},
		{"[fe80::1%en0]:8443", true, "[fe80::1]:8443"},
		{"192.0.2.1:80", false, "192.0.2.1"},
	} {
		t.Run(fmt.Sprintf("%s https=%t", c.host, c.https), func(t *testing.T) {
			client, err := http.NewRequest(http.MethodGet, map[bool]string{true: "https", false: "http"}[c.https]+"://x/", nil)
			if err != nil {
				t.Fatal(err)
			}
			client.Host = c.host
			server := &http.Request{Host: c.host}
			if c.https {
				server.TLS = &tls.ConnectionState{}
			}
			for side, req := range map[string]*http.Request{"client": client, "server": server} {
				if got, err := authority(req); err != nil || got != c.want {
					t.Errorf("%s: got %q (%v), want %q", side, got, err, c.want)
				}
			}
		})
	}
}
