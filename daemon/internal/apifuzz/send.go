package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	mathrand "math/rand/v2"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/httpsig"
)

// send sends requests from all workers for so long.
func (w *world) send(ctx context.Context, length time.Duration, seed uint64, workers int) error {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var running sync.WaitGroup
	for n := range workers {
		running.Go(func() {
			c := &chooser{mathrand.New(mathrand.NewPCG(seed, uint64(n)))}
			for ctx.Err() == nil && !w.tally.full() {
				// A request is never cut short by the end of the run: it would
				// leave unknown what it did.
				w.one(context.WithoutCancel(ctx), c)
			}
		})
	}
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) && err != nil {
		return fmt.Errorf("interrupted: %w", err)
	}
	return nil
}

// one sends one request: valid, broken, the same twice, or no HTTP at all.
func (w *world) one(ctx context.Context, c *chooser) {
	kind := valids[c.IntN(len(valids))]
	if c.IntN(20) == 0 {
		w.garbage(ctx, c)
		return
	}
	b, err := kind.make(w, c)
	if errors.Is(err, errNotNow) {
		return
	}
	if err != nil {
		w.tally.fail("make %s: %v", kind.name, err)
		return
	}
	if b.end != nil {
		defer b.end()
	}
	w.mu.Lock()
	w.bodies[c.IntN(len(w.bodies))] = b.body
	w.mu.Unlock()
	switch n := c.IntN(10); {
	case n < 4:
		if err := w.do(ctx, b); err != nil {
			w.tally.fail("%v", err)
		}
	case n == 4 && changes(b) && !unsigned(b.name):
		w.twice(ctx, b)
	default:
		w.broken(ctx, c, b, breakages[c.IntN(len(breakages))])
	}
}

// do sends a valid request, which must be served.
func (w *world) do(ctx context.Context, b call) error {
	r, err := w.request(ctx, b, 0)
	if err != nil {
		return err
	}
	status, text, err := w.answer(r)
	w.tally.count("valid "+b.name, status)
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	if b.paced && status == http.StatusTooManyRequests {
		return nil
	}
	if status/100 != 2 {
		return fmt.Errorf("%s: valid, but refused with %d: %s", b.name, status, text)
	}
	if b.done != nil {
		b.done()
	}
	return nil
}

// changes reports whether a request spends its nonce.
func changes(b call) bool { return b.method != http.MethodGet && b.method != http.MethodHead }

// twice sends the very same request again: the second is refused.
func (w *world) twice(ctx context.Context, b call) {
	first, err := w.request(ctx, b, 0)
	if err != nil {
		w.tally.fail("%v", err)
		return
	}
	second := first.Clone(ctx)
	second.Body = readCloser(b.body)
	status, text, err := w.answer(first)
	w.tally.count("valid "+b.name, status)
	if err != nil || status/100 != 2 && !(b.paced && status == http.StatusTooManyRequests) {
		w.tally.fail("%s: valid, but refused with %d: %s (%v)", b.name, status, text, err)
		return
	}
	if b.done != nil {
		b.done()
	}
	status, text, err = w.answer(second)
	w.tally.count("replayed", status)
	if err != nil || status != http.StatusUnauthorized {
		w.tally.fail("%s: replayed, and answered with %d: %s (%v)", b.name, status, text, err)
	}
}

// broken sends a request that something is wrong with.
func (w *world) broken(ctx context.Context, c *chooser, b call, how breakage) {
	name, was := b.name, b
	if how.before != nil {
		how.before(w, c, &b)
	}
	r, err := w.request(ctx, b, how.age)
	if err != nil {
		return // nobody can sign or send such a thing
	}
	if how.after != nil {
		how.after(c, r)
	}
	status, text, err := w.answer(r)
	w.tally.count(how.name, status)
	switch {
	case err != nil:
		w.tally.fail("%s with %s: %v", name, how.name, err)
	case status/100 == 2 && !how.served && !unsigned(name):
		w.tally.fail("%s with %s was served: %s", name, how.name, text)
	case status/100 == 2 && b.done != nil && (!b.strict || b.signer == was.signer && b.path == was.path && bytes.Equal(b.body, was.body)):
		b.done() // what was changed made no difference
	}
}

// request signs a call as of some time ago.
func (w *world) request(ctx context.Context, b call, age time.Duration) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, b.method, w.node.URL()+b.path, bytes.NewReader(b.body))
	if err != nil {
		return nil, err
	}
	return r, httpsig.Sign(r, b.body, b.signer.transport, time.Now().Add(-age), rand.Reader)
}

// answer sends r and checks what every answer must be.
func (w *world) answer(r *http.Request) (status int, text string, err error) {
	resp, err := w.http.Do(r)
	if err != nil {
		// The node may hang up on what it will not read to the end; the client
		// library refuses to send some headers. Nothing else.
		var opErr *net.OpError
		if errors.As(err, &opErr) || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "invalid header") ||
			strings.Contains(err.Error(), "server closed idle connection") || strings.Contains(err.Error(), "invalid method") {
			return 0, err.Error(), nil
		}
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxReply+1))
	if err != nil {
		return resp.StatusCode, "", err
	}
	return resp.StatusCode, string(raw), checkAnswer(resp, raw)
}

func checkAnswer(resp *http.Response, raw []byte) error {
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("answered with %d: %s", resp.StatusCode, raw)
	}
	// These come from the HTTP library, before any handler.
	if resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge || resp.StatusCode == http.StatusExpectationFailed ||
		resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return nil
	}
	if resp.Header.Get("X-Request-Id") == "" {
		return fmt.Errorf("%d without a request id: %.200s", resp.StatusCode, raw)
	}
	if resp.StatusCode < 300 || resp.Request.Method == http.MethodHead {
		return nil
	}
	resp.Body = readCloser(raw)
	if code := bus.CodeOf(api.ReadProblem(resp)); code == bus.CodeInternal || code == "" {
		return fmt.Errorf("%d with code %q: %.200s", resp.StatusCode, code, raw)
	}
	return nil
}

func readCloser(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// garbage writes what is hardly HTTP to a connection of its own.
func (w *world) garbage(ctx context.Context, c *chooser) {
	u, err := url.Parse(w.node.URL())
	if err != nil {
		w.tally.fail("%v", err)
		return
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		w.tally.fail("connect: %v", err)
		return
	}
	defer conn.Close()
	text := []byte("POST /rooms HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	if c.IntN(4) > 0 {
		text = mangle(c, text)
	}
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		w.tally.fail("%v", err)
		return
	}
	status, err := exchange(conn, text)
	if err != nil {
		status = 0 // the node hung up, which is an answer too
	}
	// 505 is the library's word for another version of HTTP, 501 for an encoding
	// it does not know.
	if status >= 500 && status != http.StatusHTTPVersionNotSupported && status != http.StatusNotImplemented {
		w.tally.fail("garbage answered with %d", status)
	}
	w.tally.count("no HTTP", status)
}

// exchange writes text, says that there is no more to come, and returns the
// status of the answer.
func exchange(conn net.Conn, text []byte) (status int, err error) {
	if _, err := conn.Write(text); err != nil {
		return 0, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.CloseWrite(); err != nil {
			return 0, err
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
