package frame

import (
	"crypto/cipher"
	"errors"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// ErrDuplicate is what [Opener.Open] returns for a frame that was opened
// before: the same bytes under the same seq. Networks and retries make
// duplicates; they are to be dropped without a word.
var ErrDuplicate = errors.New("open frame: opened before")

// Opened is a frame that passed every check.
type Opened struct {
	Header  Header
	Hash    bus.FrameHash
	Sent    time.Time // as the sender says, UTC, to the microsecond
	Records []Record  // their bodies share the memory of the frame
	Size    int       // bytes of the frame
}

// Opener opens the frames of one room. It is not safe for concurrent use.
type Opener struct {
	view     View
	window   *Window
	now      func() time.Time
	head     *room.Record // for which admitted holds
	admitted map[admissionKey]*admission
}

// NewOpener returns an opener of the room that view shows, which accepts no
// frame twice as far as window remembers. now is [time.Now] outside of tests.
func NewOpener(view View, window *Window, now func() time.Time) *Opener {
	return &Opener{view: view, window: window, now: now, admitted: map[admissionKey]*admission{}}
}

// Open checks a frame that came by a subject with these tokens (see
// [bus.ParseDataSubject]) and returns its records. It releases nothing and
// changes nothing before every check has passed. In this order:
//
//	length and header                                    malformed
//	suite of the room                                    policy
//	room and subject                                     misrouted
//	record of the epoch                                  epoch_unknown, with UnknownEpochError
//	tag of that record                                   fork
//	flags of that record                                 policy
//	right of the sender to write, then and since         not_member, epoch_closed
//	signing key of the sender                            not_found, with UnknownSenderError
//	window                                               ErrDuplicate, replay
//	key and ciphertext                                   decrypt
//	signature                                            bad_signature
//	another frame of the same seq                        equivocation, with EquivocationError
//	content                                              malformed
//	time of sending, in live rooms                       stale, clock_skew
//
// A sender that was removed or demoted after the frame's epoch is bounded by
// the record that did so: of the sessions it lists, seqs up to the one listed
// count; others are void. Frames of earlier epochs of live rooms count for the
// policy's grace after the next record was accepted, and so do those of a room
// that is live now, whatever it was in their epoch. Frames of live rooms are
// stale after [bus.LiveStale] and must not be more than [bus.ClockSkew] ahead;
// the time that a stored frame names is its sender's word and not checked.
//
// Open takes the frame over: it decrypts in place, and the records alias it.
// After ErrDuplicate and all errors above the line "key and ciphertext" the
// frame is as it was, and may be tried again; after the others it is garbage.
// It allocates a small, constant number of times a frame and never a record.
func (o *Opener) Open(roomToken, senderToken string, frame []byte) (*Opened, error) {
	now := o.now()
	h, err := ParseHeader(frame)
	if err != nil {
		return nil, err
	}
	head := o.view.Head()
	if h.Suite != head.Policy.Suite {
		return nil, bus.Errorf(bus.CodePolicy, "open frame: suite %d in a room of suite %d", h.Suite, head.Policy.Suite)
	}
	if err := checkRoute(&h, head.Room, roomToken, senderToken); err != nil {
		return nil, err
	}
	a, fresh, err := o.admit(&h, head, now)
	if err != nil {
		return nil, err
	}
	before, err := o.window.check(h.stream(), h.Seq)
	if err != nil {
		return nil, err
	}
	st := statementOf(frame)
	hash := st.Hash()
	if before != nil && before.Hash() == hash {
		return nil, ErrDuplicate
	}
	inner, err := decrypt(a.aead, &h, frame)
	if err != nil {
		return nil, err
	}
	out, err := release(a, &h, &st, hash, before, inner, now)
	if err != nil {
		clear(inner) // nobody gets to see what was not proved to be the sender's
		return nil, err
	}
	out.Size = len(frame)
	o.window.accept(h.stream(), h.Seq, &st)
	if fresh {
		if len(o.admitted) >= maxAdmissions {
			clear(o.admitted)
		}
		o.admitted[admissionKey{h.stream(), h.Epoch}] = a
	}
	return out, nil
}

// decrypt returns the content of a frame, in the memory of its ciphertext.
func decrypt(aead cipher.AEAD, h *Header, frame []byte) ([]byte, error) {
	ct := frame[HeaderSize : len(frame)-SignatureSize]
	if aead == nil {
		return ct, nil
	}
	inner, err := aead.Open(ct[:0], h.Nonce[:], ct, frame[:HeaderSize])
	if err != nil {
		return nil, bus.Errorf(bus.CodeDecrypt, "open frame: of %s, seq %d: %w", h.Sender, h.Seq, err)
	}
	return inner, nil
}

// release makes the last checks, those that need the content.
func release(a *admission, h *Header, st *Statement, hash bus.FrameHash, before *Statement, inner []byte, now time.Time) (*Opened, error) {
	if !st.verify(a.pub, hash) {
		return nil, bus.Errorf(bus.CodeBadSignature, "open frame: not signed by %s, its sender", h.Sender)
	}
	if before != nil {
		proof := EquivocationProof{SignPub: a.pub, First: *before, Second: *st}
		return nil, bus.Errorf(bus.CodeEquivocation, "open frame: of %s, seq %d: %w", h.Sender, h.Seq, &EquivocationError{proof})
	}
	sent, records, err := parseInner(inner, h.Flags)
	if err != nil {
		return nil, err
	}
	if a.live {
		if now.Sub(sent) > bus.LiveStale {
			return nil, bus.Errorf(bus.CodeStale, "open frame: sent at %s, more than %s ago", sent, bus.LiveStale)
		}
		if sent.Sub(now) > bus.ClockSkew {
			return nil, bus.Errorf(bus.CodeClockSkew, "open frame: sent at %s, more than %s ahead", sent, bus.ClockSkew)
		}
	}
	return &Opened{Header: *h, Hash: hash, Sent: sent, Records: records}, nil
}
