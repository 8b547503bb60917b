package hostile

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// Exchange is a request to the control plane and its answer.
type Exchange struct {
	*http.Request        // as the client signed it
	Body          []byte // of the request
	Status        int
	Answer        []byte // the body of the answer
	Type          string // its media type
	Location      string // of a redirection, "" is none
}

// Reply makes v, as JSON, the answer.
func (x *Exchange) Reply(status int, v any) {
	x.Status, x.Type = status, api.MediaJSON
	if v == nil {
		x.Answer = nil
		return
	}
	var err error
	if x.Answer, err = api.Encode(v); err != nil {
		panic("hostile: encode answer: " + err.Error())
	}
}

// Fail makes an error the answer, as the control plane tells of it.
func (x *Exchange) Fail(code bus.Code) {
	p := api.NewProblem(bus.Errorf(code, "because the test says so"), "hostile")
	x.Reply(p.Status, p)
	x.Type = api.MediaProblem
}

// Control stands between clients and a node's control plane.
type Control struct {
	URL  string
	Tape *Tape

	t         testing.TB
	node      *url.URL
	transport *http.Transport

	mu       sync.Mutex
	instead  func(*Exchange) bool
	lie      func(*Exchange)
	requests []*Exchange
}

// NewControl returns an honest proxy of the control plane at target, which ends
// with the test.
func NewControl(t testing.TB, target string) *Control {
	t.Helper()
	node, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Control{t: t, node: node, transport: &http.Transport{}, Tape: &Tape{}}
	server := httptest.NewUnstartedServer(p)
	server.Listener = p.Tape.listen(server.Listener, "control plane")
	server.Start()
	t.Cleanup(func() { server.Close(); p.transport.CloseIdleConnections() })
	p.URL = server.URL
	return p
}

// Set has every answer of the node changed by lie; nil is honest.
func (p *Control) Set(lie func(*Exchange)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie = lie
}

// Instead has requests answered without the node where answer says so; nil is
// honest. What is answered so may still be changed by the lie of Set.
func (p *Control) Instead(answer func(*Exchange) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = answer
}

// Requests returns what clients have asked so far, in the order it came.
func (p *Control) Requests() []*Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Send has the node answer a request, which may have been answered before.
func (p *Control) Send(ctx context.Context, r *http.Request, body []byte) (*Exchange, error) {
	target := *p.node
	target.Path, target.RawPath, target.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	out, err := http.NewRequestWithContext(ctx, r.Method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.Header, out.Host = r.Header.Clone(), r.Host // both are signed
	resp, err := p.transport.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &Exchange{Request: r, Body: body, Status: resp.StatusCode, Answer: answer, Type: resp.Header.Get("Content-Type")}, nil
}

// ServeHTTP implements [http.Handler].
func (p *Control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	x := &Exchange{Request: r, Body: body}
	p.mu.Lock()
	p.requests = append(p.requests, x)
	instead, lie := p.instead, p.lie
	p.mu.Unlock()
	if instead == nil || !instead(x) {
		answer, err := p.Send(r.Context(), r, body)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		x.Status, x.Answer, x.Type = answer.Status, answer.Answer, answer.Type
	}
	if lie != nil {
		lie(x)
	}
	if x.Type != "" {
		w.Header().Set("Content-Type", x.Type)
	}
	if x.Location != "" {
		w.Header().Set("Location", x.Location)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(x.Answer)))
	w.WriteHeader(x.Status)
	// It fails where the client has gone.
	_, _ = w.Write(x.Answer)
}
