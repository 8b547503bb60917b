package hostile_test

import (
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/room"
)

const keyGo = "lib/room/key.go"

// recordOf has bob's server show him a next record that signer made, and which
// no honest server would take.
func recordOf(s *stage, change func(d *duo, r *hostile.Record), signer func(d *duo) *actor) error {
	d := s.duo(true)
	r := d.next()
	change(d, r)
	d.bob.shows(d.hers.ID(), d.log(), r.Sign(signer(d).id))
	return d.his.Refresh(s.ctx())
}

func byAlice(d *duo) *actor { return d.alice }

// recordOfAdmin is recordOf where carol, an admin, makes the record.
func recordOfAdmin(s *stage, change func(d *duo, carol *actor, r *hostile.Record)) error {
	d := s.duo(true)
	carol := s.actor("carol")
	s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleAdmin))
	s.must(d.his.Refresh(s.ctx()))
	r := d.next()
	r.Members = append(r.Members, hostile.Line{Card: carol.card(), Role: bus.RoleAdmin})
	r.Sort()
	change(d, carol, r)
	d.bob.shows(d.hers.ID(), d.log(), r.Sign(carol.id))
	return d.his.Refresh(s.ctx())
}

// give changes the role of a member in a record.
func give(r *hostile.Record, who *actor, role bus.Role) {
	for i := range r.Members {
		if r.Members[i].Card.ID() == who.ID() {
			r.Members[i].Role = role
		}
	}
	r.Sort()
}

var recordLies = []lie{
	{
		name: "forged record", who: server, told: "a record that its signer did not sign", want: bus.CodeBadSignature,
		check:   "room.ParseRecord: the signature",
		removed: []change{{recordGo, "if !wire.Verify(r.Signer[:], wire.LabelRecord, body, sig) {", "if !wire.Verify(r.Signer[:], wire.LabelRecord, body, sig) && false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			signed := d.next().Sign(d.alice.id)
			signed.Record[len(signed.Record)-1] ^= 1
			d.bob.shows(d.hers.ID(), d.log(), signed)
			return d.his.Refresh(s.ctx())
		},
	},
	{
		name: "ghost in the list of members", who: server, told: "a list of members with one more reader", want: bus.CodeMembersMismatch,
		check:   "room.ParseRecord: the hash of the list",
		removed: []change{{recordGo, "if wire.Hash(wire.LabelMembers, r.members) != r.MembersHash {", "if false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			signed := d.next().Sign(d.alice.id)
			ghost := slices.Clone(signed.Members[4:][:97])
			for i := range 32 {
				ghost[i] = 0xff // after everybody else
			}
			ghost[64] = byte(bus.RoleReader)
			signed.Members = append(signed.Members, ghost...)
			size := len(signed.Members) - 4
			signed.Members[2], signed.Members[3] = byte(size>>8), byte(size)
			d.bob.shows(d.hers.ID(), d.log(), signed)
			return d.his.Refresh(s.ctx())
		},
	},
	{
		name: "record by a writer", who: member, told: "a record that a member without authority has signed", want: bus.CodeNotAuthority,
		check:   "room.Record.Follows: authority in the head",
		removed: []change{{rulesGo, "if !role.IsAuthority() {", "if !role.IsAuthority() && false {"}},
		tell: func(s *stage) error {
			return recordOf(s, func(*duo, *hostile.Record) {}, func(d *duo) *actor { return d.bob })
		},
	},
	{
		name: "record after another than the head", who: member, told: "a record of the next epoch that names no record known as the one before", want: bus.CodeFork,
		check: "room.Chain.Accept: the hash of the head; again in Record.Follows",
		removed: []change{
			{chainGo, "if r.Epoch == head.Epoch+1 && r.Prev != head.hash {", "if false {"},
			{rulesGo, "case r.Prev != head.hash:", "case false:"},
		},
		tell: func(s *stage) error {
			var d *duo
			err := recordOf(s, func(made *duo, r *hostile.Record) { d, r.Prev = made, bus.RecordHash{1} }, byAlice)
			return s.stopped(err, d.his)
		},
	},
	{
		name: "record by a stranger who makes itself owner", who: server, told: "a record that gives its own signer authority", want: bus.CodeNotAuthority,
		check: "room.Record.Follows: authority in the head; again in what an admin may change",
		removed: []change{
			{rulesGo, "if !role.IsAuthority() {", "if !role.IsAuthority() && false {"},
			{rulesGo, "if role == bus.RoleOwner {", "if true {"},
		},
		tell: func(s *stage) error {
			mallory := s.actor("mallory")
			return recordOf(s, func(_ *duo, r *hostile.Record) {
				r.Members = append(r.Members, hostile.Line{Card: mallory.card(), Role: bus.RoleOwner})
				r.Sort()
			}, func(*duo) *actor { return mallory })
		},
	},
	{
		name: "admin makes an admin", who: member, told: "a record by an admin with one more admin", want: bus.CodeTransition,
		check: "room.permittedToAdmin: who has authority",
		removed: []change{
			{rulesGo, "if len(r.Authorities) != len(head.Authorities) {", "if false {"},
			{rulesGo, "for i, a := range r.Authorities {", "for i, a := range r.Authorities[:0] {"},
		},
		tell: func(s *stage) error {
			return recordOfAdmin(s, func(d *duo, _ *actor, r *hostile.Record) { give(r, d.bob, bus.RoleAdmin) })
		},
	},
	{
		name: "admin makes itself owner", who: member, told: "a record by an admin who is owner in it", want: bus.CodeTransition,
		check:   "room.permittedToAdmin: each authority as before",
		removed: []change{{rulesGo, "if a != head.Authorities[i] {", "if a != head.Authorities[i] && false {"}},
		tell: func(s *stage) error {
			return recordOfAdmin(s, func(_ *duo, carol *actor, r *hostile.Record) { give(r, carol, bus.RoleOwner) })
		},
	},
	{
		name: "admin changes the policy", who: member, told: "a record by an admin without storage", want: bus.CodeTransition,
		check:   "room.permittedToAdmin: the policy",
		removed: []change{{rulesGo, "if r.Policy != head.Policy {", "if false {"}},
		tell: func(s *stage) error {
			return recordOfAdmin(s, func(_ *duo, _ *actor, r *hostile.Record) { r.Policy.Flags &^= bus.FlagPersist })
		},
	},
	{
		name: "admin renames the room", who: member, told: "a record by an admin with another name, which no server can see", want: bus.CodeTransition,
		check:   "room.Chain.AcceptWithKey: the name",
		removed: []change{{chainGo, "if name != old {", "if false {"}},
		tell: func(s *stage) error {
			return recordOfAdmin(s, func(_ *duo, _ *actor, r *hostile.Record) { r.Name = bus.RoomName(s.secret("other name")) })
		},
	},
	{
		name: "encryption turned off", who: member, told: "a record by the owner, of a room without encryption", want: bus.CodeTransition,
		check:   "room.Record.Follows: encryption is fixed",
		removed: []change{{rulesGo, "if r.Policy.Suite != head.Policy.Suite || r.Policy.Encrypted() != head.Policy.Encrypted() {", "if false {"}},
		tell: func(s *stage) error {
			return recordOf(s, func(_ *duo, r *hostile.Record) {
				r.Policy.Suite, r.Policy.Flags = bus.SuitePlain, bus.FlagPersist
				r.Name = "public" // it stands in the record
			}, byAlice)
		},
	},
	{
		name: "room without an owner", who: member, told: "a record whose only authority is an admin", want: bus.CodeTransition,
		check:   "room.Record.Follows: an owner stays",
		removed: []change{{rulesGo, "if !r.hasOwner() {", "if false {"}},
		tell: func(s *stage) error {
			return recordOf(s, func(d *duo, r *hostile.Record) { give(r, d.alice, bus.RoleAdmin) }, byAlice)
		},
	},
	{
		name: "cut of a member in good standing", who: member, told: "a record that unsays what a writer said", want: bus.CodeTransition,
		check:   "room.Record.Follows: cuts",
		removed: []change{{rulesGo, "if !head.Role(c.ID).CanWrite() || r.Role(c.ID).CanWrite() {", "if false {"}},
		tell: func(s *stage) error {
			return recordOf(s, func(d *duo, r *hostile.Record) {
				r.Cuts = []room.Cut{{ID: d.bob.ID(), Session: d.bob.Session(), LastSeq: 0}}
			}, byAlice)
		},
	},
	{
		name: "authority who is no member", who: member, told: "a record with an authority that the list of members hides", want: bus.CodeMembersMismatch,
		check: "room.ParseRecord: authorities and members agree, in number and one by one",
		removed: []change{
			{recordGo, "if authorities != len(r.Authorities) {", "if false {"},
			{recordGo, "!ok || m.Role != a.Role {", "(!ok || m.Role != a.Role) && false {"},
		},
		tell: func(s *stage) error {
			mallory := s.actor("mallory")
			return recordOf(s, func(_ *duo, r *hostile.Record) {
				members := slices.Clone(r.Members)
				r.Members = append(r.Members, hostile.Line{Card: mallory.card(), Role: bus.RoleOwner})
				r.Sort()
				r.Members = members
			}, byAlice)
		},
	},
	{
		name: "members out of order", who: member, told: "a list in which members can be found twice, or not at all", want: bus.CodeMalformed,
		check:   "room.ParseRecord: members ascend",
		removed: []change{{recordGo, "case i > 0 && bytes.Compare(last[:], m.ID[:]) >= 0:", "case i > 0 && bytes.Compare(last[:], m.ID[:]) >= 0 && false:"}},
		tell: func(s *stage) error {
			return recordOf(s, func(_ *duo, r *hostile.Record) { slices.Reverse(r.Members) }, byAlice)
		},
	},
	{
		name: "authorities out of order", who: member, told: "authorities of whom two records cannot be compared", want: bus.CodeMalformed,
		check:   "room.ParseRecord: authorities ascend",
		removed: []change{{recordGo, "if n := len(r.Authorities); n > 0 && bytes.Compare(r.Authorities[n-1].SignPub[:], a.SignPub[:]) >= 0 {", "if false {"}},
		tell: func(s *stage) error {
			return recordOf(s, func(d *duo, r *hostile.Record) {
				give(r, d.bob, bus.RoleAdmin)
				slices.Reverse(r.Authorities)
			}, byAlice)
		},
	},
	{
		name: "cuts out of order", who: member, told: "cuts of which one session has two", want: bus.CodeMalformed,
		check:   "room.ParseRecord: cuts ascend",
		removed: []change{{recordGo, "if n := len(r.Cuts); n > 0 && compareCuts(r.Cuts[n-1], c) >= 0 {", "if false {"}},
		tell: func(s *stage) error {
			return recordOf(s, func(d *duo, r *hostile.Record) {
				give(r, d.bob, bus.RoleReader)
				cut := room.Cut{ID: d.bob.ID(), Session: bus.SessionID{1}, LastSeq: 0}
				r.Cuts = []room.Cut{cut, cut}
			}, byAlice)
		},
	},
	{
		name: "record for ever", who: member, told: "a record that is valid for 91 days", want: bus.CodeMalformed,
		check:   "room.ParseRecord: its life",
		removed: []change{{recordGo, "life <= 0 || life > bus.MaxRecordLife {", "life <= 0 {"}},
		tell: func(s *stage) error {
			return recordOf(s, func(_ *duo, r *hostile.Record) { r.NotAfter = r.Created.Add(bus.MaxRecordLife + 24*time.Hour) }, byAlice)
		},
	},
}
