package control

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

func TestLimitsHaveDefaults(t *testing.T) {
	for name, c := range map[string]struct{ in, want Limits }{
		"nothing set": {Limits{}, Limits{
			Address: Rate{400, 2000}, Unsigned: Rate{1, 30}, Reads: Rate{100, 400}, Changes: Rate{20, 100},
			AddressRequests: 256, IdentityRequests: 64, Connections: 10_000, AddressConnections: 1000, Strangers: 2000, AddressStrangers: 500,
			OwnedRooms: 1000, Memberships: 10_000,
		}},
		"all set": {
			Limits{Rate{1, 2}, Rate{1, 3}, Rate{3, 4}, Rate{-1, 0}, 5, 6, 7, -1, 8, 9, 10, 11, true},
			Limits{Rate{1, 2}, Rate{1, 3}, Rate{3, 4}, Rate{-1, 1}, 5, 6, 7, -1, 8, 9, 10, 11, true},
		},
		"no burst": {
			Limits{Rate{1.5, 0}, Rate{0.2, 0}, Rate{0.1, 0}, Rate{7, -1}, 5, 6, 7, 8, 9, 10, 11, 12, false},
			Limits{Rate{1.5, 1}, Rate{0.2, 1}, Rate{0.1, 1}, Rate{7, 7}, 5, 6, 7, 8, 9, 10, 11, 12, false},
		},
	} {
		if diff := cmp.Diff(c.want, c.in.withDefaults()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// rare is a rate at which, with the clock of these tests standing still, only
// the burst gets through.
func rare(burst int) Rate { return Rate{0.5, burst} }

// wantLimited checks a refusal and returns when to come again.
func (w *world) wantLimited(what string, resp *http.Response) time.Duration {
	w.Helper()
	defer resp.Body.Close()
	after := resp.Header.Get("Retry-After")
	problem := api.ReadProblem(resp)
	w.want(what, resp.StatusCode, problem, http.StatusTooManyRequests, bus.CodeRateLimited)
	ms := problem.Problem.RetryAfterMS
	if seconds, err := strconv.ParseInt(after, 10, 64); err != nil || ms <= 0 || seconds != (ms+999)/1000 {
		w.Errorf("%s: Retry-After %q, retry_after_ms %d", what, after, ms)
	}
	if resp.Header.Get("X-Request-Id") == "" {
		w.Errorf("%s: no request id", what)
	}
	return problem.RetryAfter()
}

// cursorRequest is a change that costs nothing.
func (w *world) cursorRequest() api.CursorRequest {
	return api.CursorRequest{Session: bus.SessionID{1}, CatchUp: []api.CatchUp{{Room: w.room.Record.Room, From: 1}}}
}

func (w *world) send(p person, method, path string, body any) *http.Response {
	w.Helper()
	r, raw := w.request(method, path, body)
	w.sign(r, raw, p, w.now)
	resp, err := w.client.Do(r)
	w.must(err)
	return resp
}

// Somebody at one address sends what is signed badly as fast as it goes. It
// costs a signature check as often as the limit says, and nobody else notices.
func TestAFloodFromOneAddressLeavesTheOthersAlone(t *testing.T) {
	const flooders, each, burst = 8, 50, 40
	w := newWorld(t, func(c *Config) { c.Limits.Address = rare(burst) })
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	probe, err := dialer.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Skipf("this machine has one loopback address only: %v", err)
	}
	w.must(probe.Close())
	elsewhere := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: flooders}
	t.Cleanup(elsewhere.CloseIdleConnections)

	var mu sync.Mutex
	counts := map[bus.Code]int{}
	var group sync.WaitGroup
	for range flooders {
		group.Go(func() {
			for i := range each {
				method := []string{http.MethodGet, http.MethodPost}[i%2]
				r, raw := w.request(method, api.RoomsPath(), nil)
				w.sign(r, raw, w.owner, w.now)
				r.URL.Path = api.UsersPath() // not what was signed
				resp, err := elsewhere.RoundTrip(r)
				if err != nil {
					t.Error(err)
					return
				}
				problem := api.ReadProblem(resp)
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
				if (problem.RetryAfter() > 0) != (problem.Problem.Code == bus.CodeRateLimited) {
					t.Errorf("%+v", problem.Problem)
				}
				mu.Lock()
				counts[problem.Problem.Code]++
				mu.Unlock()
			}
		})
	}
	for range burst {
		status, err := w.call(w.owner, http.MethodGet, api.RoomsPath(), nil, nil)
		w.want("meanwhile", status, err, 200, "")
	}
	group.Wait()
	want := map[bus.Code]int{bus.CodeUnauthenticated: burst, bus.CodeRateLimited: flooders*each - burst}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	if loud := strings.Count(w.log.String(), "level=WARN"); loud != 1 {
		t.Errorf("the operator was told %d times", loud)
	}
}

func TestAddressesAreLimitedBeforeAnythingElse(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Address = rare(3) })
	for _, path := range []string{api.RoomsPath(), "/nothing/here", api.UsersPath()} {
		r, _ := w.request(http.MethodGet, path, nil)
		if status, _ := w.do(r, nil); status == http.StatusTooManyRequests {
			t.Errorf("%s was refused", path)
		}
	}
	for _, path := range []string{api.RoomsPath(), "/nothing/here"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			after := w.wantLimited(method+" "+path, w.send(w.owner, method, path, nil))
			if after != 2001*time.Millisecond {
				t.Errorf("%s %s: come again in %s", method, path, after)
			}
		}
	}
	for _, path := range []string{api.HealthPath(), api.ReadyPath()} {
		r, _ := w.request(http.MethodGet, path, nil)
		status, err := w.do(r, nil)
		w.want(path, status, err, 200, "")
	}
	w.now = w.now.Add(2001 * time.Millisecond)
	status, err := w.call(w.owner, http.MethodGet, api.RoomsPath(), nil, nil)
	w.want("as told", status, err, 200, "")
}

func TestTrustedLoopbackIsLimitedByIdentityOnly(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Limits = Limits{Address: rare(1), AddressRequests: 1, Reads: rare(5), TrustLoopback: true}
	})
	for range 5 {
		status, err := w.call(w.owner, http.MethodGet, api.RoomsPath(), nil, nil)
		w.want("within", status, err, 200, "")
	}
	w.wantLimited("beyond", w.send(w.owner, http.MethodGet, api.RoomsPath(), nil))
}

func TestReadsAndChangesOfAnIdentityAreLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Reads, c.Limits.Changes = rare(3), rare(2) })
	change := func(p person) *http.Response {
		return w.send(p, http.MethodPost, api.CursorsPath(), w.cursorRequest())
	}
	read := func(p person) *http.Response { return w.send(p, http.MethodGet, api.RoomsPath(), nil) }
	good := func(what string, resp *http.Response, status int) {
		t.Helper()
		w.want(what, resp.StatusCode, api.ReadReply(resp, nil), status, "")
		w.must(resp.Body.Close())
	}
	nonces := func() int {
		spent, err := w.store.List(w.ctx, store.Nonces, "")
		w.must(err)
		return len(spent)
	}

	good("first change", change(w.owner), 200)
	// The first card, too, is a change of whom it is of.
	good("second change", w.send(w.owner, http.MethodPut, api.CardPath(w.owner.ID()), api.Card{Card: w.owner.card.Bytes()}), 204)
	before := nonces()
	after := w.wantLimited("third change", change(w.owner))
	w.wantLimited("a card", w.send(w.owner, http.MethodPut, api.CardPath(w.owner.ID()), api.Card{Card: w.owner.card.Bytes()}))
	w.wantLimited("a record", w.send(w.owner, http.MethodPost, api.RecordsPath(w.room.Record.Room), upload(w.next(w.room, w.owner))))
	if got := nonces(); got != before {
		t.Errorf("what was refused spent %d nonces", got-before)
	}
	for range 3 {
		good("reads", read(w.owner), 200)
	}
	w.wantLimited("a fourth read", read(w.owner))
	good("somebody else's change", change(w.reader), 200)
	good("somebody else's read", read(w.reader), 200)

	w.now = w.now.Add(after)
	good("as told", change(w.owner), 200)
	w.wantLimited("once more", change(w.owner))
}

// A refusal goes out before the body has come in, and still gets there.
func TestRefusalsReachThoseWhoStillSend(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Changes = rare(1) })
	body := make([]byte, bus.MaxBody)
	status, err := w.call(w.owner, http.MethodPost, api.RoomsPath(), body, nil)
	w.want("within", status, err, 400, bus.CodeMalformed)
	for range 20 {
		w.wantLimited("beyond", w.send(w.owner, http.MethodPost, api.RoomsPath(), body))
	}
}

// The store is not asked about an admin who asks too often.
func TestAdminsAreLimitedBeforeTheyAreLookedUp(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Reads = rare(1) })
	status, err := w.call(w.admin, http.MethodGet, api.UsersPath(), nil, nil)
	w.want("within", status, err, 200, "")
	w.store.fail(down, nil)
	w.wantLimited("beyond", w.send(w.admin, http.MethodGet, api.UsersPath(), nil))
}

func TestRequestsUnderWayAreLimited(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		second func(w *world) person // whose requests are refused meanwhile
		other  int                   // what somebody else gets meanwhile
	}{
		"of an identity": {Limits{IdentityRequests: 2}, func(w *world) person { return w.owner }, 200},
		"of an address":  {Limits{AddressRequests: 2}, func(w *world) person { return w.reader }, 429},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(cfg *Config) { cfg.Limits = c.limits })
			entered, goOn := make(chan struct{}, 2), make(chan struct{})
			w.cursors = func(bus.ID, api.CursorRequest) (api.CursorReply, error) {
				entered <- struct{}{}
				<-goOn
				return api.CursorReply{}, nil
			}
			var group sync.WaitGroup
			for range 2 {
				r, raw := w.request(http.MethodPost, api.CursorsPath(), w.cursorRequest())
				w.sign(r, raw, w.owner, w.now)
				group.Go(func() {
					status, err := w.do(r, nil)
					w.want("under way", status, err, 200, "")
				})
			}
			for range 2 {
				select {
				case <-entered:
				case <-w.ctx.Done():
					t.Fatal("the requests did not get there")
				}
			}
			if after := w.wantLimited("a third", w.send(c.second(w), http.MethodGet, api.RoomsPath(), nil)); after != busyRetry {
				t.Errorf("come again in %s", after)
			}
			if status, err := w.call(w.outsider, http.MethodGet, api.RoomsPath(), nil, nil); status != c.other {
				t.Errorf("somebody else: %d %v", status, err)
			}
			close(goOn)
			group.Wait()
			status, err := w.call(c.second(w), http.MethodGet, api.RoomsPath(), nil, nil)
			w.want("afterwards", status, err, 200, "")
		})
	}
}

// A request that ends badly counts no longer than one that ends well.
func TestWhatFailsIsNoLongerUnderWay(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits = Limits{AddressRequests: 1, IdentityRequests: 1} })
	w.cursors = func(bus.ID, api.CursorRequest) (api.CursorReply, error) { panic("at the disco") }
	for range 3 {
		status, err := w.call(w.owner, http.MethodPost, api.CursorsPath(), w.cursorRequest(), nil)
		w.want("panics", status, err, 500, bus.CodeInternal)
		status, err = w.call(w.owner, http.MethodGet, api.UsersPath(), nil, nil)
		w.want("forbidden", status, err, 403, bus.CodeForbidden)
	}
}

func TestTheLocalSocketIsNotLimited(t *testing.T) {
	limits := Limits{Address: rare(1), Reads: rare(1), Changes: rare(1), AddressRequests: 1, IdentityRequests: 1}
	w := newWorld(t, func(c *Config) { c.Limits = limits })
	h := w.server.LocalHandler()
	for range 20 {
		reply := httptest.NewRecorder()
		h.ServeHTTP(reply, httptest.NewRequest(http.MethodGet, api.UsersPath(), nil))
		if reply.Code != 200 {
			t.Fatalf("%d %s", reply.Code, reply.Body)
		}
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		opened int // of 4
	}{
		"all together":        {Limits{Connections: 3, AddressConnections: -1}, 3},
		"of one address":      {Limits{Connections: -1, AddressConnections: 2}, 2},
		"of trusted loopback": {Limits{AddressConnections: 2, TrustLoopback: true}, 4},
		"not at all":          {Limits{Connections: -1, AddressConnections: -1}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			below, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := New(Config{Limits: c.limits, Logger: slog.New(slog.DiscardHandler)}).LimitConns(below)
			dial := func() net.Conn {
				conn, err := net.DialTimeout("tcp", below.Addr().String(), 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				return conn
			}
			var timeout net.Error
			var open []net.Conn
			accepted := make(chan net.Conn, 10)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					accepted <- conn
				}
			}()
			for i := range 4 {
				client := dial()
				if i < c.opened {
					open = append(open, <-accepted)
					continue
				}
				if _, err := client.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
					t.Errorf("a connection beyond the limit was not closed: %v", err)
				}
			}
			// Closing makes room once, however often it is done.
			if err := open[0].Close(); err != nil {
				t.Fatal(err)
			}
			if err := open[0].Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed again: %v", err)
			}
			dial()
			open[0] = <-accepted
			if c.opened < 4 {
				if _, err := dial().Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
					t.Errorf("closing twice made room for two: %v", err)
				}
			}
			for _, conn := range open {
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			<-ended
			if left := l.(*limitedListener); left.all != 0 || len(left.from) != 0 {
				t.Errorf("%d connections still count, of %v", left.all, left.from)
			}
		})
	}
}

// The HTTP server ends a connection in halves, so that a last reply gets there.
func TestLimitedConnectionsCloseInHalves(t *testing.T) {
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(Config{Logger: slog.New(slog.DiscardHandler)}).LimitConns(below)
	defer l.Close()
	client, err := net.Dial("tcp", below.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("it cannot")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client reads %v, want EOF", err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// Whoever holds connections open without saying who they are closes their own.
func TestStrangersMakeRoomAndMembersStay(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Strangers = 2 })
	status, err := w.call(w.owner, http.MethodGet, api.RoomsPath(), nil, nil)
	w.want("member", status, err, 200, "")
	var strangers []net.Conn
	for range 5 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		w.must(err)
		t.Cleanup(func() { conn.Close() })
		w.must(conn.SetDeadline(time.Now().Add(10 * time.Second)))
		strangers = append(strangers, conn)
	}
	for i, conn := range strangers[:3] {
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stranger %d stayed: %v", i, err)
		}
	}
	// The member's connection is the one from before, which proves that it
	// was not closed.
	reused := false
	ctx := httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	r, body := w.request(http.MethodGet, api.RoomsPath(), nil)
	r = r.WithContext(ctx)
	w.sign(r, body, w.owner, w.now)
	status, err = w.do(r, nil)
	w.want("member again", status, err, 200, "")
	if !reused {
		t.Error("the member had to connect again")
	}
	if !strings.Contains(w.log.String(), "strangers crowd") {
		t.Error("the operator was not told")
	}
}
