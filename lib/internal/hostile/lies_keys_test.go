package hostile_test

import (
	"errors"
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/room"
)

// rotated has alice make a new record, as bob's server then lies about its key.
func rotated(s *stage, lie func(d *duo, x *hostile.Exchange)) error {
	d := s.duo(true)
	d.bob.answers(http.MethodGet, api.KeyPath(d.hers.ID(), d.hers.Epoch()+1), func(x *hostile.Exchange) { lie(d, x) })
	s.must(d.hers.Rotate(s.ctx()))
	return s.stopped(d.his.Refresh(s.ctx()), d.his)
}

// sealedBy has alice make a record in which bob's copy of the key is of her
// choice, and which every server takes.
func sealedBy(s *stage, seal func(d *duo, r *hostile.Record, m hostile.Line) []byte) error {
	d := s.duo(true)
	r := d.next()
	r.Seal = func(r *hostile.Record, m hostile.Line) []byte {
		if m.Card.ID() == d.bob.ID() {
			return seal(d, r, m)
		}
		return r.SealTo(m.Card, m, r.Key[:])
	}
	d.bob.tell()
	s.must(d.alice.upload(d.hers.ID(), r.Sign(d.alice.id)))
	return s.stopped(d.his.Refresh(s.ctx()), d.his)
}

// stopsSending are the edits after which a client goes on sending under a record
// whose successor it could not open.
var stopsSending = change{modelGo, "case forked || elsewhere || unopened:", "case forked || elsewhere || unopened && false:"}

var keyLies = []lie{
	{
		name: "key of the server", who: server, told: "a sealed key that the server made for the member", want: bus.CodeSealedMismatch,
		check: "room.Record.OpenKey: the hash of the sealed key; again by the commitment and the name under it",
		removed: []change{
			{keyGo, "case HashSealed(sealed) != m.SealedHash:", "case false:"},
			{keyGo, "r.Commitment[:]) != 1 {", "r.Commitment[:]) != 1 && false {"},
			{chainGo, "if _, err := r.OpenName(k); err != nil {", "if _, err := r.OpenName(k); err != nil && false {"},
		},
		tell: func(s *stage) error {
			return rotated(s, func(d *duo, x *hostile.Exchange) {
				recs, err := d.hers.Log(s.Context())
				if err != nil {
					s.Error(err)
					return
				}
				rec := recs[len(recs)-1]
				r := &hostile.Record{Room: rec.Room, Epoch: rec.Epoch, Prev: rec.Prev, Salt: rec.Salt, Commitment: rec.Commitment}
				edit(s, x, func(k *api.SealedKey) {
					k.Blob = r.SealTo(d.bob.card(), hostile.Line{Card: d.bob.card()}, make([]byte, 32))
				})
			})
		},
	},
	{
		name: "key withheld", who: server, told: "that the member has no key of the next record", want: bus.CodeNotFound,
		check:   "client.judge: a successor that does not open is doubt",
		removed: []change{stopsSending},
		tell: func(s *stage) error {
			return rotated(s, func(_ *duo, x *hostile.Exchange) { x.Fail(bus.CodeNotFound) })
		},
	},
	{
		name: "key for somebody else", who: member, told: "a sealed key that another card opens", want: bus.CodeDecrypt,
		check:   "HPKE itself; client.judge: a successor that does not open is doubt",
		removed: []change{stopsSending},
		tell: func(s *stage) error {
			return sealedBy(s, func(_ *duo, r *hostile.Record, m hostile.Line) []byte {
				return r.SealTo(newCard(s, newIdentity(s.T), s.root.BusID(), lifeOfCard), m, r.Key[:])
			})
		},
	},
	{
		name: "another key for one member", who: member, told: "a sealed key that is not the one the others have", want: bus.CodeKeyMismatch,
		check: "room.Record.OpenKey: the commitment; again by the name under it",
		removed: []change{
			{keyGo, "r.Commitment[:]) != 1 {", "r.Commitment[:]) != 1 && false {"},
			{chainGo, "if _, err := r.OpenName(k); err != nil {", "if _, err := r.OpenName(k); err != nil && false {"},
		},
		tell: func(s *stage) error {
			return sealedBy(s, func(_ *duo, r *hostile.Record, m hostile.Line) []byte {
				return r.SealTo(m.Card, m, make([]byte, 32))
			})
		},
	},
	{
		name: "key of the epoch before", who: member, told: "a sealed key that who was removed still has", want: bus.CodeKeyMismatch,
		check: "room.Record.OpenKey: the commitment; again by the name under it",
		removed: []change{
			{keyGo, "r.Commitment[:]) != 1 {", "r.Commitment[:]) != 1 && false {"},
			{chainGo, "if _, err := r.OpenName(k); err != nil {", "if _, err := r.OpenName(k); err != nil && false {"},
		},
		tell: func(s *stage) error {
			return sealedBy(s, func(_ *duo, r *hostile.Record, m hostile.Line) []byte {
				return r.SealTo(m.Card, m, r.Earlier[:])
			})
		},
	},
	{
		name: "history that does not fit", who: member, told: "another key of the epoch before, to a newcomer", want: bus.CodeKeyMismatch,
		check:   "room.Record.OpenHistory: the commitment of the record before",
		removed: []change{{keyGo, "if err := prev.CheckKey(earlier); err != nil {", "if err := prev.CheckKey(earlier); err != nil && false {"}},
		tell: func(s *stage) error {
			alice, bob := s.actor("alice"), s.actor("bob")
			r, _ := s.room(alice, true)
			s.publish(r, s.secret("message of before"))
			d := &duo{stage: s, alice: alice, bob: bob, hers: r}
			next := d.next()
			next.Earlier = room.Key{1}
			s.must(alice.upload(r.ID(), next.Sign(alice.id)))
			theirs, err := bob.AcceptRoom(s.ctx(), r.ID())
			s.must(err)
			bob.tell()
			var errs []error
			for _, err := range theirs.Messages(s.ctx(), client.Stored) {
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	},
}
