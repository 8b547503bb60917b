package hostile_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/room"
)

const (
	chainGo  = "lib/room/chain.go"
	rulesGo  = "lib/room/rules.go"
	recordGo = "lib/room/record.go"
	syncGo   = "lib/client/chain.go"
	modelGo  = "lib/client/model.go"
)

// stopped returns err where nothing can be sent to the room any more for the
// same reason.
func (s *stage) stopped(err error, r *client.Room) error {
	s.Helper()
	if sending := s.refusesToSend(r); err == nil || bus.CodeOf(sending) != bus.CodeOf(err) {
		return fmt.Errorf("reading: %v; sending: %v", err, sending)
	}
	return err
}

// twins are two processes of bob that share their state, in a room of alice, each
// with a server of its own.
type twins struct {
	*duo
	other   *actor
	atOther *client.Room
}

func (s *stage) twins() *twins {
	s.Helper()
	dir := s.TempDir()
	state := func(c *client.Config) { c.StateDir = dir }
	d := &twins{duo: s.duo(true, state)}
	d.other = s.dial(d.bob.id, state)
	var err error
	d.atOther, err = d.other.AcceptRoom(s.ctx(), d.hers.ID())
	s.must(err)
	return d
}

// branch returns records that alice signs after a head and shows nobody.
func (d *duo) branch(head *room.Record, signer *actor, n int, members ...hostile.Line) []*hostile.Signed {
	d.Helper()
	key := d.key(head)
	var out []*hostile.Signed
	for range n {
		r := hostile.NewRecord(head, key, bus.RoomName(d.name), members...)
		r.Created = r.Created.Add(time.Second) // no record that was signed elsewhere
		d.keepKey(r.Key)
		signed := r.Sign(signer.id)
		out = append(out, signed)
		head, key = d.parse(signed), r.Key
	}
	return out
}

func (d *duo) lines() []hostile.Line {
	d.Helper()
	return []hostile.Line{{Card: d.alice.card(), Role: bus.RoleOwner}, {Card: d.bob.card(), Role: bus.RoleWriter}}
}

// heldBack has alice remove carol, which one process of bob hears of, while the
// other's server shows the records of before.
func heldBack(s *stage) (t *twins, refresh error) {
	t = s.twins()
	carol := s.actor("carol")
	s.must(t.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleReader))
	s.must(t.atOther.Refresh(s.ctx()))
	t.other.shows(t.hers.ID(), t.log())
	s.must(t.hers.Remove(s.ctx(), carol.ID().String()))
	s.must(t.his.Refresh(s.ctx()))
	return t, t.atOther.Refresh(s.ctx())
}

// branches has bob accept a true record and shows him another branch then.
func branches(s *stage, prepare func(d *duo) (signer *actor, members []hostile.Line)) error {
	d := s.duo(true)
	signer, members := prepare(d)
	s.must(d.his.Refresh(s.ctx()))
	before := d.log()
	s.must(d.hers.Rotate(s.ctx()))
	s.must(d.his.Refresh(s.ctx()))
	d.bob.shows(d.hers.ID(), before, d.branch(before[len(before)-1], signer, 2, members...)...)
	return s.stopped(d.his.Refresh(s.ctx()), d.his)
}

// expiring is a clock that can be set ahead.
type expiring struct{ ahead atomic.Int64 }

func (e *expiring) use(c *client.Config) {
	c.Now = func() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }
}

var chainLies = []lie{
	{
		name: "room rolled back after a restart", who: server, told: "fewer records than were accepted", want: bus.CodeRollback,
		check:   "room.Pins: never back",
		removed: []change{{"lib/room/pins.go", "case next.Epoch < old.Epoch:", "case next.Epoch < old.Epoch:\n\t\treturn nil"}},
		tell: func(s *stage) error {
			dir := s.TempDir()
			state := func(c *client.Config) { c.StateDir = dir }
			d := s.duo(true, state)
			old := d.log()
			s.must(d.hers.Rotate(s.ctx()))
			s.must(d.his.Refresh(s.ctx()))
			d.bob.close()
			again := s.dial(d.bob.id, state)
			again.shows(d.hers.ID(), old)
			_, err := again.Room(s.ctx(), d.hers.ID().String())
			return err
		},
	},
	{
		name: "one process held back", who: server, told: "fewer records than another process of the identity has accepted", want: bus.CodeRollback,
		check:   "client.settle: the pin, also without a new record",
		removed: []change{{syncGo, "if before != head || !a.pinned || a.pin != room.PinOf(head) {", "if before != head {"}},
		tell: func(s *stage) error {
			t, err := heldBack(s)
			return s.stopped(err, t.atOther)
		},
	},
	{
		name: "sending while held back", who: server, told: "fewer records than another process has accepted, to one who sends", want: bus.CodeRollback,
		check:   "client.judge: a pin elsewhere is doubt",
		removed: []change{{modelGo, "case forked || elsewhere || unopened:", "case forked || elsewhere && false || unopened:"}},
		tell: func(s *stage) error {
			t, _ := heldBack(s)
			return s.refusesToSend(t.atOther)
		},
	},
	{
		name: "a branch for each process", who: server, told: "another branch, and a longer one, to another process of the identity", want: bus.CodeFork,
		check:   "client.allow: the pin is on the chain",
		removed: []change{{syncGo, "if contains(a.chain, pin) || a.left != nil && contains(a.left, pin) {", "if true {"}},
		tell: func(s *stage) error {
			t := s.twins()
			before := t.log()
			t.other.shows(t.hers.ID(), before)
			s.must(t.hers.Rotate(s.ctx()))
			s.must(t.his.Refresh(s.ctx()))
			t.other.shows(t.hers.ID(), before, t.branch(before[len(before)-1], t.alice, 2, t.lines()...)...)
			return s.stopped(t.atOther.Refresh(s.ctx()), t.atOther)
		},
	},
	{
		name: "a branch for each member", who: server, told: "a record to one member and another, which the same owner has signed, to the other", want: bus.CodeFork,
		check:   "frame.Opener: the tag of the epoch, in the first frame of the one that the other reads; again by the keys",
		removed: []change{{admitGo, "if h.EpochTag != a.tag {", "if false {"}},
		tell: func(s *stage) error {
			d := s.duo(false)
			carol := s.actor("carol")
			s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleWriter))
			s.must(d.his.Refresh(s.ctx()))
			before := d.log()
			lines := append(d.lines(), hostile.Line{Card: carol.card(), Role: bus.RoleWriter})
			d.bob.shows(d.hers.ID(), before, d.branch(before[len(before)-1], d.alice, 1, lines...)...)
			s.must(d.his.Refresh(s.ctx()))
			s.must(d.hers.Rotate(s.ctx()))
			theirs, err := carol.AcceptRoom(s.ctx(), d.hers.ID())
			s.must(err)
			if theirs.Epoch() != d.his.Epoch() {
				return fmt.Errorf("epochs %d and %d", theirs.Epoch(), d.his.Epoch())
			}
			in := s.read(d.his, client.Now)
			s.publish(theirs, s.lieText())
			_, err = in.wait(func(_ []string, errs []error) bool { return len(errs) > 0 || s.released() > 0 })
			return err
		},
	},
	{
		name: "two successors of one record", who: member, told: "a branch that the signer of the true one has signed too", want: bus.CodeEquivocation,
		check:   "room.Chain.Switch: nobody chose the branch",
		removed: []change{{chainGo, "err := compareSiblings(c.records[left.Epoch-1], left, branch[0])", "var err error"}},
		tell: func(s *stage) error {
			err := branches(s, func(d *duo) (*actor, []hostile.Line) { return d.alice, d.lines() })
			if !errors.Is(err, bus.ErrFork) {
				return fmt.Errorf("no fork: %w", errors.Join(err))
			}
			return err
		},
	},
	{
		name: "two authorities, two successors", who: member, told: "a branch that another owner has signed: a race, for which nobody is blamed", want: bus.CodeFork,
		check:   "room.compareSiblings: who signed both",
		removed: []change{{"lib/room/fork.go", "if equivocate(known, other) {", "if true {"}},
		tell: func(s *stage) error {
			err := branches(s, func(d *duo) (*actor, []hostile.Line) {
				carol := s.actor("carol")
				s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleOwner))
				return carol, append(d.lines(), hostile.Line{Card: carol.card(), Role: bus.RoleOwner})
			})
			if errors.Is(err, bus.ErrEquivocation) {
				return fmt.Errorf("somebody is blamed: %v", err)
			}
			return err
		},
	},
	{
		name: "branch chosen by an admin", who: member, told: "a branch on which an admin resolves the fork", want: bus.CodeTransition,
		check:   "room.permittedToAdmin: resolves",
		removed: []change{{rulesGo, "if len(r.Resolves) > 0 {", "if false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			carol := s.actor("carol")
			s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleAdmin))
			s.must(d.his.Refresh(s.ctx()))
			r := d.next()
			r.Members = append(r.Members, hostile.Line{Card: carol.card(), Role: bus.RoleAdmin})
			r.Sort()
			r.Resolves = []bus.RecordHash{{1}}
			d.bob.shows(d.hers.ID(), d.log(), r.Sign(carol.id))
			return d.his.Refresh(s.ctx())
		},
	},
	{
		name: "branch chosen by who was removed", who: member, told: "a branch chosen by an owner whom the other branch removed", want: bus.CodeNotAuthority,
		check:   "room.Chain.Switch: the chooser is an owner in the head that is left",
		removed: []change{{chainGo, "if head.Authority(r.Signer) == bus.RoleOwner {\n\t\t\terr = nil", "if true {\n\t\t\terr = nil"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			carol := s.actor("carol")
			s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleOwner))
			s.must(d.his.Refresh(s.ctx()))
			before := d.log()
			common := before[len(before)-1]
			s.must(d.hers.Remove(s.ctx(), carol.ID().String()))
			s.must(d.his.Refresh(s.ctx()))
			recs := d.log()
			lost := recs[len(recs)-1]
			lines := append(d.lines(), hostile.Line{Card: carol.card(), Role: bus.RoleOwner})
			first := hostile.NewRecord(common, d.key(common), bus.RoomName(s.name), lines...)
			s.keepKey(first.Key)
			one := first.Sign(carol.id)
			second := hostile.NewRecord(s.parse(one), first.Key, bus.RoomName(s.name), lines...)
			second.Resolves = []bus.RecordHash{lost.Hash()}
			s.keepKey(second.Key)
			d.bob.shows(d.hers.ID(), before, one, second.Sign(carol.id))
			return s.stopped(d.his.Refresh(s.ctx()), d.his)
		},
	},
	{
		name: "record left out", who: server, told: "the record after the next", want: bus.CodeMalformed,
		check: "client.fetchPage: one after the other; again as a gap and by the hash of the one before",
		removed: []change{
			{syncGo, "if want := from + bus.Epoch(i); rec.Epoch != want {", "if want := from + bus.Epoch(i); false {"},
			{rulesGo, "case r.Epoch > head.Epoch && r.Epoch-head.Epoch > 1:", "case false:"},
			{rulesGo, "case r.Prev != head.hash:", "case false:"},
		},
		tell: func(s *stage) error {
			d := s.duo(true)
			d.bob.shows(d.hers.ID(), d.log()) // until the lie
			s.must(d.hers.Rotate(s.ctx()))
			s.must(d.hers.Rotate(s.ctx()))
			recs := d.log()
			list := api.RecordList{Head: recs[3].Epoch, Records: []api.RecordItem{{Record: recs[3].Bytes(), Members: recs[3].MembersBytes()}}}
			d.bob.answers(http.MethodGet, api.RecordsPath(d.hers.ID()), func(x *hostile.Exchange) { x.Reply(http.StatusOK, list) })
			return d.his.Refresh(s.ctx())
		},
	},
	{
		name: "record of another room", who: server, told: "a record of another room of the same members", want: bus.CodeMisrouted,
		check: "room.Chain.Accept: the room; again in Record.Follows, and by the hash of the one before",
		removed: []change{
			{chainGo, "case r.Room != c.room:", "case false:"},
			{rulesGo, "case r.Room != head.Room:", "case false:"},
			{rulesGo, "case r.Prev != head.hash:", "case false:"},
			{chainGo, "if r.Epoch == head.Epoch+1 && r.Prev != head.hash {", "if false {"},
		},
		tell: func(s *stage) error {
			d := s.duo(true)
			s.name = s.secret("name of the other room")
			other, _ := s.room(d.alice, true, d.bob)
			s.must(other.Rotate(s.ctx()))
			recs, err := other.Log(s.ctx())
			s.must(err)
			stray := recs[len(recs)-1]
			blob := s.sealedFor(stray, d.bob.ID())
			d.bob.control.Set(func(x *hostile.Exchange) {
				switch {
				case x.Method != http.MethodGet:
				case x.URL.Path == api.RecordsPath(d.hers.ID()):
					d.bob.tell()
					x.Reply(http.StatusOK, api.RecordList{Head: stray.Epoch, Records: []api.RecordItem{{Record: stray.Bytes(), Members: stray.MembersBytes()}}})
				case x.URL.Path == api.KeyPath(d.hers.ID(), stray.Epoch):
					x.Reply(http.StatusOK, api.SealedKey{ID: d.bob.ID(), Blob: blob})
				}
			})
			return d.his.Refresh(s.ctx())
		},
	},
	{
		name: "another room for the one asked for", who: server, told: "the records of another room, to somebody who was invited", want: bus.CodeMisrouted,
		check: "room.Chain.Accept: the id is the hash of the first record",
		removed: []change{
			{chainGo, "case r.Room != c.room:", "case false:"},
			{syncGo, "return rec.Room == id && room.CheckGenesis(rec) == nil", "return room.CheckGenesis(rec) == nil"},
		},
		tell: func(s *stage) error {
			alice, bob := s.actor("alice"), s.actor("bob")
			r, _ := s.room(alice, true)
			s.must(r.Invite(s.ctx(), bob.ID().String(), bus.RoleWriter))
			mallory := s.actor("mallory")
			trap, _ := s.room(mallory, true)
			s.must(trap.Invite(s.ctx(), bob.ID().String(), bus.RoleWriter))
			recs, err := trap.Log(s.ctx())
			s.must(err)
			list := api.RecordList{Head: bus.Epoch(len(recs) - 1), Records: []api.RecordItem{}}
			blobs := map[string][]byte{}
			for _, rec := range recs {
				list.Records = append(list.Records, api.RecordItem{Record: rec.Bytes(), Members: rec.MembersBytes()})
				blobs[api.KeyPath(r.ID(), rec.Epoch)] = s.sealedFor(rec, bob.ID())
			}
			bob.control.Set(func(x *hostile.Exchange) {
				switch blob := blobs[x.URL.Path]; {
				case x.Method != http.MethodGet:
				case x.URL.Path == api.RecordsPath(r.ID()):
					bob.tell()
					x.Reply(http.StatusOK, list)
				case blob != nil:
					x.Reply(http.StatusOK, api.SealedKey{ID: bob.ID(), Blob: blob})
				}
			})
			_, err = bob.AcceptRoom(s.ctx(), r.ID())
			return err
		},
	},
	{
		name: "first record by a stranger", who: member, told: "a room in another's name: its owner has not signed the first record", want: bus.CodeNotAuthority,
		check:   "room.CheckGenesis: the signer is an owner",
		removed: []change{{rulesGo, "if r.Authority(r.Signer) != bus.RoleOwner {", "if false {"}},
		tell: func(s *stage) error {
			alice, bob, mallory := s.actor("alice"), s.actor("bob"), s.actor("mallory")
			r := hostile.NewRecord(nil, room.Key{}, bus.RoomName(s.name), hostile.Line{Card: alice.card(), Role: bus.RoleOwner}, hostile.Line{Card: bob.card(), Role: bus.RoleWriter})
			return bob.acceptFalse(r.Sign(mallory.id))
		},
	},
	{
		name: "room of the same name", who: member, told: "an invitation to a room that is called like one of the member's", want: "",
		check:   "client.RoomsNamed: only what was made or accepted here",
		removed: []change{{"lib/client/rooms.go", "infos[i].verify(ctx, c)", "infos[i].verify(ctx, c)\n\t\t\t_ = c.remember(ctx, infos[i].ID, infos[i].Name)"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			mallory := s.actor("mallory")
			trap, _ := s.room(mallory, true)
			s.must(trap.Invite(s.ctx(), d.bob.ID().String(), bus.RoleOwner))
			d.bob.tell()
			infos, err := d.bob.Rooms(s.ctx())
			if err != nil || len(infos) != 2 {
				return fmt.Errorf("%d rooms, %v", len(infos), err)
			}
			found, err := d.bob.Room(s.ctx(), s.name)
			if err == nil && found.ID() != d.hers.ID() {
				err = errors.New("the name is the other room's")
			}
			return err
		},
	},
	{
		name: "first record under a weak key", who: server, told: "a room whose owner's key lets one signature fit every record", want: bus.CodeWeakKey,
		check: "wire.CheckPublicKey, of authorities and signer; again in every wire.Verify",
		removed: []change{
			{"lib/wire/hash.go", "if CheckPublicKey(pub) != nil || len(sig) != ed25519.SignatureSize {", "if len(sig) != ed25519.SignatureSize {"},
			{recordGo, "if err := wire.CheckPublicKey(a.SignPub[:]); err != nil {", "if err := wire.CheckPublicKey(a.SignPub[:]); err != nil && false {"},
			{recordGo, "if err := wire.CheckPublicKey(r.Signer[:]); err != nil {", "if err := wire.CheckPublicKey(r.Signer[:]); err != nil && false {"},
		},
		tell: func(s *stage) error {
			bob := s.actor("bob")
			ghost := &identity.Card{SignPub: weakKey, KEM: bob.card().KEM, KEMPub: bob.card().KEMPub}
			r := hostile.NewRecord(nil, room.Key{}, bus.RoomName(s.name), hostile.Line{Card: ghost, Role: bus.RoleOwner}, hostile.Line{Card: bob.card(), Role: bus.RoleWriter})
			return bob.acceptFalse(r.SignWith(weakKey, func([]byte) []byte { return weakSignature() }))
		},
	},
	{
		name: "renewal withheld", who: server, told: "an expired record as the newest", want: bus.CodeExpired,
		check:   "room.Record.CheckTime: nothing is sent after its end",
		removed: []change{{recordGo, "if now.After(r.NotAfter.Add(bus.ClockSkew)) {", "if false {"}},
		tell: func(s *stage) error {
			var clock expiring
			d := s.duo(true, clock.use)
			d.bob.shows(d.hers.ID(), d.log())
			clock.ahead.Store(int64(bus.DefaultRecordLife + bus.ClockSkew + time.Hour))
			d.bob.tell()
			return s.refusesToSend(d.his)
		},
	},
	{
		name: "record of tomorrow", who: member, told: "a record that is made in the future, to outlive its time", want: bus.CodeClockSkew,
		check:   "room.Record.CheckTime: nothing is sent before its beginning",
		removed: []change{{recordGo, "if r.Created.After(now.Add(bus.ClockSkew)) {", "if false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			r := d.next()
			r.Created, r.NotAfter = r.Created.Add(24*time.Hour), r.NotAfter.Add(24*time.Hour)
			d.bob.shows(d.hers.ID(), d.log(), r.Sign(d.alice.id))
			s.must(d.his.Refresh(s.ctx()))
			return s.refusesToSend(d.his)
		},
	},
}
