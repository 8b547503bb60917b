package hostile_test

import (
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// leaving is a live room of alice that carol has written in, as alice and bob
// have read, and what carol could send under its record.
type leaving struct {
	*duo
	carol *actor
	in    *inbox // bob's
	spare func(session bus.SessionID, seq bus.Seq, body string) []byte
}

func (s *stage) leaving(role bus.Role) *leaving {
	s.Helper()
	l := &leaving{duo: s.duo(false), carol: s.actor("carol")}
	s.must(l.hers.Invite(s.ctx(), l.carol.ID().String(), role))
	theirs, err := l.carol.AcceptRoom(s.ctx(), l.hers.ID())
	s.must(err)
	s.must(l.his.Refresh(s.ctx()))
	hers := s.read(l.hers, client.Now)
	l.in = s.read(l.his, client.Now)
	if role.CanWrite() {
		early := s.secret("message of carol")
		s.publish(theirs, early)
		s.must(hers.until(early))
		s.must(l.in.until(early))
	}
	rec, key := l.head()
	l.spare = func(session bus.SessionID, seq bus.Seq, body string) []byte {
		return hostile.NewFrame(rec, key, l.carol.ID(), session, seq, time.Now(), []byte(body)).Sign(l.carol.id)
	}
	return l
}

// says delivers a frame of carol's to bob, and what comes of it.
func (l *leaving) says(session bus.SessionID, seq bus.Seq) error {
	l.Helper()
	l.deliver(l.carol, l.spare(session, seq, l.lieText()))
	marker := l.secret("message")
	l.publish(l.hers, marker)
	return l.in.verdict(marker)
}

var memberLies = []lie{
	{
		name: "frame by a reader", who: member, told: "a frame by a member who may only read", want: bus.CodeNotMember,
		check: "frame.Opener: the role in the epoch; before that in the reader",
		removed: []change{
			{admitGo, "if !a.record.Role(h.Sender).CanWrite() {", "if false {"},
			{missingGo, "if !rec.Role(h.Sender).CanWrite() {", "if false {"},
		},
		tell: func(s *stage) error { return s.leaving(bus.RoleReader).says(bus.SessionID{7}, 0) },
	},
	{
		name: "frame by a stranger with the key", who: thief, told: "a frame by somebody who is no member but has the room's key", want: bus.CodeNotMember,
		check: "frame.Opener: the role in the epoch; before that in the reader, and no card is looked for",
		removed: []change{
			{admitGo, "if !a.record.Role(h.Sender).CanWrite() {", "if false {"},
			{missingGo, "if !rec.Role(h.Sender).CanWrite() {", "if false {"},
		},
		tell: func(s *stage) error {
			mallory := newIdentity(s.T)
			d := s.duo(false)
			in := s.read(d.his, client.Now)
			rec, key := d.head()
			f := hostile.NewFrame(rec, key, mallory.ID(), bus.SessionID{7}, 0, time.Now(), []byte(s.lieText()))
			d.deliverAs(mallory.ID(), f.Sign(mallory))
			marker := s.secret("message")
			s.publish(d.hers, marker)
			return in.verdict(marker)
		},
	},
	{
		name: "frame after the cut", who: member, told: "a later frame of a session by who was removed, under the record of before", want: bus.CodeEpochClosed,
		check:   "frame.Opener: the cut of the record that removed the sender",
		removed: []change{{admitGo, "if a.cut && h.Seq > a.last {", "if false {"}},
		tell: func(s *stage) error {
			l := s.leaving(bus.RoleWriter)
			s.must(l.hers.Remove(s.ctx(), l.carol.ID().String()))
			s.must(l.his.Refresh(s.ctx()))
			return l.says(l.carol.Session(), 1)
		},
	},
	{
		name: "frame of a session that nobody saw", who: member, told: "a frame of another session by who was removed", want: bus.CodeNotMember,
		check:   "frame.Opener: sessions that the cut does not list are void",
		removed: []change{{admitGo, "h.Session); !a.cut {", "h.Session); !a.cut && false {"}},
		tell: func(s *stage) error {
			l := s.leaving(bus.RoleWriter)
			s.must(l.hers.Remove(s.ctx(), l.carol.ID().String()))
			s.must(l.his.Refresh(s.ctx()))
			return l.says(bus.SessionID{7}, 0)
		},
	},
	{
		name: "frame by who was demoted", who: member, told: "a later frame by a writer who became a reader, under the record of before", want: bus.CodeEpochClosed,
		check:   "frame.Opener: the cut of the record that demoted the sender",
		removed: []change{{admitGo, "if a.cut && h.Seq > a.last {", "if false {"}},
		tell: func(s *stage) error {
			l := s.leaving(bus.RoleWriter)
			s.must(l.hers.Invite(s.ctx(), l.carol.ID().String(), bus.RoleReader))
			s.must(l.his.Refresh(s.ctx()))
			return l.says(l.carol.Session(), 1)
		},
	},
	{
		name: "frame of before a return", who: member, told: "a frame of before its removal by somebody who is a writer again", want: bus.CodeEpochClosed,
		check:   "frame.Opener: the first record that took the right bounds what came before it",
		removed: []change{{admitGo, "for e := h.Epoch + 1; e <= head.Epoch; e++ {", "for e := head.Epoch; e <= head.Epoch; e++ {"}},
		tell: func(s *stage) error {
			l := s.leaving(bus.RoleWriter)
			s.must(l.hers.Remove(s.ctx(), l.carol.ID().String()))
			s.must(l.hers.Invite(s.ctx(), l.carol.ID().String(), bus.RoleWriter))
			s.must(l.his.Refresh(s.ctx()))
			return l.says(l.carol.Session(), 1)
		},
	},
	{
		name: "frame after the grace", who: server, told: "a frame of an epoch that ended a minute ago, in a live room", want: bus.CodeEpochClosed,
		check:   "frame.Opener: the grace of live rooms",
		removed: []change{{admitGo, "if a.live && h.Epoch < head.Epoch && now.Sub(epoch.Closed) > policy.Grace {", "if false {"}},
		tell: func(s *stage) error {
			var clock expiring
			d := s.duo(false, clock.use)
			in := s.read(d.his, client.Now)
			held := d.frame(d.alice, 1, 0, s.lieText()).Sign(d.alice.id)
			s.must(d.hers.Rotate(s.ctx()))
			s.must(d.his.Refresh(s.ctx()))
			clock.ahead.Store(int64(bus.MaxGrace + 5*time.Second))
			d.deliver(d.alice, held)
			marker := s.secret("message")
			s.publish(d.hers, marker)
			return in.verdict(marker)
		},
	},
}
