package hostile_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/wire"
)

// actor is a client with a hostile server of its own in front of the node.
type actor struct {
	*client.Client
	stage   *stage
	id      *identity.Identity
	control *hostile.Control
	data    *hostile.Data

	mu     sync.Mutex
	events []client.Event
	change chan struct{}
	told   bool
	frames int // published since the lie
	before int // requests before the lie
}

// actor adds an account and connects.
func (s *stage) actor(handle string, change ...func(*client.Config)) *actor {
	s.Helper()
	return s.dial(s.account(handle), change...)
}

// account adds an account. Its handle is of this stage alone.
func (s *stage) account(handle string) *identity.Identity {
	s.Helper()
	id := newIdentity(s.T)
	_, err := s.admin.AddUser(s.ctx(), id.SignPub(), bus.Handle(handle+"-"+randomText()), bus.UserMember)
	s.must(err)
	return id
}

// backstage returns a client that has not connected, and what it is to be
// configured with.
func (s *stage) backstage(id *identity.Identity) (*actor, client.Config) {
	s.Helper()
	a := &actor{stage: s, id: id, change: make(chan struct{})}
	a.control = hostile.NewControl(s.T, s.node.URL())
	a.data = hostile.NewData(s.T, s.node.ServerURL())
	a.data.Up(a.countSent)
	s.actors = append(s.actors, a)
	s.keepSecret(id)
	return a, client.Config{
		Servers: []string{a.data.URL}, URLs: []string{a.control.URL}, BusID: s.root.BusID(), Identity: id,
		OnEvent: a.hear, Logger: logger(s.T),
	}
}

func (s *stage) dial(id *identity.Identity, change ...func(*client.Config)) *actor {
	s.Helper()
	a, err := s.tryDial(id, change...)
	s.must(err)
	return a
}

func (s *stage) tryDial(id *identity.Identity, change ...func(*client.Config)) (*actor, error) {
	s.Helper()
	a, cfg := s.backstage(id)
	for _, f := range change {
		f(&cfg)
	}
	return a, a.dial(cfg)
}

func (a *actor) dial(cfg client.Config) error {
	c, err := client.Dial(a.stage.ctx(), cfg)
	if err != nil {
		return err
	}
	a.Client = c
	a.stage.Cleanup(func() { a.close() })
	return nil
}

// close ends the client, without regard to what was never acknowledged.
func (a *actor) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.Close(ctx); err != nil {
		a.stage.Logf("close: %v", err)
	}
}

// keepSecret has the keys of an identity looked for.
func (s *stage) keepSecret(id *identity.Identity) {
	s.Helper()
	lines := strings.Split(strings.TrimSpace(string(id.Marshal())), "\n")
	raw, err := base64.RawURLEncoding.DecodeString(lines[len(lines)-1])
	s.must(err)
	const seed = 32
	busID := s.root.BusID()
	s.secrets = append(s.secrets,
		hostile.Secret{Name: "signing key of " + id.ID().String(), Value: raw[:seed]},
		hostile.Secret{Name: "card key of " + id.ID().String(), Value: raw[len(raw)-seed:]},
		hostile.Secret{Name: "transport key of " + id.ID().String(), Value: wire.DeriveKey(raw[:seed], busID[:], wire.LabelTransport, seed)},
	)
}

// tell notes that the lie is told now: what the client sends from here on is
// counted.
func (a *actor) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told {
		return
	}
	a.told, a.frames, a.before = true, 0, len(a.control.Requests())
	a.stage.mu.Lock()
	defer a.stage.mu.Unlock()
	a.stage.told = true
}

// sent returns how many frames and how many requests that change something the
// client has sent since the lie.
func (a *actor) sent() (frames, changes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.told {
		return 0, 0
	}
	for _, x := range a.control.Requests()[a.before:] {
		if x.Method != http.MethodGet && x.URL.Path != api.CursorsPath() {
			changes++
		}
	}
	return a.frames, changes
}

func (a *actor) countSent(m hostile.Sent) []hostile.Sent {
	if strings.HasPrefix(m.Subject, "ub.d.") || strings.HasPrefix(m.Subject, "ub.l.") {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.frames++
	}
	return []hostile.Sent{m}
}

func (a *actor) hear(e client.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
	close(a.change)
	a.change = make(chan struct{})
}

// event waits for the first event of a kind and returns its error.
func (a *actor) event(kind client.EventKind) error { return a.count(kind, 1) }

// count waits for the nth event of a kind and returns its error.
func (a *actor) count(kind client.EventKind, n int) error {
	a.stage.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		var found []error
		a.mu.Lock()
		for _, e := range a.events {
			if e.Kind == kind {
				found = append(found, e.Err)
			}
		}
		change := a.change
		a.mu.Unlock()
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-change:
		case <-limit.C:
			return errors.New("no event " + string(kind))
		}
	}
}

// answers has the answers to requests of a method and path changed, and the lie
// told with the first of them.
func (a *actor) answers(method, path string, lie func(*hostile.Exchange)) {
	a.control.Set(func(x *hostile.Exchange) {
		if x.Method == method && x.URL.Path == path {
			a.tell()
			lie(x)
		}
	})
}

// edit changes the JSON of an answer.
func edit[T any](s *stage, x *hostile.Exchange, change func(*T)) {
	var v T
	if err := json.Unmarshal(x.Answer, &v); err != nil {
		s.Errorf("answer %.200q: %v", x.Answer, err)
		return
	}
	change(&v)
	x.Reply(x.Status, v)
}

// card returns the newest card that the client has shown the servers.
func (a *actor) card() *identity.Card {
	a.stage.Helper()
	for _, x := range slices.Backward(a.control.Requests()) {
		if x.Method == http.MethodPut && x.URL.Path == api.CardPath(a.id.ID()) {
			var c api.Card
			a.stage.must(json.Unmarshal(x.Body, &c))
			card, err := identity.ParseCard(c.Card)
			a.stage.must(err)
			return card
		}
	}
	a.stage.Fatal("no card was shown")
	return nil
}

func newCard(s *stage, id *identity.Identity, busID bus.BusID, life time.Duration) *identity.Card {
	s.Helper()
	from := time.Now().Truncate(time.Second).Add(-time.Hour)
	card, err := identity.NewCard(id, busID, from, from.Add(life))
	s.must(err)
	return card
}
