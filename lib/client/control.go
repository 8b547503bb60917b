package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/httpsig"
)

// Pauses between rounds over all nodes while none of them can serve.
const (
	controlFirstPause = 50 * time.Millisecond
	controlMaxPause   = 2 * time.Second
)

// clockWarning is a difference of clocks, transit included, that is told of: half
// of what nodes put up with.
const clockWarning = bus.RequestClockSkew / 2

// control sends signed requests to the control plane, to the node that
// answered last and, while that one cannot serve, to the others.
type control struct {
	urls      []*url.URL
	http      *http.Client
	signer    httpsig.Signer
	now       func() time.Time
	log       *slog.Logger
	attempt   time.Duration // bounds one attempt
	total     time.Duration // bounds a call
	preferred atomic.Int32  // index of urls

	toldOfClock atomic.Bool
}

func newControl(c Config, signer httpsig.Signer, tlsConfig *tls.Config) (*control, error) {
	dialer := &net.Dialer{Timeout: c.DialTimeout}
	k := &control{
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:         dialer.DialContext,
				TLSClientConfig:     tlsConfig,
				TLSHandshakeTimeout: c.DialTimeout,
				ForceAttemptHTTP2:   true,
				MaxIdleConnsPerHost: cardFetchers,
				IdleConnTimeout:     90 * time.Second,
				// How long a server that knows nothing of 100-continue is waited for.
				ExpectContinueTimeout: time.Second,
			},
			// A signature is for one address; whoever redirects is not a node.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		signer:  signer,
		now:     c.Now,
		log:     c.Logger,
		attempt: c.RequestTimeout,
		total:   c.ControlTimeout,
	}
	for _, raw := range c.URLs {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, bus.Errorf(bus.CodeUsage, "parse control-plane URL: %w", err)
		}
		k.urls = append(k.urls, u)
	}
	return k, nil
}

func (k *control) close() { k.http.CloseIdleConnections() }

// callError is a failed call of which an attempt before the last may have been
// carried out: its answer got lost.
type callError struct {
	err error
}

func (e *callError) Error() string { return e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

// maybeDone reports whether the request behind err may have been carried out
// although the call failed.
func maybeDone(err error) bool {
	_, ok := errors.AsType[*callError](err)
	return ok
}

// call sends a request with the JSON of in, which may be nil, and reads the
// reply into out, which may be nil. Requests that no node could serve are sent
// again, with a new signature, until ctx or the time for a call ends; all that
// the control plane takes may be sent twice. What a server refuses is returned
// at once, and so is [bus.CodeRateLimited] where the server asks for a longer wait
// ([api.Error.RetryAfter]) than the time for the call. Errors have the server's
// code, or [bus.CodeUnavailable], which wraps
// ctx's error where that ended.
func (k *control) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = api.Encode(in); err != nil {
			return err
		}
	}
	attempts, cancel := context.WithTimeout(ctx, k.total)
	defer cancel()
	pause := controlFirstPause
	lost := false // an attempt's answer got lost
	for {
		wait, err := k.round(attempts, method, path, body, out, &lost)
		if err == nil {
			return nil
		}
		inTime := waitsInTime(attempts, wait)
		if worthRetrying(err) && inTime && sleep(attempts, pauseFor(wait, pause)) {
			pause = min(2*pause, controlMaxPause)
			continue
		}
		switch {
		case !worthRetrying(err):
		case !inTime && ctx.Err() == nil:
			err = fmt.Errorf("%w; the server asks to wait %s, which is longer than this may take", err, wait)
		case ctx.Err() != nil:
			err = bus.Errorf(bus.CodeUnavailable, "no node answered in time: %v%w", err, unsaid{ctx.Err()})
		case bus.CodeOf(err) == bus.CodeInternal:
			err = bus.Errorf(bus.CodeUnavailable, "no node can serve: %w", err)
		}
		path, _, _ = strings.Cut(path, "?")
		err = fmt.Errorf("%s %s: %w", strings.ToLower(method), path, err)
		if lost {
			err = &callError{err}
		}
		return err
	}
}

// unsaid is the cause of an error for [errors.Is], where the message has said
// enough.
type unsaid struct{ error }

func (unsaid) Error() string   { return "" }
func (u unsaid) Unwrap() error { return u.error }

// waitsInTime reports whether a wait that a server asks for ends before ctx does.
// Whoever asked learns of a longer one at once, and not when ctx has ended.
func waitsInTime(ctx context.Context, wait time.Duration) bool {
	end, limited := ctx.Deadline()
	return !limited || wait == 0 || time.Until(end) > wait
}

// pauseFor returns how long to pause before another round: what servers ask for
// and up to a quarter more, so that those who were told the same do not all come
// back at once, or else about the client's own pause.
func pauseFor(wait, own time.Duration) time.Duration {
	if wait > 0 {
		wait += mathrand.N(wait/4 + 1)
	}
	return max(wait, own/2+mathrand.N(own/2))
}

// round tries the nodes one after the other. One that has the client slow down
// speaks for all: the others are not asked in its place. After failures that are worth
// retrying it returns the last one and how long the servers asked to wait.
func (k *control) round(ctx context.Context, method, path string, body []byte, out any, lost *bool) (wait time.Duration, err error) {
	first := int(k.preferred.Load())
	var untrusted error // the last certificate that was refused
	refused := 0
	for i := range k.urls {
		n := (first + i) % len(k.urls)
		if err = k.once(ctx, k.urls[n], method, path, body, out); err == nil {
			k.preferred.Store(int32(n))
			return 0, nil
		}
		k.log.Debug("client", "call", method+" "+path, "url", k.urls[n].String(), "err", err)
		if !worthRetrying(err) {
			return 0, err
		}
		*lost = *lost || answerLost(err)
		if e, ok := errors.AsType[*api.Error](err); ok {
			wait = max(wait, e.RetryAfter())
		}
		if bus.CodeOf(err) == bus.CodeRateLimited {
			return wait, err
		}
		if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			// Without the networkError around it, which says that it is worth retrying.
			untrusted, refused = fmt.Errorf("%s: %w", k.urls[n].Host, bad), refused+1
		}
	}
	if refused == len(k.urls) {
		// Waiting does not make a certificate good.
		return 0, bus.Errorf(bus.CodeForbidden, "no node shows a certificate to trust: %w", untrusted)
	}
	return wait, err
}

// networkError is an attempt without an answer.
type networkError struct {
	err error
}

func (e *networkError) Error() string { return e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

// worthRetrying reports whether another attempt, or another node, may do better.
func worthRetrying(err error) bool {
	if _, ok := errors.AsType[*networkError](err); ok {
		return true
	}
	switch bus.CodeOf(err) {
	case bus.CodeUnavailable, bus.CodeTimeout, bus.CodeRateLimited,
		bus.CodeUnknownOutcome, // the node does not know whether its write reached the store
		bus.CodeNonceSpent:     // the network delivered the request twice
		return true
	}
	return false
}

// answerLost reports whether the attempt may have been carried out.
func answerLost(err error) bool {
	if e, ok := errors.AsType[*networkError](err); ok {
		// A connection that was never made carried nothing.
		op, ok := errors.AsType[*net.OpError](e.err)
		return !ok || op.Op != "dial"
	}
	return bus.CodeOf(err) != bus.CodeRateLimited
}

// once makes one attempt at one node.
func (k *control) once(ctx context.Context, base *url.URL, method, path string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, k.attempt)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base.String(), "/")+path, bytes.NewReader(body))
	if err != nil {
		return bus.Errorf(bus.CodeUsage, "make request: %w", err)
	}
	if body == nil {
		req.Body, req.GetBody, req.ContentLength = http.NoBody, nil, 0
	} else {
		// Without it the transport cannot send a request again by itself: it
		// would do so with a nonce that is spent.
		req.GetBody = nil
		req.Header.Set("Content-Type", api.MediaJSON)
	}
	if err := httpsig.Sign(req, body, k.signer, k.now(), rand.Reader); err != nil {
		return err
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return &networkError{err}
	}
	defer resp.Body.Close()
	k.compareClocks(base.Host, resp.Header.Get("Date"))
	return api.ReadReply(resp, out)
}

// compareClocks tells, once for each client, of a clock that is about to be too far
// from a node's for its requests to be taken. Which of the two is wrong shows
// only against a third.
func (k *control) compareClocks(host, date string) {
	there, err := http.ParseTime(date)
	if err != nil {
		return // a proxy may leave it away
	}
	off := k.now().Sub(there).Round(time.Second)
	if off.Abs() <= clockWarning || k.toldOfClock.Swap(true) {
		return
	}
	direction := "ahead of"
	if off < 0 {
		direction = "behind"
	}
	k.log.Warn(fmt.Sprintf("this machine's clock is %s %s that of %s, which says %s; beyond %s requests are refused: timedatectl status",
		off.Abs(), direction, host, there.UTC().Format(time.RFC3339), bus.RequestClockSkew))
}

// sleep waits and reports whether ctx was still alive at the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
