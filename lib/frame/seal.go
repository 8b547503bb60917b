package frame

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/wire"
)

// Sealer makes the frames of one sender's session in one epoch of a room. When
// the room moves to its next epoch, another Sealer takes over with the next
// seq. It is not safe for concurrent use.
type Sealer struct {
	record *room.Record
	sealer sealer
}

// NewSealer returns the sealer of id's session in the epoch that begins with
// rec. key is the epoch's key, ignored in a room without encryption; rand gives
// 24 bytes a frame and is crypto/rand.Reader outside of tests. The error has
// [bus.CodeNotMember] when the record does not let id write and
// [bus.CodeKeyMismatch] when key is not the one it commits to.
func NewSealer(id *identity.Identity, rec *room.Record, key room.Key, session bus.SessionID, rand io.Reader) (*Sealer, error) {
	if !rec.Role(id.ID()).CanWrite() {
		return nil, bus.Errorf(bus.CodeNotMember, "new sealer: %s may not write in epoch %d of its room", id, rec.Epoch)
	}
	if rec.Policy.Encrypted() {
		if err := rec.CheckKey(key); err != nil {
			return nil, err
		}
	}
	hash := rec.Hash()
	h := Header{
		Suite:    rec.Policy.Suite,
		Flags:    rec.Policy.Flags,
		Room:     rec.Room,
		Epoch:    rec.Epoch,
		EpochTag: TagOf(hash),
		Sender:   id.ID(),
		Session:  session,
	}
	s, err := newSealer(h, key, hash, func(msg []byte) []byte { return id.Sign(wire.LabelFrame, msg) }, rand)
	if err != nil {
		return nil, err
	}
	return &Sealer{record: rec, sealer: s}, nil
}

// Seal appends to dst a frame with these records and returns the longer slice
// and the frame's hash. With room for [bus.MaxFrameSize] in dst it allocates
// nothing a record and a small, constant amount a frame.
//
// Seqs must rise from call to call: two frames with one seq are equivocation,
// so a retry sends the bytes of the first attempt again. sent is what the frame
// says about when it was sent, in microseconds.
//
// On error dst comes back as it was and the seq is still free. The error has
// the codes of [room.Record.CheckTime] when the epoch's record is past its time,
// those of [CheckRecord] for a record, [bus.CodeTooLarge] when there are more
// records than a frame carries or they do not fit, and [bus.CodeUsage] for no
// record, a seq that does not rise or a time outside 1970 to 9999.
func (s *Sealer) Seal(dst []byte, seq bus.Seq, sent time.Time, recs []Record) ([]byte, bus.FrameHash, error) {
	if err := s.record.CheckTime(sent); err != nil {
		return dst, bus.FrameHash{}, err
	}
	return s.sealer.seal(dst, seq, sent, recs)
}

// sealer is a Sealer without the room's rules: bytes and keys only.
type sealer struct {
	template [HeaderSize]byte // seq, nonce and length are filled in for each frame
	flags    bus.RoomFlags
	aead     cipher.AEAD // nil where nothing is encrypted
	sign     func(msg []byte) []byte
	rand     io.Reader
	used     bool
	last     bus.Seq
}

func newSealer(h Header, key room.Key, record bus.RecordHash, sign func([]byte) []byte, rand io.Reader) (sealer, error) {
	aead, err := newAEAD(h.Suite, key, record, h.Sender, h.Session)
	if err != nil {
		return sealer{}, err
	}
	s := sealer{flags: h.Flags, aead: aead, sign: sign, rand: rand}
	h.append(s.template[:0], 0)
	return s, nil
}

func (s *sealer) seal(dst []byte, seq bus.Seq, sent time.Time, recs []Record) ([]byte, bus.FrameHash, error) {
	content, err := contentLen(recs)
	if err != nil {
		return dst, bus.FrameHash{}, err
	}
	if s.used && seq <= s.last {
		return dst, bus.FrameHash{}, bus.Errorf(bus.CodeUsage, "seal frame: seq %d after %d", seq, s.last)
	}
	if us := sent.UnixMicro(); us < 0 || us > maxSent {
		return dst, bus.FrameHash{}, bus.Errorf(bus.CodeUsage, "seal frame: sent at %s, outside 1970 to 9999", sent)
	}
	innerLen := paddedLen(content, s.flags)
	ctLen := innerLen
	if s.aead != nil {
		ctLen += wire.Overhead
	}
	start := len(dst)
	out := slices.Grow(dst, HeaderSize+ctLen+SignatureSize)
	out = append(out, s.template[:]...)
	header := out[start : start+HeaderSize : start+HeaderSize]
	binary.BigEndian.PutUint64(header[seqAt:], uint64(seq))
	binary.BigEndian.PutUint32(header[ctLenAt:], uint32(ctLen))
	nonce := header[nonceAt:ctLenAt]
	if _, err := io.ReadFull(s.rand, nonce); err != nil {
		return dst, bus.FrameHash{}, bus.Errorf(bus.CodeInternal, "seal frame: read nonce: %w", err)
	}
	out = appendInner(out, sent, recs, content, innerLen)
	if s.aead != nil {
		inner := out[start+HeaderSize:]
		out = out[:start+HeaderSize+len(s.aead.Seal(inner[:0], nonce, inner, header))]
	}
	digest := sha256.Sum256(out[start+HeaderSize:])
	hash := hashOf(header, digest[:])
	s.used, s.last = true, seq
	return append(out, s.sign(hash[:])...), hash, nil
}

// contentLen checks the records of a frame and returns the length of its
// content without padding.
func contentLen(recs []Record) (int, error) {
	if len(recs) == 0 {
		return 0, bus.Errorf(bus.CodeUsage, "seal frame: no record")
	}
	if len(recs) > bus.MaxRecords {
		return 0, bus.Errorf(bus.CodeTooLarge, "seal frame: %d records, more than %d", len(recs), bus.MaxRecords)
	}
	n := InnerOverhead
	for i := range recs {
		if err := CheckRecord(recs[i]); err != nil {
			return 0, err
		}
		n += RecordSize(recs[i])
		if n > MaxInner {
			return 0, bus.Errorf(bus.CodeTooLarge, "seal frame: %d of %d records are over %d bytes", i+1, len(recs), MaxInner)
		}
	}
	return n, nil
}
