package hostile

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/wire"
)

// Frame is a frame in the making, which may say anything. [NewFrame] fills it in
// honestly; the fields are then changed, and Sign makes the bytes.
type Frame struct {
	frame.Header
	Record bus.RecordHash // with which the key is derived
	Key    room.Key       // of the epoch
	Inner  []byte
}

// NewFrame returns the frame of one message that sender honestly makes under a
// record, whose key is given.
func NewFrame(rec *room.Record, key room.Key, sender bus.ID, session bus.SessionID, seq bus.Seq, sent time.Time, body []byte) *Frame {
	f := &Frame{
		Header: frame.Header{
			Suite: rec.Policy.Suite, Flags: rec.Policy.Flags, Room: rec.Room, Epoch: rec.Epoch,
			EpochTag: frame.TagOf(rec.Hash()), Sender: sender, Session: session, Seq: seq,
		},
		Record: rec.Hash(),
		Key:    key,
	}
	random(f.Nonce[:])
	f.Inner = binary.BigEndian.AppendUint64(nil, uint64(sent.UnixMicro()))
	f.Inner = append(f.Inner, 0, 1, 0, 0) // one message without headers
	f.Inner = binary.BigEndian.AppendUint32(f.Inner, uint32(len(body)))
	f.Inner = append(f.Inner, body...)
	return f
}

// Sign seals the frame and has an identity sign it.
func (f *Frame) Sign(id *identity.Identity) []byte {
	return f.SignWith(func(hash []byte) []byte { return id.Sign(wire.LabelFrame, hash) })
}

// SignWith is Sign with a signature of the frame's hash that anybody makes.
func (f *Frame) SignWith(sign func(hash []byte) []byte) []byte {
	length := len(f.Inner)
	if f.Suite != bus.SuitePlain {
		length += wire.Overhead
	}
	header := f.header(length)
	ct := f.Inner
	if f.Suite != bus.SuitePlain {
		key := wire.DeriveKey(f.Key[:], f.Record[:], wire.LabelFrameKey, wire.KeySize, []byte{byte(f.Suite)}, f.Sender[:], f.Session[:])
		aead, err := wire.NewAEAD(f.Suite, key)
		if err != nil {
			panic("hostile: " + err.Error()) // for a suite of the policy
		}
		ct = aead.Seal(nil, f.Nonce[:], f.Inner, header)
	}
	digest := sha256.Sum256(ct)
	hash := wire.Hash(wire.LabelFrameHash, header, digest[:])
	return append(append(header, ct...), sign(hash[:])...)
}

func (f *Frame) header(length int) []byte {
	out := append([]byte("UB"), bus.Version, bus.TypeFrame, byte(f.Suite), byte(f.Flags))
	out = append(out, f.Room[:]...)
	out = binary.BigEndian.AppendUint64(out, uint64(f.Epoch))
	out = append(out, f.EpochTag[:]...)
	out = append(out, f.Sender[:]...)
	out = append(out, f.Session[:]...)
	out = binary.BigEndian.AppendUint64(out, uint64(f.Seq))
	out = append(out, f.Nonce[:]...)
	return binary.BigEndian.AppendUint32(out, uint32(length))
}

// MsgID returns the id under which a frame is honestly published.
func MsgID(data []byte) string {
	end := len(data) - frame.SignatureSize
	digest := sha256.Sum256(data[frame.HeaderSize:end])
	return frame.MsgID(wire.Hash(wire.LabelFrameHash, data[:frame.HeaderSize], digest[:]))
}
