package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// breakage makes a valid request one that must be refused, or one that the
// server may take or leave but must survive.
type breakage struct {
	name string
	// before changes the request before it is signed; after, once it is.
	before func(w *world, c *chooser, b *call)
	after  func(c *chooser, r *http.Request)
	age    time.Duration // of the signature
	// served says that what comes of it may well be a request that is served.
	served bool
}

// unsigned routes are served to anybody: no forged signature is looked at.
func unsigned(name string) bool {
	return name == "GET /healthz" || name == "GET /readyz" || name == "PUT /revocations"
}

var breakages = []breakage{
	{name: "foreign signer", served: true, before: func(w *world, c *chooser, b *call) {
		b.signer = w.someone(c, stranger, revoked)
	}},
	{name: "lesser signer", served: true, before: func(w *world, c *chooser, b *call) {
		b.signer = w.someone(c, member)
	}},
	{name: "no signature", after: func(c *chooser, r *http.Request) {
		r.Header.Del(pick(c, "Signature", "Signature-Input", "Content-Digest"))
	}},
	{name: "flipped signature", after: func(c *chooser, r *http.Request) {
		h := "Signature"
		r.Header.Set(h, flipText(c, r.Header.Get(h)))
	}},
	{name: "odd signature input", after: func(c *chooser, r *http.Request) {
		r.Header.Set("Signature-Input", mangleText(c, r.Header.Get("Signature-Input")))
	}},
	{name: "signatures twice", after: func(c *chooser, r *http.Request) {
		h := pick(c, "Signature", "Signature-Input", "Content-Digest")
		r.Header.Add(h, r.Header.Get(h))
	}},
	{name: "long ago", age: 2 * time.Minute},
	{name: "yet to come", age: -2 * time.Minute},
	{name: "other host", after: func(_ *chooser, r *http.Request) { r.Host = "bus.example:4280" }},
	{name: "other path", after: func(c *chooser, r *http.Request) { r.URL.Path += pick(c, "/", "x", "/..", "%", "//") }},
	{name: "other query", after: func(c *chooser, r *http.Request) {
		r.URL.RawQuery += pick(c, "&from=0", "hash=x", "from=1&from=2", "x=y", "%zz", strings.Repeat("a", 5000))
	}},
	{name: "other method", after: func(c *chooser, r *http.Request) {
		old := r.Method
		for r.Method == old {
			r.Method = pick(c, "GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")
		}
	}},
	{name: "signed odd path", served: true, before: func(_ *world, c *chooser, b *call) { b.path = mangleText(c, b.path) }},
	{name: "signed odd bytes", served: true, before: func(_ *world, c *chooser, b *call) { b.body = mangle(c, b.body) }},
	{name: "signed odd JSON", served: true, before: func(_ *world, c *chooser, b *call) { b.body = mangleJSON(c, b.body) }},
	{name: "signed body of another", served: true, before: func(w *world, c *chooser, b *call) {
		w.mu.Lock()
		defer w.mu.Unlock()
		b.body = w.bodies[c.IntN(len(w.bodies))]
	}},
	{name: "signed huge body", served: true, before: func(_ *world, c *chooser, b *call) {
		b.body = append(bytes.Clone(b.body), bytes.Repeat([]byte(" "), 1<<pick(c, 13, 21, 22))...)
	}},
	{name: "other body", after: func(c *chooser, r *http.Request) {
		body := []byte(pick(c, "{}", "[", "null", "\x00\xff"))
		r.Body, r.ContentLength = readCloser(body), int64(len(body))
	}},
	{name: "chunked body", served: true, after: func(_ *chooser, r *http.Request) { r.ContentLength = -1 }},
	{name: "odd headers", served: true, after: func(c *chooser, r *http.Request) {
		r.Header.Set(pick(c, "Content-Type", "Content-Encoding", "Range", "Content-Range", "Expect", "X-Forwarded-For", "If-Match"),
			pick(c, "gzip", "bytes=0-1", "bytes 5-1/*", "text/plain; charset=\x80", "1.2.3.4", strings.Repeat("z", 12<<10)))
	}},
}

// mangle changes some bytes, cuts or repeats.
func mangle(c *chooser, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + c.IntN(4) {
		switch at := c.IntN(len(b) + 1); c.IntN(5) {
		case 0:
			b = b[:at]
		case 1:
			b = slices.Insert(b, at, byte(c.Uint32()))
		case 2:
			b = append(b, b[at:]...)
		default:
			if at < len(b) {
				b[at] ^= 1 << c.IntN(8)
			}
		}
	}
	return b
}

// mangleText is mangle without what the HTTP library would not send.
func mangleText(c *chooser, s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return 'x'
		}
		return r
	}, string(mangle(c, []byte(s))))
}

// flipText changes one letter of the middle to another one.
func flipText(c *chooser, s string) string {
	b := []byte(s)
	at := 8 + c.IntN(40)
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

// mangleJSON changes the structure: values of another type, missing members,
// unknown ones, long lists, deep nests.
func mangleJSON(c *chooser, body []byte) []byte {
	var v any
	if len(body) == 0 || json.Unmarshal(body, &v) != nil {
		return []byte(pick(c, "{}", `{"a":1}`, "[]", strings.Repeat("[", 20000), `{"sign_pub":null}`))
	}
	out, err := json.Marshal(mangleValue(c, v))
	if err != nil {
		panic(err) // it came out of JSON
	}
	return out
}

func mangleValue(c *chooser, v any) any {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 {
			return odd(c)
		}
		key := keys[c.IntN(len(keys))]
		switch c.IntN(6) {
		case 0:
			delete(v, key)
		case 1:
			v["x"+key] = v[key]
		case 2:
			v[key] = odd(c)
		default:
			v[key] = mangleValue(c, v[key])
		}
		return v
	case []any:
		if len(v) == 0 || c.IntN(4) == 0 {
			return slices.Repeat([]any{odd(c)}, pick(c, 1, 2, 2000))
		}
		at := c.IntN(len(v))
		switch c.IntN(4) {
		case 0:
			return slices.Delete(v, at, at+1)
		case 1:
			return append(v, v[at])
		}
		v[at] = mangleValue(c, v[at])
		return v
	case string:
		return pick[any](c, mangleText(c, v), v+"=", v+"\n", strings.ToUpper(v), odd(c))
	}
	return odd(c)
}

func odd(c *chooser) any {
	return pick[any](c, nil, true, -1, 1e300, 0.5, "", "\u0000", "AAAA", strings.Repeat("A", 4000), []any{}, map[string]any{},
		[]any{[]any{[]any{}}}, uint64(1)<<63)
}
