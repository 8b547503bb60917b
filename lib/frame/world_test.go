package frame

import (
	"crypto/rand"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// start is when the rooms of these tests are made.
var start = time.Unix(1_800_000_000, 0).UTC()

// world is a room with real identities, cards and records, and the view of a
// client that has accepted them all.
type world struct {
	t      testing.TB
	people map[string]*identity.Identity
	roles  map[string]bus.Role
	policy bus.Policy
	epochs []Epoch
	hidden map[bus.Epoch]bool // epochs whose record the view does not show
	pubs   map[bus.ID]bus.SignPub
	now    time.Time
	behind int // how many records the head is behind the last epoch shown
}

// everybody is an owner, two writers and a reader; mallory is no member.
var everybody = map[string]bus.Role{"olga": bus.RoleOwner, "alice": bus.RoleWriter, "bob": bus.RoleWriter, "rita": bus.RoleReader}

func policyOf(suite bus.Suite, flags bus.RoomFlags) bus.Policy {
	p := bus.Policy{Suite: suite, Flags: flags, Grace: bus.MaxGrace}
	if suite != bus.SuitePlain {
		p.Flags |= bus.FlagEncrypt
	}
	return p
}

// live and stored are the policies most tests are about.
var (
	live   = policyOf(bus.SuiteXAESGCM, 0)
	stored = policyOf(bus.SuiteXAESGCM, bus.FlagPersist)
)

func newWorld(t testing.TB, policy bus.Policy) *world {
	t.Helper()
	w := &world{
		t: t, people: map[string]*identity.Identity{}, roles: maps.Clone(everybody), policy: policy,
		hidden: map[bus.Epoch]bool{}, pubs: map[bus.ID]bus.SignPub{}, now: start,
	}
	for _, name := range []string{"olga", "alice", "bob", "rita", "mallory"} {
		id, err := identity.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.people[name] = id
		w.pubs[id.ID()] = id.SignPub()
	}
	w.create()
	return w
}

func (w *world) create() {
	w.t.Helper()
	signed, err := room.Create(w.people["olga"], w.draft(nil), w.now, rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	w.add(signed)
}

// move makes the room anew with the people of another.
func (w *world) move(from *world) {
	w.t.Helper()
	w.people, w.pubs, w.epochs = from.people, from.pubs, nil
	w.create()
}

func (w *world) draft(cuts []room.Cut) room.Draft {
	w.t.Helper()
	d := room.Draft{Policy: w.policy, Name: "test.room", Cuts: cuts}
	for _, name := range slices.Sorted(maps.Keys(w.roles)) {
		card, err := identity.NewCard(w.people[name], bus.BusID{1}, start, start.Add(bus.MaxCardLife))
		if err != nil {
			w.t.Fatal(err)
		}
		d.Members = append(d.Members, room.MemberSpec{Card: card, Role: w.roles[name]})
	}
	return d
}

func (w *world) add(s *room.Signed) {
	e := Epoch{Record: s.Record}
	if w.policy.Encrypted() {
		key := s.Key
		e.Key = &key
	}
	if n := len(w.epochs); n > 0 {
		w.epochs[n-1].Closed = w.now
	}
	w.epochs = append(w.epochs, e)
}

// next moves the room to its next epoch with the roles as they now are.
func (w *world) next(cuts ...room.Cut) {
	w.t.Helper()
	head := w.epochs[len(w.epochs)-1]
	signed, err := room.Next(w.people["olga"], head.Record, w.key(head.Record.Epoch), w.draft(cuts), w.now, rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	w.add(signed)
}

func (w *world) key(e bus.Epoch) room.Key {
	if k := w.epochs[e].Key; k != nil {
		return *k
	}
	return room.Key{}
}

func (w *world) Head() *room.Record { return w.epochs[len(w.epochs)-1-w.behind].Record }

func (w *world) Epoch(e bus.Epoch) (Epoch, bool) {
	if uint64(e) >= uint64(len(w.epochs)) || w.hidden[e] {
		return Epoch{}, false
	}
	return w.epochs[e], true
}

func (w *world) SignPub(id bus.ID) (bus.SignPub, bool) {
	pub, ok := w.pubs[id]
	return pub, ok
}

func (w *world) room() bus.RoomID { return w.Head().Room }

func (w *world) opener() *Opener { return NewOpener(w, NewWindow(nil), w.time) }

func (w *world) time() time.Time { return w.now }

// sealer returns a sealer of somebody's session in an epoch.
func (w *world) sealer(name string, e bus.Epoch, session byte) *Sealer {
	w.t.Helper()
	s, err := NewSealer(w.people[name], w.epochs[e].Record, w.key(e), bus.SessionID{session}, rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// forger seals as anybody in any epoch, whatever the record says: by is who
// signs, h what the frame claims.
func (w *world) forger(by string, h Header, key room.Key, record bus.RecordHash) *sealer {
	w.t.Helper()
	id := w.people[by]
	s, err := newSealer(h, key, record, func(msg []byte) []byte { return id.Sign("unibus/1 frame", msg) }, rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return &s
}

// header is what an honest frame of somebody in an epoch claims.
func (w *world) header(name string, e bus.Epoch, session byte) Header {
	rec := w.epochs[e].Record
	return Header{
		Suite: rec.Policy.Suite, Flags: rec.Policy.Flags, Room: rec.Room, Epoch: e, EpochTag: TagOf(rec.Hash()),
		Sender: w.people[name].ID(), Session: bus.SessionID{session},
	}
}

func (w *world) seal(s *Sealer, seq bus.Seq, recs ...Record) []byte {
	w.t.Helper()
	if len(recs) == 0 {
		recs = text("hello")
	}
	frame, _, err := s.Seal(nil, seq, w.now, recs)
	if err != nil {
		w.t.Fatal(err)
	}
	return frame
}

// open hands a copy of the frame to the opener, by the subject it belongs on.
func (w *world) open(o *Opener, frame []byte) (*Opened, error) {
	w.t.Helper()
	h, err := ParseHeader(frame)
	if err != nil {
		w.t.Fatal(err)
	}
	return o.Open(h.Room.Token(), h.Sender.Token(), slices.Clone(frame))
}

func text(bodies ...string) []Record {
	recs := make([]Record, len(bodies))
	for i, b := range bodies {
		recs[i] = Record{Body: []byte(b)}
	}
	return recs
}
