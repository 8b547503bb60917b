package control

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store"
)

// endpoint is one signed route with a request that is right for whoever sends it.
type endpoint struct {
	method string
	path   func(w *world, p person) string
	body   func(w *world, p person) any
	ok     int
	// answers for those who are not allowed; everybody else is.
	denied map[string]bus.Code
	best   string // somebody who is allowed
}

func fixed(path string) func(*world, person) string {
	return func(*world, person) string { return path }
}

func nothing(*world, person) any { return nil }

var adminsOnly = map[string]bus.Code{
	"owner": bus.CodeForbidden, "reader": bus.CodeForbidden, "outsider": bus.CodeForbidden, "removed": bus.CodeForbidden,
}

var handles = 0 // of users that tests add

func endpoints() map[string]endpoint {
	records := func(w *world, _ person) string { return api.RecordsPath(w.room.Record.Room) }
	return map[string]endpoint{
		"put card": {
			http.MethodPut,
			func(_ *world, p person) string { return api.CardPath(p.ID()) },
			func(_ *world, p person) any { return api.Card{Card: p.card.Bytes()} },
			204, map[string]bus.Code{"cardless": ""}, "outsider",
		},
		"get card":   {http.MethodGet, func(w *world, _ person) string { return api.CardPath(w.owner.ID()) }, nothing, 200, nil, "outsider"},
		"get handle": {http.MethodGet, fixed(api.HandlePath("owner")), nothing, 200, nil, "outsider"},
		"put entry": {
			http.MethodPut, fixed(api.HandlePath("owner")),
			func(w *world, p person) any { return api.Entry{Entry: w.entry("owner", w.owner)} },
			204, adminsOnly, "admin",
		},
		"get standing": {http.MethodGet, func(w *world, _ person) string { return api.RevocationPath(w.revoked.ID()) }, nothing, 200, nil, "outsider"},
		"list revoked": {
			http.MethodGet, func(w *world, _ person) string { return api.RevokedMembersPath(w.room.Record.Room) }, nothing, 200,
			map[string]bus.Code{"admin": bus.CodeForbidden, "outsider": bus.CodeForbidden, "removed": bus.CodeForbidden}, "reader",
		},
		"list users": {http.MethodGet, fixed(api.UsersPath()), nothing, 200, adminsOnly, "admin"},
		"add user": {
			http.MethodPost, fixed(api.UsersPath()),
			func(w *world, p person) any {
				handles++
				return api.AddUser{SignPub: w.person().SignPub(), Handle: bus.Handle(fmt.Sprintf("new-%d", handles)), Role: bus.UserMember}
			},
			201, adminsOnly, "admin",
		},
		"revoke user": {
			http.MethodPost, func(w *world, _ person) string { return api.RevokePath(w.revoked.SignPub()) }, nothing,
			200, adminsOnly, "admin",
		},
		"create room": {
			http.MethodPost, fixed(api.RoomsPath()),
			func(w *world, p person) any { return upload(w.genesis(p)) },
			201, nil, "outsider",
		},
		"list rooms": {http.MethodGet, fixed(api.RoomsPath()), nothing, 200, nil, "outsider"},
		"list records": {
			http.MethodGet, records, nothing, 200,
			map[string]bus.Code{"admin": bus.CodeForbidden, "outsider": bus.CodeForbidden}, "reader",
		},
		"append record": {
			http.MethodPost, records,
			func(w *world, _ person) any { return upload(w.next(w.room, w.owner, w.reader)) },
			201,
			map[string]bus.Code{"admin": bus.CodeNotAuthority, "outsider": bus.CodeNotAuthority, "reader": bus.CodeNotAuthority, "removed": bus.CodeNotAuthority}, "owner",
		},
		"get key": {
			http.MethodGet, func(w *world, _ person) string { return api.KeyPath(w.room.Record.Room, 1) }, nothing, 200,
			map[string]bus.Code{"admin": bus.CodeForbidden, "outsider": bus.CodeForbidden, "removed": bus.CodeNotFound}, "reader",
		},
		"put key": {
			http.MethodPut, func(w *world, _ person) string { return api.KeyPath(w.room.Record.Room, 1) },
			func(w *world, p person) any { return api.Resealed{Card: p.card.Hash(), Blob: []byte("sealed again")} },
			204,
			map[string]bus.Code{"admin": bus.CodeForbidden, "outsider": bus.CodeForbidden, "removed": bus.CodeNotFound}, "reader",
		},
		"make cursors": {
			http.MethodPost, fixed(api.CursorsPath()),
			func(w *world, _ person) any {
				return api.CursorRequest{Session: bus.SessionID{1}, CatchUp: []api.CatchUp{{Room: w.room.Record.Room, From: 1}}}
			},
			200, nil, "reader",
		},
		"report": {
			http.MethodPost, fixed(api.ReportsPath()),
			func(*world, person) any { return api.Report{V: 1, Counts: map[bus.Code]uint32{bus.CodeDecrypt: 1}} },
			204, nil, "reader",
		},
	}
}

func (w *world) people() map[string]person {
	return map[string]person{
		"admin": w.admin, "owner": w.owner, "reader": w.reader, "outsider": w.outsider, "removed": w.removed,
		"revoked": w.revoked, "cardless": w.cardless, "stranger": w.stranger,
	}
}

func (w *world) entry(h bus.Handle, p person) []byte {
	w.Helper()
	raw, err := w.root.SignEntry(identity.Entry{BusID: w.root.BusID(), Handle: h, ID: p.ID(), Seq: 1, NotAfter: w.now.Add(time.Hour)})
	w.must(err)
	return raw
}

func (w *world) prepare(e endpoint, who string) (*http.Request, []byte) {
	w.Helper()
	p := w.people()[who]
	return w.request(e.method, e.path(w, p), e.body(w, p))
}

// Routes whose content streams are tested in blobs_test.go.
func TestEveryRouteIsInTheTables(t *testing.T) {
	tested := map[string]bool{}
	w := newWorld(t)
	for name, e := range endpoints() {
		tested[e.method+" "+pattern(e.path(w, w.owner))] = true
		if e.denied[e.best] != "" {
			t.Errorf("%s: %s is not allowed", name, e.best)
		}
	}
	for _, rt := range publicRoutes {
		if rt.who != anyone && !rt.streams() && !tested[rt.method+" "+rt.pattern] {
			t.Errorf("%s %s is in no table of these tests", rt.method, rt.pattern)
		}
	}
}

// pattern returns which of the patterns a path is of.
func pattern(path string) (found string) {
	mux := http.NewServeMux()
	for _, rt := range publicRoutes {
		if rt.method == http.MethodGet || rt.pattern == api.PatternCursors || rt.pattern == api.PatternReports || rt.pattern == api.PatternRevoke {
			mux.HandleFunc(rt.pattern, func(http.ResponseWriter, *http.Request) {})
		}
	}
	r, err := http.NewRequest(http.MethodGet, "http://n1"+path, nil)
	if err != nil {
		return err.Error()
	}
	_, found = mux.Handler(r)
	return found
}

// Everybody tries every route: only those the table allows get through.
func TestWhoMayDoWhat(t *testing.T) {
	for name, e := range endpoints() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			// Those who are denied come first, so that nobody changes anything for them.
			for _, pass := range []bool{false, true} {
				for who := range w.people() {
					code, denied := e.denied[who]
					switch who {
					case "stranger":
						code, denied = bus.CodeUnauthenticated, true
					case "revoked":
						code, denied = bus.CodeRevoked, true
					case "cardless":
						if !denied {
							code, denied = bus.CodeUnauthenticated, true
						}
					}
					if denied && code == "" {
						denied = false
					}
					if denied == pass {
						continue
					}
					r, raw := w.prepare(e, who)
					w.sign(r, raw, w.people()[who], w.now)
					status, err := w.do(r, nil)
					if denied {
						w.want(who, status, err, api.StatusOf(code), code)
					} else if name != "append record" || who == "owner" {
						w.want(who, status, err, e.ok, "")
					}
				}
			}
		})
	}
}

// What makes a request worthless, whoever sends it.
func TestRequestsThatProveNothingAreDenied(t *testing.T) {
	for name, e := range endpoints() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.people()[e.best]
			try := func(what string, wantStatus int, code bus.Code, prepare func(r *http.Request, body []byte)) {
				t.Helper()
				r, raw := w.prepare(e, e.best)
				prepare(r, raw)
				status, err := w.do(r, nil)
				w.want(what, status, err, wantStatus, code)
			}
			try("unsigned", 401, bus.CodeUnauthenticated, func(*http.Request, []byte) {})
			try("expired", 401, bus.CodeClockSkew, func(r *http.Request, b []byte) {
				w.sign(r, b, p, w.now.Add(-bus.RequestClockSkew-time.Second))
			})
			try("from the future", 401, bus.CodeClockSkew, func(r *http.Request, b []byte) {
				w.sign(r, b, p, w.now.Add(bus.RequestClockSkew+time.Second))
			})
			try("for another host", 401, bus.CodeUnauthenticated, func(r *http.Request, b []byte) {
				r.Host = "other.example"
				w.sign(r, b, p, w.now)
				r.Host = ""
			})
			try("for another path", 401, bus.CodeUnauthenticated, func(r *http.Request, b []byte) {
				path := r.URL.Path
				r.URL.Path = "/elsewhere"
				w.sign(r, b, p, w.now)
				r.URL.Path = path
			})
			try("for another query", 401, bus.CodeUnauthenticated, func(r *http.Request, b []byte) {
				query := r.URL.RawQuery
				r.URL.RawQuery = "from=9"
				w.sign(r, b, p, w.now)
				r.URL.RawQuery = query
			})
			try("for another method", 401, bus.CodeUnauthenticated, func(r *http.Request, b []byte) {
				r.Method = http.MethodDelete
				w.sign(r, b, p, w.now)
				r.Method = e.method
			})
			try("with another signature", 401, bus.CodeUnauthenticated, func(r *http.Request, b []byte) {
				w.sign(r, b, p, w.now)
				other := r.Clone(w.ctx)
				w.sign(other, b, p, w.now)
				r.Header.Set("Signature", other.Header.Get("Signature"))
			})
			try("with a parameter", 400, bus.CodeMalformed, func(r *http.Request, b []byte) {
				r.URL.RawQuery = "admin=1"
				w.sign(r, b, p, w.now)
			})

			if len(w.encode(e.body(w, p))) == 0 {
				try("with a body", 413, bus.CodeTooLarge, func(r *http.Request, _ []byte) {
					r.Body, r.ContentLength = http.NoBody, 0
					w.sign(r, nil, p, w.now)
					setBody(r, []byte("{}"))
				})
				return
			}
			try("with another body", 401, bus.CodeUnauthenticated, func(r *http.Request, b []byte) {
				w.sign(r, b, p, w.now)
				changed := bytes.Clone(b)
				changed[len(changed)-1] = ' '
				setBody(r, changed)
			})
			for what, body := range map[string]string{
				"no JSON":          "{",
				"nothing":          "",
				"an unknown field": `{"no_such_field":1}`,
				"more than JSON":   "", // filled in below
				"another type":     `["x"]`,
			} {
				try("a body of "+what, 400, bus.CodeMalformed, func(r *http.Request, b []byte) {
					raw := []byte(body)
					if what == "more than JSON" {
						raw = append(bytes.Clone(b), "{}"...)
					}
					setBody(r, raw)
					w.sign(r, raw, p, w.now)
				})
			}
			huge := bytes.Repeat([]byte(" "), bus.MaxBody+1)
			try("an oversized body", 413, bus.CodeTooLarge, func(r *http.Request, _ []byte) {
				setBody(r, huge)
				w.sign(r, huge, p, w.now)
			})
			try("an oversized body of unknown length", 413, bus.CodeTooLarge, func(r *http.Request, _ []byte) {
				setBody(r, huge)
				r.ContentLength = -1
				w.sign(r, huge, p, w.now)
			})
		})
	}
}

func setBody(r *http.Request, body []byte) {
	r.Body = http.NoBody
	r.GetBody = nil
	if len(body) > 0 {
		r.Body = readCloser{bytes.NewReader(body)}
	}
	r.ContentLength = int64(len(body))
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func TestAChangeTakesEffectOnce(t *testing.T) {
	for name, e := range endpoints() {
		if e.method == http.MethodGet {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r, raw := w.prepare(e, e.best)
			w.sign(r, raw, w.people()[e.best], w.now)
			again := r.Clone(w.ctx)
			setBody(again, raw)
			status, err := w.do(r, nil)
			w.want("first", status, err, e.ok, "")
			status, err = w.do(again, nil)
			w.want("replayed", status, err, 401, bus.CodeNonceSpent)
		})
	}
}

// A denied request must not cost the store anything: strangers could fill it.
func TestOnlyUsersSpendNonces(t *testing.T) {
	w := newWorld(t)
	for name, e := range endpoints() {
		for _, who := range []string{"stranger", "revoked", "outsider"} {
			if who == "outsider" && e.best != "admin" {
				continue
			}
			r, raw := w.prepare(e, who)
			w.sign(r, raw, w.people()[who], w.now)
			if status, _ := w.do(r, nil); status < 400 {
				t.Errorf("%s: %s got %d", name, who, status)
			}
		}
	}
	spent, err := w.store.List(w.ctx, store.Nonces, "")
	w.must(err)
	if len(spent) != 0 {
		t.Errorf("%d nonces were spent", len(spent))
	}
}

func TestANodeThatIsNotReadyChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.setReady(bus.Errorf(bus.CodeUnavailable, "check readiness: own writes last came back 9s ago"))
	for name, e := range endpoints() {
		r, raw := w.prepare(e, e.best)
		w.sign(r, raw, w.people()[e.best], w.now)
		status, err := w.do(r, nil)
		if e.method == http.MethodGet {
			w.want(name, status, err, e.ok, "")
		} else {
			w.want(name, status, err, 503, bus.CodeUnavailable)
		}
	}
	var ready api.Ready
	r, _ := w.request(http.MethodGet, api.ReadyPath(), nil)
	resp, err := w.client.Do(r)
	w.must(err)
	defer resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("readyz: %d", resp.StatusCode)
	}
	w.must(decode(resp, &ready))
	if ready.Ready || len(ready.Reasons) != 1 || !strings.Contains(ready.Reasons[0], "9s ago") {
		t.Errorf("%+v", ready)
	}
}

func TestAViewThatIsNotCurrentAdmitsNobody(t *testing.T) {
	w := newWorld(t)
	w.view.Close()
	for name, e := range endpoints() {
		r, raw := w.prepare(e, e.best)
		w.sign(r, raw, w.people()[e.best], w.now)
		status, err := w.do(r, nil)
		w.want(name, status, err, 503, bus.CodeUnavailable)
	}
}

func TestAStoreThatCannotAnswerDenies(t *testing.T) {
	w := newWorld(t)
	w.store.fail(down, nil)
	status, err := w.call(w.admin, http.MethodGet, api.UsersPath(), nil, nil)
	w.want("admin not looked up", status, err, 503, bus.CodeUnavailable)
	w.store.fail(nil, func(b store.Bucket, key string) error {
		if b == store.Nonces {
			return down(b, key)
		}
		return nil
	})
	p := w.person()
	status, err = w.call(w.admin, http.MethodPost, api.UsersPath(), api.AddUser{SignPub: p.SignPub(), Handle: "new", Role: bus.UserMember}, nil)
	w.want("nonce not spent", status, err, 503, bus.CodeUnavailable)
	w.store.fail(nil, nil)
	if _, err := w.dir.User(w.ctx, p.SignPub()); bus.CodeOf(err) != bus.CodeNotFound {
		t.Errorf("the user was added: %v", err)
	}
}

// An admin is what the store says at that moment, not what any view remembers.
func TestAdminsAreLookedUpOnEveryCall(t *testing.T) {
	w := newWorld(t)
	status, err := w.call(w.admin, http.MethodGet, api.UsersPath(), nil, nil)
	w.want("as admin", status, err, 200, "")
	w.store.fail(func(_ store.Bucket, key string) error {
		if key == "users/"+w.admin.SignPub().String() {
			return bus.Errorf(bus.CodeNotFound, "read: no such user")
		}
		return nil
	}, nil)
	status, err = w.call(w.admin, http.MethodGet, api.UsersPath(), nil, nil)
	w.want("gone from the store", status, err, 403, bus.CodeForbidden)
}

func TestCardsAuthenticateThemselvesOnly(t *testing.T) {
	w := newWorld(t)
	put := func(signer person, id bus.ID, card *identity.Card) (int, error) {
		return w.call(signer, http.MethodPut, api.CardPath(id), api.Card{Card: card.Bytes()}, nil)
	}
	status, err := put(w.outsider, w.owner.ID(), w.owner.card)
	w.want("another's card", status, err, 401, bus.CodeUnauthenticated)
	status, err = put(w.outsider, w.owner.ID(), w.outsider.card)
	w.want("under another's id", status, err, 400, bus.CodeCardMismatch)
	status, err = w.call(w.outsider, http.MethodPut, "/cards/nobody", api.Card{Card: w.outsider.card.Bytes()}, nil)
	w.want("under no id", status, err, 400, bus.CodeMalformed)
	damaged := bytes.Clone(w.outsider.card.Bytes())
	damaged[len(damaged)-1] ^= 1
	status, err = w.call(w.outsider, http.MethodPut, api.CardPath(w.outsider.ID()), api.Card{Card: damaged}, nil)
	w.want("damaged", status, err, 400, bus.CodeBadSignature)
	foreign, cardErr := identity.NewCard(w.cardless.Identity, bus.BusID{1}, w.now, w.now.Add(time.Hour))
	w.must(cardErr)
	elsewhere := w.cardless
	elsewhere.transport = w.cardless.Transport(bus.BusID{1})
	status, err = put(elsewhere, w.cardless.ID(), foreign)
	w.want("of another bus", status, err, 400, bus.CodeWrongBus)

	// The first card is how a new user begins; from then on the key counts.
	status, err = w.call(w.cardless, http.MethodGet, api.RoomsPath(), nil, nil)
	w.want("without a card", status, err, 401, bus.CodeUnauthenticated)
	status, err = put(w.cardless, w.cardless.ID(), w.cardless.card)
	w.want("first card", status, err, 204, "")
	status, err = w.call(w.cardless, http.MethodGet, api.RoomsPath(), nil, nil)
	w.want("with a card", status, err, 200, "")
}
