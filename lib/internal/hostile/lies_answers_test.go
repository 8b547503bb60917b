package hostile_test

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// answerLies are about answers of the control plane other than records.
var answerLies = []lie{
	{
		name: "empty pages without end", who: server, told: "pages without a record that promise more", want: bus.CodeMalformed,
		check:   "client.fetchPage: an empty page is the last",
		removed: []change{{syncGo, "if page.more && len(page.recs) == 0 {", "if false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			d.bob.answers(http.MethodGet, api.RecordsPath(d.hers.ID()), func(x *hostile.Exchange) {
				x.Reply(http.StatusOK, api.RecordList{Records: []api.RecordItem{}, Head: 1, More: true})
			})
			ctx, cancel := s.within(3 * time.Second)
			defer cancel()
			return d.his.Refresh(ctx)
		},
	},
	{
		name: "accounts out of order", who: server, told: "a list of accounts that repeats itself", want: bus.CodeMalformed,
		check:   "client.Users: the keys ascend",
		removed: []change{{"lib/client/users.go", "u.SignPub[:]) >= 0 {", "u.SignPub[:]) >= 0 && false {"}},
		tell: func(s *stage) error {
			id := newIdentity(s.T)
			_, err := s.admin.AddUser(s.ctx(), id.SignPub(), bus.Handle("root-"+randomText()), bus.UserAdmin)
			s.must(err)
			a := s.dial(id)
			a.answers(http.MethodGet, api.UsersPath(), func(x *hostile.Exchange) {
				edit(s, x, func(l *api.UserList) { l.Users = append(l.Users, l.Users[0]) })
			})
			_, err = a.Users(s.ctx())
			return err
		},
	},
	{
		name: "removal that never was", who: server, told: "a notice that the member was removed, and that a room has moved on", want: "",
		check:   "client.hearNotice: a notice proves nothing; the records are read",
		removed: []change{{"lib/client/notices.go", "r.hint()\n}\n\nconst (", "c.fail(bus.Errorf(bus.CodeNotMember, \"removed\"))\n}\n\nconst ("}},
		tell: func(s *stage) error {
			d := s.duo(false)
			in := s.read(d.his, client.Now)
			d.bob.tell()
			for _, kind := range []api.NoticeKind{api.NoticeRemoved, api.NoticeRoom, api.NoticeCard, "nonsense"} {
				id := d.hers.ID()
				text, err := api.Encode(api.Notice{V: 1, Kind: kind, Room: &id, Epoch: 1 << 40})
				s.must(err)
				if !d.bob.data.Conn().Deliver(hostile.Delivery{Subject: bus.NoticeSubject(d.bob.ID()), Payload: text}) {
					return errors.New("bob hears no notices")
				}
			}
			marker := s.secret("message")
			s.publish(d.hers, marker)
			return errors.Join(in.until(marker), d.bob.Err())
		},
	},
	{
		name: "consumer of another", who: server, told: "that the frames of a room come from a consumer that is not the member's", want: bus.CodeMalformed,
		check:   "client.applyTail: the name that the consumer must have",
		removed: []change{{"lib/client/follow.go", "got.Consumer != bus.TailConsumer(c.id, c.session) {", "got.Consumer != bus.TailConsumer(c.id, c.session) && false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			d.bob.answers(http.MethodPost, api.CursorsPath(), func(x *hostile.Exchange) {
				edit(s, x, func(r *api.CursorReply) {
					for i := range r.Tail {
						r.Tail[i].Consumer = bus.TailConsumer(d.alice.ID(), d.alice.Session())
					}
				})
			})
			ctx, cancel := s.within(patience)
			defer cancel()
			for _, err := range d.his.Messages(ctx, client.Stored) {
				return err
			}
			return nil
		},
	},
	{
		name: "answer without end", who: server, told: "an answer of more bytes than any has", want: bus.CodeTooLarge,
		check:   "api.ReadReply: the limit",
		removed: []change{{"lib/api/problem.go", "case len(body) > MaxReply:", "case false:"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			d.bob.answers(http.MethodGet, api.RecordsPath(d.hers.ID()), func(x *hostile.Exchange) { x.Answer = make([]byte, api.MaxReply+1) })
			return d.his.Refresh(s.ctx())
		},
	},
	{
		name: "another role in the list of rooms", who: server, told: "that a writer is the owner, in an epoch long gone", want: "",
		check:   "client.RoomInfo.verify: what the records say",
		removed: []change{{"lib/client/rooms.go", "i.Epoch, i.Role, i.Persisted = head.Epoch, head.Role(c.ID()), head.Policy.Persisted()", "_ = head"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			d.bob.answers(http.MethodGet, api.RoomsPath(), func(x *hostile.Exchange) {
				edit(s, x, func(l *api.RoomList) {
					l.Rooms[0].Role, l.Rooms[0].Epoch, l.Rooms[0].Persisted = bus.RoleOwner, 0, false
				})
			})
			infos, err := d.bob.Rooms(s.ctx())
			if err != nil || len(infos) != 1 || infos[0].Role != bus.RoleWriter || infos[0].Epoch != 1 || !infos[0].Persisted {
				return fmt.Errorf("rooms %+v, %v", infos, err)
			}
			return nil
		},
	},
}
