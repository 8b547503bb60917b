package frame

import (
	"crypto/cipher"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// admission is what the records of a room say about the frames of one session
// in one epoch, and the keys that open them. It holds for one head.
type admission struct {
	record *room.Record
	tag    EpochTag
	pub    bus.SignPub
	aead   cipher.AEAD // nil where nothing is encrypted
	live   bool        // the frame has to be of now: it is in no stream that was read in order
	// cut says that the sender lost the right to write later on, and last is then
	// the highest seq that still counts.
	cut  bool
	last bus.Seq
}

// admissionKey names an admission among those of one head.
type admissionKey struct {
	stream
	epoch bus.Epoch
}

// maxAdmissions bounds the cache; it is emptied when it is full, which costs a
// key derivation a session.
const maxAdmissions = 4 * bus.WindowSessions

// checkRoute compares a header with the room it is opened for and the tokens
// of the subject it came by.
func checkRoute(h *Header, room bus.RoomID, roomToken, senderToken string) error {
	if h.Room != room || roomToken != room.Token() {
		return bus.Errorf(bus.CodeMisrouted, "open frame: of room %s, by the subject of %.40q, for room %s", h.Room, roomToken, room)
	}
	if senderToken != h.Sender.Token() {
		return bus.Errorf(bus.CodeMisrouted, "open frame: of sender %s, by the subject of %.40q", h.Sender, senderToken)
	}
	return nil
}

// admit decides from the records whether a frame may be, and returns the keys
// to find out whether it is. fresh says that the admission is not cached yet,
// which it becomes when a frame proves to be genuine.
func (o *Opener) admit(h *Header, head *room.Record, now time.Time) (a *admission, fresh bool, err error) {
	if h.Epoch > head.Epoch {
		return nil, false, unknownEpoch(h.Epoch, head)
	}
	epoch, ok := o.view.Epoch(h.Epoch)
	if !ok {
		return nil, false, unknownEpoch(h.Epoch, head)
	}
	if head != o.head {
		clear(o.admitted)
		o.head = head
	}
	a, cached := o.admitted[admissionKey{h.stream(), h.Epoch}]
	if !cached {
		// A room that stopped storing is as live as one that never did: else what
		// was stored could come again at any time.
		live := !epoch.Record.Policy.Persisted() || !head.Policy.Persisted()
		a = &admission{record: epoch.Record, tag: TagOf(epoch.Record.Hash()), live: live}
	}
	if h.EpochTag != a.tag {
		return nil, false, bus.Errorf(bus.CodeFork, "open frame: of a record %x of epoch %d, where %x was accepted", h.EpochTag, h.Epoch, a.tag)
	}
	policy := &a.record.Policy
	if h.Flags != policy.Flags {
		return nil, false, bus.Errorf(bus.CodePolicy, "open frame: flags %#x in an epoch of flags %#x", uint8(h.Flags), uint8(policy.Flags))
	}
	if !cached {
		if err := o.authorise(a, h, head); err != nil {
			return nil, false, err
		}
	}
	if a.cut && h.Seq > a.last {
		return nil, false, bus.Errorf(bus.CodeEpochClosed, "open frame: seq %d of %s, whose last in this room is %d", h.Seq, h.Sender, a.last)
	}
	if a.live && h.Epoch < head.Epoch && now.Sub(epoch.Closed) > policy.Grace {
		return nil, false, bus.Errorf(bus.CodeEpochClosed, "open frame: epoch %d ended more than %s ago", h.Epoch, policy.Grace)
	}
	if !cached {
		if err := o.addKeys(a, h, epoch.Key); err != nil {
			return nil, false, err
		}
	}
	return a, !cached, nil
}

// authorise finds out whether the sender may write in the frame's epoch, and
// whether a later record took that away and where it drew the line.
func (o *Opener) authorise(a *admission, h *Header, head *room.Record) error {
	if !a.record.Role(h.Sender).CanWrite() {
		return bus.Errorf(bus.CodeNotMember, "open frame: %s may not write in epoch %d", h.Sender, h.Epoch)
	}
	for e := h.Epoch + 1; e <= head.Epoch; e++ {
		next, ok := o.view.Epoch(e)
		if !ok {
			return unknownEpoch(e, head)
		}
		if next.Record.Role(h.Sender).CanWrite() {
			continue
		}
		if a.last, a.cut = next.Record.Cut(h.Sender, h.Session); !a.cut {
			return bus.Errorf(bus.CodeNotMember, "open frame: %s may not write since epoch %d, which does not vouch for session %s", h.Sender, e, h.Session)
		}
		return nil
	}
	return nil
}

// addKeys finds the keys that a frame of the admitted session is opened with.
// A room key that is missing is found out only when it is needed.
func (o *Opener) addKeys(a *admission, h *Header, key *room.Key) error {
	pub, ok := o.view.SignPub(h.Sender)
	if !ok {
		return bus.Errorf(bus.CodeNotFound, "open frame: %w", &UnknownSenderError{h.Sender})
	}
	if identity.IDOf(pub) != h.Sender {
		return bus.Errorf(bus.CodeInternal, "open frame: signing key %s is not that of %s", pub, h.Sender)
	}
	a.pub = pub
	if h.Suite == bus.SuitePlain {
		return nil
	}
	if key == nil {
		return bus.Errorf(bus.CodeDecrypt, "open frame: no key of epoch %d", h.Epoch)
	}
	aead, err := newAEAD(h.Suite, *key, a.record.Hash(), h.Sender, h.Session)
	if err != nil {
		return err
	}
	a.aead = aead
	return nil
}

func unknownEpoch(e bus.Epoch, head *room.Record) error {
	return bus.Errorf(bus.CodeEpochUnknown, "open frame: %w", &UnknownEpochError{Epoch: e, Head: head.Epoch})
}
