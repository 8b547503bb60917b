package client

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/httpsig"
	"github.com/enmanuel/unibus/lib/identity"
)

// testControl is the caller of somebody towards these nodes.
func testControl(t *testing.T, urls ...string) *control {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newControl(Config{
		URLs: urls, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		DialTimeout: time.Second, RequestTimeout: 300 * time.Millisecond, ControlTimeout: 2 * time.Second,
	}, id.Transport(bus.BusID{1}), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	return k
}

// testNode answers requests in turn; the last answer is repeated.
func testNode(t *testing.T, calls *atomic.Int32, answers ...func(w http.ResponseWriter, r *http.Request)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1))
		if _, err := httpsig.Verify(r, time.Now()); err != nil {
			t.Errorf("call %d: %v", n, err)
		}
		// Only then does the server notice that a client has gone.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Errorf("call %d: %v", n, err)
		}
		answers[min(n, len(answers))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func problem(code bus.Code) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = api.WriteProblem(w, api.NewProblem(bus.Errorf(code, "test"), "r1")) // the client may be gone
	}
}

func ready(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", api.MediaJSON)
	_, _ = w.Write([]byte(`{"ready":true}`)) // the client may be gone
}

// hangUp ends the connection after the request was read.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

func TestCallsAreMadeAgainWhileNobodyCanServe(t *testing.T) {
	for name, c := range map[string]struct {
		answers []func(http.ResponseWriter, *http.Request)
		calls   int32
		want    error
		lost    bool
	}{
		"served":           {[]func(http.ResponseWriter, *http.Request){ready}, 1, nil, false},
		"unavailable":      {[]func(http.ResponseWriter, *http.Request){problem(bus.CodeUnavailable), problem(bus.CodeTimeout), ready}, 3, nil, false},
		"too fast":         {[]func(http.ResponseWriter, *http.Request){problem(bus.CodeRateLimited), ready}, 2, nil, false},
		"nonce spent":      {[]func(http.ResponseWriter, *http.Request){problem(bus.CodeNonceSpent), ready}, 2, nil, false},
		"hung up":          {[]func(http.ResponseWriter, *http.Request){hangUp, hangUp, ready}, 3, nil, false},
		"unauthenticated":  {[]func(http.ResponseWriter, *http.Request){problem(bus.CodeUnauthenticated), ready}, 1, bus.ErrUnauthenticated, false},
		"forbidden":        {[]func(http.ResponseWriter, *http.Request){problem(bus.CodeForbidden), ready}, 1, bus.ErrForbidden, false},
		"conflict":         {[]func(http.ResponseWriter, *http.Request){problem(bus.CodeConflict), ready}, 1, bus.ErrConflict, false},
		"done unheard":     {[]func(http.ResponseWriter, *http.Request){hangUp, problem(bus.CodeExists)}, 2, bus.ErrExists, true},
		"never":            {[]func(http.ResponseWriter, *http.Request){problem(bus.CodeUnavailable)}, -1, bus.ErrUnavailable, true},
		"redirect":         {[]func(http.ResponseWriter, *http.Request){http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP}, 1, bus.ErrMalformed, false},
		"something else":   {[]func(http.ResponseWriter, *http.Request){func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }}, 1, bus.ErrMalformed, false},
		"answers too late": {[]func(http.ResponseWriter, *http.Request){func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ready}, 2, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			k := testControl(t, testNode(t, &calls, c.answers...))
			var got api.Ready
			err := k.call(t.Context(), http.MethodPost, "/somewhere", api.Ready{}, &got)
			if !errors.Is(err, c.want) || err == nil && !got.Ready || maybeDone(err) != c.lost {
				t.Errorf("%v, perhaps done: %t", err, maybeDone(err))
			}
			if n := calls.Load(); c.calls > 0 && n != c.calls {
				t.Errorf("%d calls", n)
			}
		})
	}
}

func TestCallsGoToTheNodeThatAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	l.Close()
	var first, second atomic.Int32
	k := testControl(t, dead, testNode(t, &first, problem(bus.CodeUnavailable)), testNode(t, &second, ready))
	for range 3 {
		if err := k.call(t.Context(), http.MethodGet, api.ReadyPath(), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if first.Load() != 1 || second.Load() != 3 {
		t.Errorf("%d and %d calls", first.Load(), second.Load())
	}
}

// slowDown answers that too much was asked.
func slowDown(wait time.Duration) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		p := api.NewProblem(bus.Errorf(bus.CodeRateLimited, "test"), "r1")
		p.RetryAfterMS = wait.Milliseconds()
		_ = api.WriteProblem(w, p) // the client may be gone
	}
}

// A wait that is longer than the call may take is told at once; a shorter one is
// kept. Neither is got round by asking another node.
func TestWaitsThatServersAskFor(t *testing.T) {
	var first, second atomic.Int32
	k := testControl(t, testNode(t, &first, slowDown(time.Hour)), testNode(t, &second, ready))
	err := k.call(t.Context(), http.MethodGet, api.ReadyPath(), nil, nil)
	e, ok := errors.AsType[*api.Error](err)
	if !ok || bus.CodeOf(err) != bus.CodeRateLimited || e.RetryAfter() != time.Hour {
		t.Errorf("%v", err)
	}
	if first.Load() != 1 || second.Load() != 0 {
		t.Errorf("%d and %d calls", first.Load(), second.Load())
	}
	first.Store(0)
	k = testControl(t, testNode(t, &first, slowDown(20*time.Millisecond), ready), testNode(t, &second, ready))
	if err := k.call(t.Context(), http.MethodGet, api.ReadyPath(), nil, nil); err != nil {
		t.Error(err)
	}
	if first.Load() != 2 || second.Load() != 0 {
		t.Errorf("%d and %d calls", first.Load(), second.Load())
	}
}

func TestPausesAreSpread(t *testing.T) {
	different := map[time.Duration]bool{}
	for range 100 {
		p := pauseFor(time.Second, controlFirstPause)
		if p < time.Second || p > time.Second*5/4+1 {
			t.Fatalf("a pause of %s where a second was asked for", p)
		}
		different[p] = true
	}
	if len(different) < 50 {
		t.Errorf("%d different pauses", len(different))
	}
}
