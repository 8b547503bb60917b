package hostile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

const (
	flightGo    = "lib/client/flight.go"
	ackGo       = "lib/client/ack.go"
	transportGo = "lib/identity/transport.go"
	signerGo    = "daemon/control/signer.go"
	rightsGo    = "daemon/access/rights.go"
	checkGo     = "daemon/access/check.go"
	baseGo      = "lib/httpsig/base.go"
)

var (
	lastPlace = regexp.MustCompile(`"last":[0-9]+`)
	nonceText = regexp.MustCompile(`"nonce":"[^"]*"`)
)

// acked has alice publish in a room of hers where one message is stored, and her
// server answer the next with what lie makes of the true acknowledgement, as
// often as times says.
func acked(s *stage, times int, lie func(d *duo, ack []byte) []byte) (receipt client.Receipt, err error) {
	d := s.duo(true)
	for range 3 {
		s.publish(d.hers, s.secret("message"))
	}
	var mu sync.Mutex
	d.alice.data.Down(func(m hostile.Delivery) []hostile.Delivery {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(m.Subject, ".a.") && times > 0 {
			times--
			d.alice.tell()
			m.Payload = lie(d, m.Payload)
		}
		return []hostile.Delivery{m}
	})
	return d.hers.Publish(s.ctx(), []byte(s.secret("message that is lied about")))
}

func streamOf(d *duo) string { return bus.Stream(bus.Shard(d.hers.ID())) }

// challenged dials while the server's challenge is changed.
func challenged(s *stage, nonce string) error {
	a, cfg := s.backstage(s.account("alice"))
	a.data.Info(func(line string) string {
		a.tell()
		return nonceText.ReplaceAllString(line, `"nonce":"`+nonce+`"`)
	})
	var mu sync.Mutex
	signed := false
	a.data.Heard(func(line string) {
		mu.Lock()
		defer mu.Unlock()
		signed = signed || strings.HasPrefix(line, "CONNECT")
	})
	err := a.dial(cfg)
	mu.Lock()
	defer mu.Unlock()
	if signed {
		return fmt.Errorf("it was signed: %v", err)
	}
	return err
}

var publishLies = []lie{
	{
		name: "stored before it was sent", who: server, told: "that the store had a frame before its first attempt", want: bus.CodeDedupPoisoned,
		check:   "client.handleAck: no duplicate on a first attempt",
		removed: []change{{flightGo, "case a.verdict == ackStored && a.duplicate && f.attempts == 1:", "case false:"}},
		tell: func(s *stage) error {
			_, err := acked(s, 1, func(_ *duo, ack []byte) []byte {
				return append(bytes.TrimSuffix(bytes.TrimSpace(ack), []byte("}")), `,"duplicate":true}`...)
			})
			return err
		},
	},
	{
		name: "place that goes back", who: server, told: "that a frame is stored before an earlier one", want: bus.CodeRollback,
		check:   "client.handleAck: the place of the last one acknowledged",
		removed: []change{{flightGo, "case a.verdict == ackStored && a.streamSeq <= f.after:", "case false:"}},
		tell: func(s *stage) error {
			_, err := acked(s, 1, func(d *duo, _ []byte) []byte {
				return []byte(`{"stream":"` + streamOf(d) + `","seq":1}`)
			})
			return err
		},
	},
	{
		name: "place in another stream", who: server, told: "that a frame is stored where its room is not", want: "",
		check:   "client.parseAck: the stream of the shard; the frame is sent again",
		removed: []change{{ackGo, "if reply.Seq == 0 || reply.Stream != bus.Stream(shard) {", "if reply.Seq == 0 {"}},
		sends:   1, // the same bytes again
		tell: func(s *stage) error {
			receipt, err := acked(s, 1, func(d *duo, _ []byte) []byte {
				return []byte(`{"stream":"` + bus.Stream((bus.Shard(d.hers.ID())+1)%bus.Shards) + `","seq":99999999}`)
			})
			if err == nil && receipt.StreamSeq == 99999999 {
				err = fmt.Errorf("the receipt says %d", receipt.StreamSeq)
			}
			return err
		},
	},
	{
		name: "record swallowed", who: server, told: "that a record was taken, which is then not shown", want: bus.CodeUnknownOutcome,
		check:   "client.signing: what the servers have counts, not what they say",
		removed: []change{{"lib/client/unsettled.go", "taken = err == nil\n", "if taken = err == nil; taken {\n\t\t\t\treturn s.forget()\n\t\t\t}\n"}},
		sends:   1, // the record
		tell: func(s *stage) error {
			alice := s.actor("alice")
			r, _ := s.room(alice, true)
			alice.control.Instead(func(x *hostile.Exchange) bool {
				if x.Method != http.MethodPost || x.URL.Path != api.RecordsPath(r.ID()) {
					return false
				}
				x.Reply(http.StatusCreated, nil)
				return true
			})
			alice.tell()
			return r.Rotate(s.ctx())
		},
	},
	{
		name: "made to sign twice", who: server, told: "that a record was taken, and is not there, so that its author signs another in its place", want: bus.CodeUnknownOutcome,
		check:   "client.signing: one record a place, the same bytes again",
		removed: []change{{"lib/client/unsettled.go", "if !kept.Refused {", "if false {"}},
		sends:   2, // the record, and the record
		tell: func(s *stage) error {
			alice := s.actor("alice")
			r, _ := s.room(alice, true)
			var mu sync.Mutex
			var bodies [][]byte
			alice.control.Instead(func(x *hostile.Exchange) bool {
				if x.Method != http.MethodPost || x.URL.Path != api.RecordsPath(r.ID()) {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				bodies = append(bodies, x.Body)
				x.Reply(http.StatusCreated, nil)
				return true
			})
			alice.tell()
			err := errors.Join(r.Rotate(s.ctx()), r.Rotate(s.ctx()))
			mu.Lock()
			defer mu.Unlock()
			if len(bodies) != 2 || !bytes.Equal(bodies[0], bodies[1]) {
				return fmt.Errorf("%d records were sent, not twice the same: %v", len(bodies), err)
			}
			return err
		},
	},
	{
		name: "redirection", who: server, told: "that the records are to be had at another address", want: bus.CodeMalformed,
		check:   "client.newControl: a signature is for one address",
		removed: []change{{"lib/client/control.go", "return http.ErrUseLastResponse", "return nil"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			other, _, _ := s.elsewhere()
			d.bob.answers(http.MethodGet, api.RecordsPath(d.hers.ID()), func(x *hostile.Exchange) {
				x.Status, x.Answer, x.Location = http.StatusTemporaryRedirect, nil, other.URL+x.URL.RequestURI()
			})
			err := d.his.Refresh(s.ctx())
			if n := len(other.Requests()); n > 0 {
				return fmt.Errorf("%d signed requests went elsewhere: %v", n, err)
			}
			return err
		},
	},
	{
		name: "other servers of the bus", who: server, told: "addresses of nodes that nobody configured, before the connection breaks", want: "",
		check:   "client.link: only configured servers",
		removed: []change{{"lib/client/link.go", "o.IgnoreDiscoveredServers = true", "o.IgnoreDiscoveredServers = false"}},
		tell: func(s *stage) error {
			_, other, logins := s.elsewhere()
			a, cfg := s.backstage(s.account("alice"))
			a.data.Info(func(line string) string {
				a.tell()
				return strings.Replace(line, "{", `{"connect_urls":["`+strings.TrimPrefix(other.URL, "nats://")+`"],`, 1)
			})
			s.must(a.dial(cfg))
			for n := range 2 {
				a.data.Cut()
				s.must(a.count(client.EventConnected, n+2))
			}
			if n := logins.Load(); n > 0 {
				return fmt.Errorf("%d logins went elsewhere", n)
			}
			return nil
		},
	},
	{
		name: "reply by another", who: member, told: "a reply to a request that was for somebody else", want: bus.CodeNoReply,
		check:   "client.pendingRequest: whose replies count",
		removed: []change{{"lib/client/request.go", "if !a.from.IsZero() && m.Sender != a.from {", "if false {"}},
		sends:   2, // the request, and the lie itself
		tell: func(s *stage) error {
			d := s.duo(true)
			carol := s.actor("carol")
			s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleWriter))
			theirs, err := carol.AcceptRoom(s.ctx(), d.hers.ID())
			s.must(err)
			ctx, cancel := s.within(3 * time.Second)
			defer cancel()
			heard := make(chan error, 1)
			requests := theirs.Messages(ctx, client.Now)
			go func() {
				for m, err := range requests {
					if err == nil {
						_, err = m.Reply(ctx, []byte("lie"))
					}
					heard <- err
					return
				}
			}()
			d.alice.tell()
			carol.tell()
			_, err = d.hers.Request(ctx, []byte(s.secret("request")), client.RequestOptions{From: d.bob.ID()})
			s.must(<-heard)
			return err
		},
	},
	{
		name: "challenge that is a text", who: server, told: "a nonce with a statement to be signed in it", want: bus.CodeNonceRefused,
		check:   "identity.SignNonce: its characters",
		removed: []change{{transportGo, "ok = ok && (c >= 'A'", "ok = ok && (true || c >= 'A'"}},
		tell:    func(s *stage) error { return challenged(s, "I owe the bearer 100 coins") },
	},
	{
		name: "long challenge", who: server, told: "a nonce of 2,000 characters", want: bus.CodeNonceRefused,
		check:   "identity.SignNonce: its length",
		removed: []change{{transportGo, "ok := len(nonce) >= shortest && len(nonce) <= longest", "ok := len(nonce) >= shortest"}},
		tell:    func(s *stage) error { return challenged(s, strings.Repeat("A", 2000)) },
	},
	{
		name: "short challenge", who: server, told: "a nonce of one character, of which there are few", want: bus.CodeNonceRefused,
		check:   "identity.SignNonce: its length",
		removed: []change{{transportGo, "ok := len(nonce) >= shortest && len(nonce) <= longest", "ok := len(nonce) <= longest"}},
		tell:    func(s *stage) error { return challenged(s, "A") },
	},
}

// elsewhere is a server of the liar's own, in front of which no client should
// ever sign anything.
func (s *stage) elsewhere() (control *hostile.Control, data *hostile.Data, logins *atomic.Int32) {
	s.Helper()
	control, data, logins = hostile.NewControl(s.T, s.node.URL()), hostile.NewData(s.T, s.node.ServerURL()), &atomic.Int32{}
	data.Heard(func(line string) {
		if strings.HasPrefix(line, "CONNECT") {
			logins.Add(1)
		}
	})
	return control, data, logins
}

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
		removed: []change{{"daemon/broker/filter.go", "if f.inbox == nil || !bytes.HasPrefix(fields[1], f.inbox) {", "if false {"}},
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
