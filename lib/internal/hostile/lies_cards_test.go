package hostile_test

import (
	"bytes"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

const (
	cardsGo   = "lib/client/cards.go"
	resolveGo = "lib/client/resolve.go"
	cardGo    = "lib/identity/card.go"
	pinsGo    = "lib/identity/pins.go"
	rootGo    = "lib/identity/root.go"
	makeGo    = "lib/room/make.go"
)

// lifeOfCard is that of cards made here, which began an hour ago.
const lifeOfCard = 30 * 24 * time.Hour

// invites has alice invite bob while her server shows another card of his.
func invites(s *stage, card func(alice, bob *actor) []byte) error {
	alice, bob := s.actor("alice"), s.actor("bob")
	r, _ := s.room(alice, true)
	shown := card(alice, bob)
	alice.answers(http.MethodGet, api.CardPath(bob.ID()), func(x *hostile.Exchange) {
		edit(s, x, func(c *api.Card) { c.Card = shown })
	})
	return r.Invite(s.ctx(), bob.ID().String(), bus.RoleWriter)
}

// invitesTwice has alice invite bob, and again after a restart, when her server
// shows a card of his that does not go with the first.
func invitesTwice(s *stage, bob *identity.Identity, card []byte) error {
	b, dir := s.dial(bob), s.TempDir()
	state := func(c *client.Config) { c.StateDir = dir }
	id := s.account("alice")
	alice := s.dial(id, state)
	r, _ := s.room(alice, true)
	s.must(r.Invite(s.ctx(), b.ID().String(), bus.RoleWriter))
	alice.close()
	alice = s.dial(id, state)
	s.name = s.secret("second room name")
	r, _ = s.room(alice, true)
	alice.answers(http.MethodGet, api.CardPath(b.ID()), func(x *hostile.Exchange) {
		edit(s, x, func(c *api.Card) { c.Card = card })
	})
	return r.Invite(s.ctx(), b.ID().String(), bus.RoleWriter)
}

var cardLies = []lie{
	{
		name: "card of another", who: server, told: "the card of another account for the one who is invited", want: bus.CodeCardMismatch,
		check:   "client.fetchCard: whose the card is",
		removed: []change{{cardsGo, "case card.ID() != id:", "case false:"}},
		tell: func(s *stage) error {
			return invites(s, func(_, _ *actor) []byte { return s.actor("mallory").card().Bytes() })
		},
	},
	{
		name: "card of another bus", who: server, told: "a card that the one who is invited made for another bus", want: bus.CodeWrongBus,
		check: "client.fetchCard: of which bus the card is; again in room.Next",
		removed: []change{
			{cardsGo, "case card.BusID != c.config.BusID:", "case false:"},
			{makeGo, "if specs[i].Card.BusID != specs[0].Card.BusID {", "if false {"},
		},
		tell: func(s *stage) error {
			return invites(s, func(_, bob *actor) []byte { return newCard(s, bob.id, bus.BusID{1}, lifeOfCard).Bytes() })
		},
	},
	{
		name: "card with another key", who: server, told: "a card whose HPKE key was replaced", want: bus.CodeBadSignature,
		check:   "identity.ParseCard: the signature",
		removed: []change{{cardGo, "sig[:]) {", "sig[:]) && false {"}},
		tell: func(s *stage) error {
			return invites(s, func(_, bob *actor) []byte {
				own, other := bob.card(), newIdentity(s.T).LatestKEM().Pub()
				return bytes.Replace(own.Bytes(), own.KEMPub, other, 1)
			})
		},
	},
	{
		name: "expired card", who: server, told: "a card that has expired, for somebody new", want: bus.CodeExpired,
		check:   "client.memberSpecs: the time of a newcomer's card",
		removed: []change{{"lib/client/members.go", "if err := card.CheckTime(r.client.config.Now()); err != nil {", "if err := card.CheckTime(r.client.config.Now()); err != nil && false {"}},
		tell: func(s *stage) error {
			return invites(s, func(_, bob *actor) []byte {
				return newCard(s, bob.id, s.root.BusID(), 30*time.Minute).Bytes()
			})
		},
	},
	{
		name: "older card after a restart", who: server, told: "card 1 after card 2 was seen", want: bus.CodeRollback,
		check:   "identity.CardPins: the highest number seen",
		removed: []change{{pinsGo, "case next.seq < old.seq:", "case next.seq < old.seq:\n\t\treturn pins, false, nil"}},
		tell: func(s *stage) error {
			bob := s.account("bob")
			a := s.dial(bob)
			first := a.card()
			a.close()
			s.renewHere(bob)
			return invitesTwice(s, bob, first.Bytes())
		},
	},
	{
		name: "two cards of one number", who: member, told: "another card of the number that was seen", want: bus.CodeCardFork,
		check:   "identity.CardPins: the hash of the card of that number",
		removed: []change{{pinsGo, "case next.hash != old.hash:", "case false:"}},
		tell: func(s *stage) error {
			bob := s.account("bob")
			return invitesTwice(s, bob, newCard(s, bob, s.root.BusID(), lifeOfCard).Bytes())
		},
	},
	{
		name: "signer's card of another", who: server, told: "a forger's card for that of the sender it forges", want: bus.CodeCardMismatch,
		check: "client.fetchCard: whose the card is; again by its hash and when the key is used",
		removed: []change{
			{cardsGo, "case card.ID() != id:", "case false:"},
			{cardsGo, "if err == nil && card.Hash() != hash {", "if false {"},
			{admitGo, "if identity.IDOf(pub) != h.Sender {", "if identity.IDOf(pub) != h.Sender && false {"},
		},
		tell: func(s *stage) error {
			d := s.duo(false)
			carol := s.actor("carol")
			s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleWriter))
			s.must(d.his.Refresh(s.ctx()))
			theirs, err := carol.AcceptRoom(s.ctx(), d.hers.ID())
			s.must(err)
			d.bob.answers(http.MethodGet, api.CardPath(d.alice.ID()), func(x *hostile.Exchange) {
				edit(s, x, func(c *api.Card) { c.Card = carol.card().Bytes() })
			})
			in := s.read(d.his, client.Now)
			d.deliver(d.alice, d.frame(d.alice, 1, 0, s.lieText()).Sign(carol.id))
			marker := s.secret("message")
			s.publish(theirs, marker)
			return in.verdict(marker)
		},
	},
	{
		name: "signer's other card", who: server, told: "a card of the sender that the record does not name", want: bus.CodeCardMismatch,
		check:   "client.learnSigner: the hash that the record names",
		removed: []change{{cardsGo, "if err == nil && card.Hash() != hash {", "if false {"}},
		tell: func(s *stage) error {
			d := s.duo(false)
			d.bob.answers(http.MethodGet, api.CardPath(d.alice.ID()), func(x *hostile.Exchange) {
				edit(s, x, func(c *api.Card) { c.Card = newCard(s, d.alice.id, s.root.BusID(), lifeOfCard).Bytes() })
			})
			in := s.read(d.his, client.Now)
			marker := s.secret("message")
			s.publish(d.hers, marker) // truly hers, and signed with the one key that both cards have
			_, err := in.wait(func(bodies []string, errs []error) bool { return len(bodies)+len(errs) > 0 })
			return err
		},
	},
}
