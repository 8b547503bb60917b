package hostile_test

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// again has bob, who reads from now on, given the same bytes as an earlier reader
// of his.
func again(s *stage) error {
	d := s.duo(false)
	in := s.read(d.his, client.Now)
	body := "once-" + randomText()
	data := d.frame(d.alice, 1, 0, body).Sign(d.alice.id)
	d.deliver(d.alice, data)
	s.must(in.until(body))
	in.end()
	s.becomesLie(body)
	next := s.read(d.his, client.Now)
	d.deliver(d.alice, data)
	marker := s.secret("message")
	s.publish(d.hers, marker)
	return next.verdict(marker)
}

var replayLies = []lie{
	{
		name: "frame twice", who: server, told: "the same bytes three times", want: "",
		check:   "frame.Window: what was opened before",
		removed: []change{{openGo, "if before != nil && before.Hash() == hash {", "if false {"}, {openGo, "if before != nil {\n", "if false {\n"}},
		tell: func(s *stage) error {
			d := s.duo(false)
			in := s.read(d.his, client.Now)
			data := d.frame(d.alice, 1, 0, "once-"+randomText()).Sign(d.alice.id)
			for range 3 {
				d.deliver(d.alice, data)
			}
			marker := s.secret("message")
			s.publish(d.hers, marker)
			return in.until(marker)
		},
	},
	{
		name: "frame below the window", who: server, told: "a frame again, after 1,024 others of its session", want: bus.CodeReplay,
		check:   "frame.Window: nothing below it",
		removed: []change{{windowGo, "if low := t.low(); seq < low {", "if low := t.low(); seq < low && false {"}},
		tell: func(s *stage) error {
			return hears(s, func(d *duo) [][]byte {
				first := d.frame(d.alice, 1, 0, "once-"+randomText()).Sign(d.alice.id)
				far := d.frame(d.alice, 1, bus.WindowSize, "far-"+randomText()).Sign(d.alice.id)
				return [][]byte{first, far, first}
			})
		},
	},
	{
		name: "sessions without end", who: member, told: "frames of so many sessions that another's is forgotten, and its frame again", want: bus.CodeReplay,
		check:   "frame.Window: the height of a session that gave way",
		removed: []change{{windowGo, "w.heights.put(old, t.highest)", "_ = t"}},
		tell: func(s *stage) error {
			d := s.duo(false)
			carol := s.actor("carol")
			s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleWriter))
			s.must(d.his.Refresh(s.ctx()))
			in := s.read(d.his, client.Now)
			body := "once-" + randomText()
			first := d.frame(d.alice, 1, 0, body).Sign(d.alice.id)
			d.deliver(d.alice, first)
			rec, key := d.head()
			for range bus.WindowSessions {
				var session bus.SessionID
				_, err := rand.Read(session[:])
				s.must(err)
				d.deliver(carol, hostile.NewFrame(rec, key, carol.ID(), session, 0, time.Now(), []byte("noise-"+randomText())).Sign(carol.id))
			}
			d.deliver(d.alice, first)
			marker := s.secret("message")
			s.publish(d.hers, marker)
			return in.verdict(marker)
		},
	},
	{
		name: "frame again for a new reader", who: server, told: "what an earlier loop has read, as new", want: bus.CodeReplay,
		check:   "client.beginning: what was seen before reading began",
		removed: []change{{seenGo, "ok && session.has(h.Seq) {", "ok && session.has(h.Seq) && false {"}},
		tell:    again,
	},
	{
		name: "old frame for a new reader", who: server, told: "a frame of four minutes ago, which nobody here has read, as new", want: bus.CodeReplay,
		check:   "client.beginning: when reading began",
		removed: []change{{seenGo, "if b.at.Sub(f.Sent) > sentBefore {", "if false {"}},
		tell:    func(s *stage) error { return hears(s, sentAt(s, -4*time.Minute)) },
	},
	{
		name: "stored again after a restart", who: server, told: "a stored frame once more, behind the place of a cursor that has had it", want: bus.CodeReplay,
		check:   "client.Cursor: the heights it keeps",
		removed: []change{{readerGo, "rd.window = frame.NewWindow(heights)", "rd.window = frame.NewWindow(nil)"}},
		tell: func(s *stage) error {
			dir := s.TempDir()
			state := func(c *client.Config) { c.StateDir = dir }
			d := s.duo(true, state)
			body := "once-" + randomText()
			data := d.frame(d.alice, 1, 0, body).Sign(d.alice.id)
			cur, err := d.his.OpenCursor(s.ctx(), "reader", client.Start)
			s.must(err)
			d.store(d.alice, data, hostile.MsgID(data))
			for m, err := range d.his.Messages(s.ctx(), cur) {
				s.must(err)
				s.must(cur.Ack(m))
				break
			}
			s.must(cur.Close())
			d.bob.close()
			s.becomesLie(body)
			d.bob = s.dial(d.bob.id, state)
			his, err := d.bob.Room(s.ctx(), d.hers.ID().String())
			s.must(err)
			cur, err = his.OpenCursor(s.ctx(), "reader", client.Start)
			s.must(err)
			d.store(d.alice, data, randomText())
			in := s.read(his, cur)
			marker := s.secret("message")
			s.publish(d.hers, marker)
			err = in.verdict(marker)
			in.end()
			return errors.Join(err, cur.Close())
		},
	},
	{
		name: "place of a stream that goes back", who: server, told: "that a stream ends before what was read from it", want: bus.CodeRollback,
		check:   "client.applyTail: the last place",
		removed: []change{{"lib/client/follow.go", "case got.Last < s.pos:\n\t\tf.rolledBack(got, s.pos)", "case got.Last < s.pos:"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			in := s.read(d.his, client.Now)
			body := s.secret("message")
			s.publish(d.hers, body)
			s.must(in.until(body))
			d.bob.answers("POST", "/cursors", func(x *hostile.Exchange) {
				x.Answer = lastPlace.ReplaceAll(x.Answer, []byte(`"last":0`))
			})
			d.bob.data.Cut()
			return d.bob.event(client.EventSecurity)
		},
	},
}
