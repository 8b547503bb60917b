package httpsig

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/dunglas/httpsfv"
	"github.com/google/go-cmp/cmp"
)

// rfcRequest is the test request of RFC 9421 appendix B.2.
func rfcRequest(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://example.com/foo?param=Value&Pet=dog", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Date", "Tue, 20 Apr 2021 02:07:55 GMT")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Digest", "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:")
	req.Header.Set("Content-Length", "18")
	return req
}

func rfcBase(t *testing.T, input string) []byte {
	t.Helper()
	_, member, err := parseSingle(HeaderInput, input, maxInput)
	if err != nil {
		t.Fatal(err)
	}
	base, err := signatureBase(rfcRequest(t), member.(httpsfv.InnerList))
	if err != nil {
		t.Fatal(err)
	}
	return base
}

func decode(t *testing.T, s string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// RFC 9421 appendices B.1.4 and B.2.6.
func TestBaseAndSignatureMatchRFC9421Ed25519(t *testing.T) {
	const input = `sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`
	const want = `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`
	base := rfcBase(t, input)
	if diff := cmp.Diff(want, string(base)); diff != "" {
		t.Fatalf("signature base (-want +got):\n%s", diff)
	}

	private, err := x509.ParsePKCS8PrivateKey(decode(t, "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(decode(t, "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="))
	if err != nil {
		t.Fatal(err)
	}
	published := decode(t, "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
	if !ed25519.Verify(public.(ed25519.PublicKey), base, published) {
		t.Error("the published signature does not hold under the published key")
	}
	if got := ed25519.Sign(private.(ed25519.PrivateKey), base); !bytes.Equal(got, published) {
		t.Errorf("signed %x, published %x", got, published)
	}
	base[0] ^= 1
	if ed25519.Verify(public.(ed25519.PublicKey), base, published) {
		t.Error("the published signature holds for another base")
	}
}

// RFC 9421 appendices B.1.2 and B.2.3, whose signature covers "@query" and
// "content-digest" as well. RSA-PSS cannot be reproduced, only verified.
func TestBaseMatchesRFC9421FullCoverage(t *testing.T) {
	base := rfcBase(t, `sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`)
	public, err := x509.ParsePKIXPublicKey(decode(t, "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2"+
		"+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+"+
		"oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq"+
		"gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W"+
		"Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4"+
		"aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI"+
		"2wIDAQAB"))
	if err != nil {
		t.Fatal(err)
	}
	published := decode(t, "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yB"+
		"iMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fU"+
		"xN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1"+
		"pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9"+
		"bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5Z"+
		"JzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==")
	sum := sha512.Sum512(base)
	if err := rsa.VerifyPSS(public.(*rsa.PublicKey), crypto.SHA512, sum[:], published, nil); err != nil {
		t.Errorf("the published signature does not hold for this base: %v\n%s", err, base)
	}
}

// RFC 9530 appendices B.1 to B.3, and the content of RFC 9421 appendix B.2.
func TestDigestMatchesRFC9530(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"full representation", "{\"hello\": \"world\"}\n", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"},
		{"no content", "", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"},
		{"partial content", "\"world\"}\n", "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:"},
		{"without line feed", "{\"hello\": \"world\"}", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sum := sha256.Sum256([]byte(c.content))
			got, err := formatDigest(sum)
			if err != nil || got != c.want {
				t.Errorf("wrote %q (%v), want %q", got, err, c.want)
			}
			if parsed, err := parseDigest(c.want); err != nil || parsed != sum {
				t.Errorf("read %x (%v), want %x", parsed, err, sum)
			}
		})
	}
}
