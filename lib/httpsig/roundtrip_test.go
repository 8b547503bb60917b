package httpsig

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

// serve answers 200 and the signer to signed requests, and 401 and the code to
// others. Like a real server it hands the request through a handler that
// changes the URL first.
func serve(t *testing.T, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := Verify(r, noon)
		if err == nil {
			_, err = v.Body(r.Body, bus.MaxBody)
		}
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, "%s: %v", bus.CodeOf(err), err)
			return
		}
		fmt.Fprint(w, v.Key)
	})
	srv := httptest.NewUnstartedServer(http.StripPrefix("/", handler))
	start(srv)
	t.Cleanup(srv.Close)
	return srv
}

var transports = map[string]func(*httptest.Server){
	"HTTP/1.1":     (*httptest.Server).Start,
	"HTTP/1.1 TLS": (*httptest.Server).StartTLS,
	"HTTP/2":       func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
}

// exchange sends a signed request and returns the answer.
func exchange(t *testing.T, srv *httptest.Server, req *http.Request) (status int, answer string) {
	t.Helper()
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

func TestSignedRequestsVerifyOnAServer(t *testing.T) {
	targets := []string{
		"", "/", "/?", "/rooms", "/rooms?", "/rooms?from=3", "/rooms?a=1&a=2&b=", "/rooms??", "/rooms?a/b:c@d",
		"/a%2Fb/c%20d", "/a%2fb", "/a b", "/%", "/ä", "/%C3%A4", "/a+b?c+d=e%20f", "/a;b=c,d", "//double//slash",
		"/a/../b/./c", "/~(!$&'*):@", "/%7Etilde", "/a%25b", "/a%3Fb?c%3Fd", "/x?q=%E4&r=%00", "/rooms#fragment",
	}
	for name, start := range transports {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, start)
			for _, target := range targets {
				for _, body := range []string{"", testBody} {
					req, err := http.NewRequest(http.MethodPost, srv.URL+target, bytes.NewReader([]byte(body)))
					if err != nil {
						if target == "/%" {
							continue // no URL at all
						}
						t.Fatal(err)
					}
					if err := Sign(req, []byte(body), alice, noon, rand.Reader); err != nil {
						t.Errorf("%q: %v", target, err)
						continue
					}
					if status, answer := exchange(t, srv, req); status != http.StatusOK || answer != alice.TransportPub().String() {
						t.Errorf("%q with %d bytes: %d %s", target, len(body), status, answer)
					}
				}
			}
		})
	}
}

func TestEveryMethodVerifiesOnAServer(t *testing.T) {
	for name, start := range transports {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, start)
			for _, method := range []string{"", http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch} {
				req, err := http.NewRequest(method, srv.URL+"/blobs/x", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Method = method
				if err := Sign(req, nil, alice, noon, rand.Reader); err != nil {
					t.Fatal(err)
				}
				if status, answer := exchange(t, srv, req); status != http.StatusOK {
					t.Errorf("%q: %d %s", method, status, answer)
				}
			}
		})
	}
}

func TestStreamedContentVerifiesOnAServer(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 50_000)
	for name, start := range transports {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, start)
			// Without a known length it travels in chunks.
			req, err := http.NewRequest(http.MethodPut, srv.URL+"/blobs/x", io.NopCloser(bytes.NewReader(content)))
			if err != nil {
				t.Fatal(err)
			}
			if err := SignDigest(req, sha256.Sum256(content), alice, noon, rand.Reader); err != nil {
				t.Fatal(err)
			}
			if status, answer := exchange(t, srv, req); status != http.StatusOK {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
}

func TestServerRefusesWhatWasChangedOnTheWay(t *testing.T) {
	srv := serve(t, (*httptest.Server).Start)
	for name, change := range map[string]func(*http.Request){
		"content":     func(r *http.Request) { r.Body = io.NopCloser(bytes.NewReader([]byte(`{"hello": "earth"}`))) },
		"no content":  func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 },
		"method":      func(r *http.Request) { r.Method = http.MethodPut },
		"path":        func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/rooms/b", "" },
		"query":       func(r *http.Request) { r.URL.RawQuery = "from=4" },
		"host":        func(r *http.Request) { r.Host = "elsewhere.example" },
		"digest":      func(r *http.Request) { r.Header.Del(HeaderDigest) },
		"two digests": func(r *http.Request) { r.Header.Add(HeaderDigest, r.Header.Get(HeaderDigest)) },
		"two inputs":  func(r *http.Request) { r.Header.Add(HeaderInput, r.Header.Get(HeaderInput)) },
		"two signatures": func(r *http.Request) {
			r.Header.Add(HeaderSignature, r.Header.Get(HeaderSignature))
		},
		"no signature": func(r *http.Request) { r.Header.Del(HeaderSignature) },
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, srv.URL+"/rooms/a?from=3", bytes.NewReader([]byte(testBody)))
			if err != nil {
				t.Fatal(err)
			}
			if err := Sign(req, []byte(testBody), alice, noon, rand.Reader); err != nil {
				t.Fatal(err)
			}
			change(req)
			if status, answer := exchange(t, srv, req); status != http.StatusUnauthorized {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
}
