package hostile_test

import (
	"bytes"
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
				if logins.Load() > 0 {
					return errors.New("it signed in elsewhere")
				}
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
