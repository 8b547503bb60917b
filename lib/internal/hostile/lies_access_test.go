package hostile_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// oversteps has carol, who has an account, say something to the server that her
// library never would, and returns what the server thinks of it.
func oversteps(s *stage, say func(d *duo, carol *actor) error) error {
	d := s.duo(false)
	in := s.read(d.his, client.Now)
	carol := s.actor("carol")
	d.bob.tell()
	s.must(say(d, carol))
	err := carol.event(client.EventDenied)
	marker := s.secret("message")
	s.publish(d.hers, marker)
	s.must(in.until(marker))
	return err
}

// requestAgain sends a request of bob's that was recorded once more, changed, and
// returns what the node says.
func requestAgain(s *stage, method, part string, change func(r *http.Request)) error {
	d := s.duo(true)
	for _, x := range d.bob.control.Requests() {
		if x.Method != method || !strings.Contains(x.URL.Path, part) {
			continue
		}
		d.bob.tell()
		r := x.Request.Clone(context.Background())
		change(r)
		answer, err := d.bob.control.Send(s.ctx(), r, x.Body)
		s.must(err)
		return problemOf(answer)
	}
	s.Fatal("there was no such request")
	return nil
}

// problemOf returns the error that an answer is.
func problemOf(x *hostile.Exchange) error {
	if x.Status < 300 {
		return nil
	}
	var p api.Problem
	if err := json.Unmarshal(x.Answer, &p); err != nil {
		return err
	}
	return bus.Errorf(p.Code, "%s", p.Detail)
}

var accessLies = []lie{
	{
		name: "publishing as another", who: member, told: "a frame on another's subject", want: bus.CodeForbidden,
		check:   "access.rightsOf: the own subject in each room; the reader would refuse it too",
		removed: []change{{rightsGo, "bus.DataSubject(m.Room, id, m.Persisted))", "bus.RoomSubject(m.Room, m.Persisted))"}},
		tell: func(s *stage) error {
			d := s.duo(false)
			in := s.read(d.hers, client.Now)
			d.alice.tell()
			s.must(d.bob.data.Conn().Publish(hostile.Sent{Subject: bus.DataSubject(d.hers.ID(), d.alice.ID(), false), Payload: []byte("not even a frame")}))
			err := d.bob.event(client.EventDenied)
			marker := s.secret("message")
			s.publish(d.his, marker)
			s.must(in.until(marker))
			return err
		},
	},
	{
		name: "writing in a room of others", who: member, told: "a frame to a room that its sender is not in", want: bus.CodeForbidden,
		check:   "access.rightsOf: rooms of the member alone",
		removed: []change{{rightsGo, "\tslices.Sort(r.publish)\n", "\tr.publish = append(r.publish, \"ub.l.>\")\n\tslices.Sort(r.publish)\n"}},
		tell: func(s *stage) error {
			return oversteps(s, func(d *duo, carol *actor) error {
				return carol.data.Conn().Publish(hostile.Sent{Subject: bus.DataSubject(d.hers.ID(), carol.ID(), false), Payload: []byte("noise")})
			})
		},
	},
	{
		name: "listening to a room of others", who: member, told: "a subscription to a room that its reader is not in", want: bus.CodeForbidden,
		check:   "access.rightsOf: rooms of the member alone",
		removed: []change{{rightsGo, "\tslices.Sort(r.subscribe)\n", "\tr.subscribe = append(r.subscribe, \"ub.l.>\")\n\tslices.Sort(r.subscribe)\n"}},
		tell: func(s *stage) error {
			return oversteps(s, func(d *duo, carol *actor) error {
				return carol.data.Conn().Say("SUB " + bus.RoomSubject(d.hers.ID(), false) + " 999")
			})
		},
	},
	{
		name: "forged acknowledgement", who: member, told: "an acknowledgement into another's inbox", want: bus.CodeForbidden,
		check:   "access.rightsOf: nobody publishes to an inbox",
		removed: []change{{rightsGo, "\tslices.Sort(r.publish)\n", "\tr.publish = append(r.publish, \"_INBOX.>\")\n\tslices.Sort(r.publish)\n"}},
		tell: func(s *stage) error {
			return oversteps(s, func(d *duo, carol *actor) error {
				inbox := bus.InboxPrefix(d.alice.id.Transport(s.root.BusID()).NKey())
				return carol.data.Conn().Publish(hostile.Sent{Subject: inbox + ".a.1", Payload: []byte(`{"stream":"` + streamOf(d) + `","seq":1}`)})
			})
		},
	},
	{
		name: "answers sent to another", who: member, told: "a frame of its own whose answer is to go to another's inbox", want: bus.CodeForbidden,
		check:   "broker.filter: replies go to the own inbox",
		removed: []change{{"daemon/broker/filter.go", "if !f.owns(reply) {", "if false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			d.alice.tell()
			inbox := bus.InboxPrefix(d.alice.id.Transport(s.root.BusID()).NKey())
			s.must(d.bob.data.Conn().Publish(hostile.Sent{
				Subject: bus.DataSubject(d.hers.ID(), d.bob.ID(), true), Reply: inbox + ".a.1",
				Header:  []byte("NATS/1.0\r\nNats-Msg-Id: " + randomText() + "\r\n\r\n"),
				Payload: d.frame(d.bob, 1, 0, "mine-"+randomText()).Sign(d.bob.id),
			}))
			return d.bob.event(client.EventDenied)
		},
	},
	{
		name: "reading another's notices", who: member, told: "a subscription to the notices of another", want: bus.CodeForbidden,
		check:   "access.rightsOf: the own notices",
		removed: []change{{rightsGo, "bus.NoticeSubject(id),", "\"ub.c.*\","}},
		tell: func(s *stage) error {
			return oversteps(s, func(d *duo, carol *actor) error {
				return carol.data.Conn().Say("SUB " + bus.NoticeSubject(d.alice.ID()) + " 999")
			})
		},
	},
	{
		name: "a request twice", who: thief, told: "a recorded request, word for word", want: bus.CodeNonceSpent,
		check:   "control.admit: a nonce counts once",
		removed: []change{{signerGo, "return s.cfg.Directory.SpendNonce(req.ctx, verified.Key, verified.Nonce)", "return nil"}},
		tell: func(s *stage) error {
			return requestAgain(s, http.MethodPut, "/cards/", func(*http.Request) {})
		},
	},
	{
		name: "a request for something else", who: thief, told: "a recorded request with another path", want: bus.CodeUnauthenticated,
		check:   "httpsig.Verify: the path is signed",
		removed: []change{{baseGo, "path, _, err := target(req)\n\t\treturn path, err", "return \"/\", nil"}},
		tell: func(s *stage) error {
			return requestAgain(s, http.MethodGet, "/keys/", func(r *http.Request) { r.URL.Path = api.RoomsPath() })
		},
	},
	{
		name: "a request at another server", who: server, told: "a request that was made to another address", want: bus.CodeUnauthenticated,
		check:   "httpsig.Verify: the authority is signed",
		removed: []change{{baseGo, "return authority(req)\n", "return \"any\", nil\n"}},
		tell: func(s *stage) error {
			return requestAgain(s, http.MethodGet, "/rooms/", func(r *http.Request) { r.Host = "another.example:8443" })
		},
	},
	{
		name: "a login again", who: thief, told: "a recorded login, on a connection of its own", want: bus.CodeUnauthenticated,
		check:   "access.Check: the nonce of this very connection is signed",
		removed: []change{{checkGo, "!ed25519.Verify(transport[:], nonce, sig) {", "!ed25519.Verify(transport[:], nonce, sig) && false {"}},
		tell: func(s *stage) error {
			a, cfg := s.backstage(s.account("alice"))
			var mu sync.Mutex
			var login string
			a.data.Heard(func(line string) {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(line, "CONNECT") && login == "" {
					login = line
				}
			})
			s.must(a.dial(cfg))
			a.tell()
			mu.Lock()
			defer mu.Unlock()
			return s.login(login)
		},
	},
	{
		name: "a login for another bus", who: server, told: "the challenge of this bus, by a server of another one that the same identity is on", want: bus.CodeUnauthenticated,
		check:   "identity.Transport: a key for each bus",
		removed: []change{{transportGo, "wire.DeriveKey(id.sign.Seed(), b[:], wire.LabelTransport", "wire.DeriveKey(id.sign.Seed(), nil, wire.LabelTransport"}},
		sends:   1, // the card for that other bus
		tell: func(s *stage) error {
			s.actor("somebody")
			id := s.account("alice")
			s.dial(id)
			a, cfg := s.backstage(id)
			cfg.BusID = bus.BusID{1}
			a.control.Instead(func(x *hostile.Exchange) bool {
				a.tell()
				switch x.Method {
				case http.MethodPut:
					x.Status = http.StatusNoContent
				default:
					x.Fail(bus.CodeNotFound)
				}
				return true
			})
			return a.dial(cfg)
		},
	},
	{
		name: "identity after its revocation", who: thief, told: "a copied identity and state, after the account was revoked", want: bus.CodeRevoked,
		check: "control.findSigner and findCardHolder: the account is active; again in access.userOf and in the directory",
		removed: []change{
			{signerGo, "if !user.Active() {", "if false {"},
			{signerGo, "case !user.Active():", "case false:"},
			{"lib/directory/card.go", "return bus.Errorf(bus.CodeRevoked", "_ = bus.Errorf(bus.CodeRevoked"},
			{checkGo, "if !user.Active() {", "if false {"},
		},
		tell: func(s *stage) error {
			dir := s.TempDir()
			d := s.duo(true, func(c *client.Config) { c.StateDir = dir })
			stolen := s.TempDir()
			s.copyDir(dir, stolen)
			_, err := s.admin.RevokeUser(s.ctx(), d.bob.SignPub())
			s.must(err)
			a, cfg := s.backstage(d.bob.id)
			cfg.StateDir = stolen
			a.tell()
			return a.dial(cfg)
		},
	},
	{
		name: "state of before the removal", who: thief, told: "a copied identity and state, on a machine of the thief's, after the member was removed", want: bus.CodeNotMember,
		check: "client.flights: the role in the head; again in frame.NewSealer, and by the key that is missing",
		removed: []change{
			{flightGo, "case !role.Valid():", "case false:"},
			{flightGo, "case !role.CanWrite():", "case false:"},
			{"lib/frame/seal.go", "if !rec.Role(id.ID()).CanWrite() {", "if false {"},
		},
		tell: func(s *stage) error {
			dir := s.TempDir()
			d := s.duo(true, func(c *client.Config) { c.StateDir = dir })
			stolen := s.TempDir()
			s.copyDir(dir, stolen)
			d.bob.close()
			s.must(d.hers.Remove(s.ctx(), d.bob.ID().String()))
			thief := s.dial(d.bob.id, func(c *client.Config) { c.StateDir = stolen })
			r, err := thief.Room(s.ctx(), d.hers.ID().String())
			s.must(err)
			thief.tell()
			return s.refusesToSend(r)
		},
	},
	{
		name: "removed member at the server", who: thief, told: "a frame with the key of before the removal, past the own library", want: bus.CodeForbidden,
		check:   "access.rightsOf: rooms of the head",
		removed: []change{{rightsGo, "\tslices.Sort(r.publish)\n", "\tr.publish = append(r.publish, \"ub.d.>\")\n\tslices.Sort(r.publish)\n"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			old := d.frame(d.bob, 1, 0, s.lieText()).Sign(d.bob.id)
			s.must(d.hers.Remove(s.ctx(), d.bob.ID().String()))
			d.alice.tell()
			refused := d.bob.refusal()
			s.must(d.bob.data.Conn().Publish(hostile.Sent{Subject: bus.DataSubject(d.hers.ID(), d.bob.ID(), true), Payload: old}))
			s.must(d.bob.data.Conn().Say("PING"))
			err := refused()
			_, readErr := s.read(d.hers, client.Stored).wait(func([]string, []error) bool { return false })
			s.must(readErr)
			return err
		},
	},
	{
		name: "identity renewed by a thief", who: thief, told: "a later card of the own identity, whose key a copy has made", want: bus.CodeRollback,
		check:   "client.findCard: a card whose key is not here",
		removed: []change{{cardsGo, "case err == nil && theirs.Seq > latest.CardSeq:", "case err == nil && theirs.Seq > latest.CardSeq:\n\t\treturn theirs, true, nil"}},
		tell: func(s *stage) error {
			id := s.account("alice")
			stolen := s.copyOf(id)
			s.dial(id).close()
			s.renew(stolen)
			a, cfg := s.backstage(id)
			a.tell()
			return a.dial(cfg)
		},
	},
	{
		name: "identity renewed twice", who: thief, told: "a card of the next number, whose key a copy has made", want: bus.CodeCardFork,
		check:   "client.findCard: the card of the own newest key",
		removed: []change{{cardsGo, "theirs.Seq == latest.CardSeq && !bytes.Equal(theirs.KEMPub, latest.Pub()):", "theirs.Seq == latest.CardSeq && !bytes.Equal(theirs.KEMPub, latest.Pub()) && false:"}},
		tell: func(s *stage) error {
			id := s.account("alice")
			stolen := s.copyOf(id)
			s.dial(id).close()
			s.renew(stolen)
			s.renewHere(id)
			a, cfg := s.backstage(id)
			a.tell()
			return a.dial(cfg)
		},
	},
}
