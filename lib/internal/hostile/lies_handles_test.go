package hostile_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/http"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/wire"
)

// invitesByHandle has alice, who knows bob by his handle, by the word of the
// root of the bus where vouched says so, invite him after her server has changed
// what the handle says.
func invitesByHandle(s *stage, vouched bool, change func(h *api.HandleInfo, carol *actor, handle bus.Handle)) error {
	alice, carol := s.actor("alice"), s.actor("carol")
	bob := newIdentity(s.T)
	handle := bus.Handle("bob-" + randomText())
	_, err := s.admin.AddUser(s.ctx(), bob.SignPub(), handle, bus.UserMember)
	s.must(err)
	s.dial(bob)
	if vouched {
		alice.control.Set(func(x *hostile.Exchange) {
			if x.URL.Path == api.HandlePath(handle) {
				edit(s, x, func(h *api.HandleInfo) { h.Entry = s.signed(handle, bob.ID(), 1, time.Now().Add(time.Hour)) })
			}
		})
	}
	peer, err := alice.Resolve(s.ctx(), handle)
	s.must(err)
	if peer.ID != bob.ID() {
		s.Fatalf("%s is %s", handle, peer.ID)
	}
	r, _ := s.room(alice, true)
	alice.answers(http.MethodGet, api.HandlePath(handle), func(x *hostile.Exchange) {
		edit(s, x, func(h *api.HandleInfo) { change(h, carol, handle) })
	})
	return r.Invite(s.ctx(), string(handle), bus.RoleWriter)
}

// is makes an answer about a handle say that it is somebody.
func is(h *api.HandleInfo, who *actor) { h.ID, h.SignPub = who.ID(), who.SignPub() }

// rootEntry encodes a directory entry as a root would, and has any key sign it.
func rootEntry(busID bus.BusID, rootPub []byte, handle bus.Handle, id bus.ID, sign ed25519.PrivateKey) []byte {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddUint8(bus.TypeEntry)
	b.AddBytes(busID[:])
	b.AddBytes(rootPub)
	b.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(handle)) })
	b.AddBytes(id[:])
	b.AddUint64(9)
	b.AddUint64(uint64(time.Now().Add(time.Hour).Unix()))
	raw := b.BytesOrPanic()
	return append(raw, wire.Sign(sign, wire.LabelDirectory, raw)...)
}

// signed returns an entry of the true root.
func (s *stage) signed(handle bus.Handle, id bus.ID, seq uint64, notAfter time.Time) []byte {
	s.Helper()
	raw, err := s.root.SignEntry(identity.Entry{BusID: s.root.BusID(), Handle: handle, ID: id, Seq: seq, NotAfter: notAfter.Truncate(time.Second)})
	s.must(err)
	return raw
}

func randomKey(s *stage) ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	s.must(err)
	return key
}

var handleLies = []lie{
	{
		name: "handle moved", who: server, told: "a handle that was resolved before is somebody else now", want: bus.CodePinChanged,
		check:   "client.Resolve: the pin of the handle",
		removed: []change{{resolveGo, "case entry.Seq > old.EntrySeq:", "case true:"}},
		tell: func(s *stage) error {
			return invitesByHandle(s, false, func(h *api.HandleInfo, carol *actor, _ bus.Handle) { is(h, carol) })
		},
	},
	{
		name: "handle with another's id", who: server, told: "an id that is not that of the key beside it", want: bus.CodeMalformed,
		check: "client.checkHandle: the id is the hash of the key; again by the pin",
		removed: []change{
			{resolveGo, "if info.Handle != handle || identity.IDOf(info.SignPub) != info.ID {", "if false {"},
			{resolveGo, "case entry.Seq > old.EntrySeq:", "case true:"},
		},
		tell: func(s *stage) error {
			return invitesByHandle(s, false, func(h *api.HandleInfo, carol *actor, _ bus.Handle) { h.ID = carol.ID() })
		},
	},
	{
		name: "handle with a weak key", who: server, told: "a key under which one signature fits every message", want: bus.CodeWeakKey,
		check:   "client.checkHandle: the key is sound",
		removed: []change{{resolveGo, "if err := wire.CheckPublicKey(info.SignPub[:]); err != nil {", "if err := wire.CheckPublicKey(info.SignPub[:]); err != nil && false {"}},
		tell: func(s *stage) error {
			alice := s.actor("alice")
			alice.control.Instead(func(x *hostile.Exchange) bool {
				if x.URL.Path != api.HandlePath("bob") {
					return false
				}
				alice.tell()
				x.Reply(http.StatusOK, api.HandleInfo{Handle: "bob", ID: identity.IDOf(weakKey), SignPub: weakKey, Status: bus.UserActive})
				return true
			})
			_, err := alice.Resolve(s.ctx(), "bob")
			return err
		},
	},
	{
		name: "entry of another root", who: server, told: "a handle moves, by an entry that another root has signed", want: bus.CodeWrongBus,
		check:   "identity.ParseEntry: the root is the one the bus is named after",
		removed: []change{{rootGo, "if sha256.Sum256(root[:]) != e.BusID {", "if false {"}},
		tell: func(s *stage) error {
			key := randomKey(s)
			return invitesByHandle(s, true, func(h *api.HandleInfo, carol *actor, handle bus.Handle) {
				is(h, carol)
				h.Entry = rootEntry(s.root.BusID(), key.Public().(ed25519.PublicKey), handle, carol.ID(), key)
			})
		},
	},
	{
		name: "forged entry", who: server, told: "a handle moves, by an entry that the root has not signed", want: bus.CodeBadSignature,
		check:   "identity.ParseEntry: the signature",
		removed: []change{{rootGo, "sig[:]) {", "sig[:]) && false {"}},
		tell: func(s *stage) error {
			key := randomKey(s)
			return invitesByHandle(s, true, func(h *api.HandleInfo, carol *actor, handle bus.Handle) {
				is(h, carol)
				h.Entry = rootEntry(s.root.BusID(), s.root.Pub(), handle, carol.ID(), key)
			})
		},
	},
	{
		name: "entry of another handle", who: server, told: "a handle moves, by a true entry of another handle", want: bus.CodePinChanged,
		check:   "client.checkHandle: the entry is about the handle",
		removed: []change{{resolveGo, "if entry.Handle != handle || entry.ID != info.ID {", "if false {"}},
		tell: func(s *stage) error {
			return invitesByHandle(s, true, func(h *api.HandleInfo, carol *actor, _ bus.Handle) {
				is(h, carol)
				h.Entry = s.signed("carol", carol.ID(), 3, time.Now().Add(time.Hour))
			})
		},
	},
	{
		name: "expired entry", who: server, told: "a handle moves, by an entry that has expired", want: bus.CodeExpired,
		check:   "client.checkHandle: the time of the entry",
		removed: []change{{resolveGo, "if err := entry.CheckTime(c.config.Now()); err != nil {", "if err := entry.CheckTime(c.config.Now()); err != nil && false {"}},
		tell: func(s *stage) error {
			return invitesByHandle(s, true, func(h *api.HandleInfo, carol *actor, handle bus.Handle) {
				is(h, carol)
				h.Entry = s.signed(handle, carol.ID(), 3, time.Now().Add(-time.Hour))
			})
		},
	},
	{
		name: "older entry", who: server, told: "whom a handle belonged to before the root moved it", want: bus.CodeRollback,
		check: "client.Resolve: the highest entry seen; again by the pin",
		removed: []change{
			{resolveGo, "case !entry.ID.IsZero() && entry.Seq < old.EntrySeq:", "case false:"},
			{resolveGo, "case entry.Seq > old.EntrySeq:", "case true:"},
		},
		tell: func(s *stage) error {
			alice, bob, carol := s.actor("alice"), s.actor("bob"), s.actor("carol")
			handle := bus.Handle("moved-" + randomText())
			r, _ := s.room(alice, true)
			answer := func(who *actor, seq uint64, told func()) {
				alice.control.Instead(func(x *hostile.Exchange) bool {
					if x.URL.Path != api.HandlePath(handle) {
						return false
					}
					told()
					h := api.HandleInfo{Handle: handle, Status: bus.UserActive, Entry: s.signed(handle, who.ID(), seq, time.Now().Add(time.Hour))}
					is(&h, who)
					x.Reply(http.StatusOK, h)
					return true
				})
			}
			answer(carol, 1, func() {})
			_, err := alice.Resolve(s.ctx(), handle)
			s.must(err)
			answer(bob, 2, func() {})
			_, err = alice.Resolve(s.ctx(), handle)
			s.must(err)
			answer(carol, 1, alice.tell)
			return r.Invite(s.ctx(), string(handle), bus.RoleWriter)
		},
	},
}
