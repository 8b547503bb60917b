package frame

import (
	"encoding/base64"
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// Sizes of a frame's fixed parts, in bytes.
const (
	// HeaderSize is everything before the ciphertext.
	HeaderSize = 138
	// SignatureSize is everything after it.
	SignatureSize = 64
	// InnerOverhead is the time and the count that precede the records inside.
	InnerOverhead = 10
	// Overhead is what an encrypted frame adds to its encoded records and padding.
	Overhead = HeaderSize + InnerOverhead + wire.Overhead + SignatureSize
	// MaxInner is the longest content of a frame, its padding included. It is the
	// same in rooms without encryption, so that a record that fits one room fits all.
	MaxInner = bus.MaxFrameSize - Overhead + InnerOverhead

	// minInner is a time, a count and one record without headers and body.
	minInner = InnerOverhead + RecordOverhead
)

// The fixed parts of a header: "UB", version and type; and the length of the
// ciphertext at its end.
const (
	magic     = "UB"
	prefixLen = len(magic) + 2
	ctLenAt   = HeaderSize - 4
	nonceAt   = ctLenAt - wire.NonceSize
	seqAt     = nonceAt - 8
)

// Header is the part of a frame that everybody can read, the servers too. The
// ciphertext's tag and the signature cover every bit of it.
type Header struct {
	Suite    bus.Suite     // of the room, fixed by its first record
	Flags    bus.RoomFlags // of the policy of the epoch's record
	Room     bus.RoomID
	Epoch    bus.Epoch
	EpochTag EpochTag
	Sender   bus.ID
	Session  bus.SessionID
	Seq      bus.Seq
	Nonce    [wire.NonceSize]byte
}

// EpochTag tells which of several records of one epoch a frame belongs to: the
// first 8 bytes of the record's hash.
type EpochTag [8]byte

// TagOf returns the tag of the epoch that begins with the record of this hash.
func TagOf(record bus.RecordHash) EpochTag { return EpochTag(record[:8]) }

// ParseHeader reads the header of a whole frame and checks that the lengths of
// header, ciphertext and signature add up to the frame's. It looks at nothing
// else: not at the suite, not at the signature. The error has
// [bus.CodeMalformed].
func ParseHeader(frame []byte) (Header, error) {
	if len(frame) > bus.MaxFrameSize {
		return Header{}, bus.Errorf(bus.CodeMalformed, "parse frame: %d bytes, more than %d", len(frame), bus.MaxFrameSize)
	}
	if len(frame) < HeaderSize+minInner+SignatureSize {
		return Header{}, bus.Errorf(bus.CodeMalformed, "parse frame: %d bytes are too few", len(frame))
	}
	h, ctLen, err := decodeHeader(frame[:HeaderSize])
	if err != nil {
		return Header{}, err
	}
	if have := len(frame) - HeaderSize - SignatureSize; uint64(ctLen) != uint64(have) {
		return Header{}, bus.Errorf(bus.CodeMalformed, "parse frame: %d bytes of ciphertext where the header says %d", have, ctLen)
	}
	return h, nil
}

// decodeHeader reads the [HeaderSize] bytes of a header.
func decodeHeader(raw []byte) (h Header, ctLen uint32, err error) {
	if string(raw[:len(magic)]) != magic || raw[len(magic)] != bus.Version || raw[len(magic)+1] != bus.TypeFrame {
		return h, 0, bus.Errorf(bus.CodeMalformed, "parse frame: begins with %x, which is no frame of version %d", raw[:prefixLen], bus.Version)
	}
	s := cryptobyte.String(raw[prefixLen:])
	ok := s.ReadUint8((*uint8)(&h.Suite)) &&
		s.ReadUint8((*uint8)(&h.Flags)) &&
		s.CopyBytes(h.Room[:]) &&
		s.ReadUint64((*uint64)(&h.Epoch)) &&
		s.CopyBytes(h.EpochTag[:]) &&
		s.CopyBytes(h.Sender[:]) &&
		s.CopyBytes(h.Session[:]) &&
		s.ReadUint64((*uint64)(&h.Seq)) &&
		s.CopyBytes(h.Nonce[:]) &&
		s.ReadUint32(&ctLen) &&
		s.Empty()
	if !ok {
		return h, 0, bus.Errorf(bus.CodeMalformed, "parse frame: header of %d bytes, want %d", len(raw), HeaderSize)
	}
	return h, ctLen, nil
}

// append writes the header of a frame with ctLen bytes of ciphertext.
func (h *Header) append(dst []byte, ctLen int) []byte {
	dst = append(dst, magic...)
	dst = append(dst, bus.Version, bus.TypeFrame, byte(h.Suite), byte(h.Flags))
	dst = append(dst, h.Room[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Epoch))
	dst = append(dst, h.EpochTag[:]...)
	dst = append(dst, h.Sender[:]...)
	dst = append(dst, h.Session[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Seq))
	dst = append(dst, h.Nonce[:]...)
	return binary.BigEndian.AppendUint32(dst, uint32(ctLen))
}

// MsgID returns the value of the Nats-Msg-Id header under which a frame is
// published: its hash in base64url without padding. Servers drop a second
// message of the same id whatever its subject, so the id must be one that
// nobody can know before the frame is stored.
func MsgID(hash bus.FrameHash) string { return base64.RawURLEncoding.EncodeToString(hash[:]) }
