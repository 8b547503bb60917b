package vectors

import (
	"bytes"
	"crypto/sha256"
	"math/bits"
	"slices"
)

const (
	headerSize   = 138
	maxFrame     = 262144
	maxSentUS    = maxTime*1_000_000 + 999_999
	maxInRecords = 1024
)

// Header is the header of a frame.
type Header struct {
	Suite, Flags byte
	RoomID       Hash32
	Epoch        uint64
	EpochTag     [8]byte
	Sender       Hash32
	Session      [16]byte
	Seq          uint64
	Nonce        [nonceSize]byte
}

// Encode is the header's bytes in front of ctLen bytes.
func (h *Header) Encode(ctLen int) []byte {
	return slices.Concat([]byte{'U', 'B', 1, 3, h.Suite, h.Flags}, h.RoomID[:], u64(h.Epoch), h.EpochTag[:], h.Sender[:],
		h.Session[:], u64(h.Seq), h.Nonce[:], u32(ctLen))
}

// Frame is a frame whose form has been checked, and nothing else.
type Frame struct {
	Header
	HeaderBytes, CT, Sig []byte
	Hash                 Hash32
	Fields               []Field
}

// ParseFrame reads a frame. Code: malformed.
func ParseFrame(b []byte) (*Frame, error) {
	r := newReader(b)
	r.check(len(b) <= maxFrame, "frame", "has %d bytes", len(b))
	r.check(string(r.take(`magic "UB"`, 2)) == "UB", `magic "UB"`, "other letters")
	r.head(3)
	f := &Frame{}
	f.Suite, f.Flags = byte(r.uint("suite", 1)), byte(r.uint("flags", 1))
	f.RoomID, f.Epoch = r.hash("room_id"), r.uint("epoch", 8)
	copy(f.EpochTag[:], r.take("epoch_tag", 8))
	f.Sender = r.hash("sender")
	copy(f.Session[:], r.take("session", 16))
	f.Seq = r.uint("seq", 8)
	copy(f.Nonce[:], r.take("nonce", nonceSize))
	n := r.uint("ct_len", 4)
	f.HeaderBytes = b[:r.off]
	f.CT = r.take("ct", int(n))
	_, f.Sig = r.sig()
	f.Fields = r.fields
	f.Hash = FrameHash(f.HeaderBytes, f.CT)
	return f, r.done()
}

// FrameHash is frame_hash.
func FrameHash(header, ct []byte) Hash32 {
	digest := sha256.Sum256(ct)
	return Hash("frame-hash", header, digest[:])
}

// FrameKey is the key of one session of a sender in an epoch.
func (h *Header) FrameKey(epochKey []byte, recordHash Hash32) ([]byte, error) {
	return KDF(epochKey, recordHash[:], "frame-key", []byte{h.Suite}, h.Sender[:], h.Session[:])
}

// Reader is what a reader of a room knows of an epoch and of one sender.
type Reader struct {
	RoomID, RecordHash, SignPub Hash32
	Suite, Flags                byte
	Epoch                       uint64
	EpochKey                    []byte
}

// Open reads, decrypts and verifies a frame, in the order of the protocol; there are no windows. Codes: malformed,
// policy, misrouted, epoch_unknown, fork, decrypt, bad_signature.
func (rd *Reader) Open(b []byte) (*Inner, error) {
	f, err := ParseFrame(b)
	if err != nil {
		return nil, err
	}
	switch {
	case f.Suite != rd.Suite:
		return nil, refuse("policy", "suite", "%d in a room of %d", f.Suite, rd.Suite)
	case f.RoomID != rd.RoomID || f.Sender != ID(rd.SignPub):
		return nil, refuse("misrouted", "sender", "%x in room %x", f.Sender, f.RoomID)
	case f.Epoch != rd.Epoch:
		return nil, refuse("epoch_unknown", "epoch", "%d", f.Epoch)
	case !bytes.Equal(f.EpochTag[:], rd.RecordHash[:8]):
		return nil, refuse("fork", "epoch_tag", "%x of record %x", f.EpochTag, rd.RecordHash)
	case f.Flags != rd.Flags:
		return nil, refuse("policy", "flags", "%#x in an epoch of %#x", f.Flags, rd.Flags)
	}
	inner := f.CT
	if rd.Suite != 0 {
		if inner, err = rd.decrypt(f); err != nil {
			return nil, err
		}
	}
	if err := Verify(rd.SignPub, "frame", f.Hash[:], f.Sig); err != nil {
		return nil, err
	}
	return ParseInner(inner, f.Flags&FlagPad != 0)
}

func (rd *Reader) decrypt(f *Frame) ([]byte, error) {
	key, err := f.FrameKey(rd.EpochKey, rd.RecordHash)
	if err != nil {
		return nil, err
	}
	aead, err := AEAD(rd.Suite, key)
	if err != nil {
		return nil, err
	}
	inner, err := aead.Open(nil, f.Nonce[:], f.CT, f.HeaderBytes)
	if err != nil {
		return nil, refuse("decrypt", "ct", "%v", err)
	}
	return inner, nil
}

// KeyValue is a header of a record in a frame.
type KeyValue struct {
	Key, Value []byte
}

// Message is a record in a frame.
type Message struct {
	Headers []KeyValue
	Body    []byte
}

// Inner is the inner part of a frame.
type Inner struct {
	SentUS   uint64
	Messages []Message
}

// ParseInner reads an inner part and checks its padding, to the byte. Code: malformed.
func ParseInner(b []byte, padded bool) (*Inner, error) {
	r := newReader(b)
	in := &Inner{SentUS: r.uint("sent_us", 8)}
	r.check(in.SentUS <= maxSentUS, "sent_us", "%d is after the year 9999", in.SentUS)
	n := r.uint("n", 2)
	r.check(1 <= n && n <= maxInRecords, "n", "is %d", n)
	for range n {
		if r.err != nil {
			break
		}
		in.Messages = append(in.Messages, readMessage(r))
	}
	want := r.off
	if padded {
		want = Padme(r.off)
	}
	r.check(len(b) == want, "padding", "%d bytes, not %d, behind %d", len(b)-r.off, want-r.off, r.off)
	for _, c := range r.rest("padding") {
		r.check(c == 0, "padding", "is not zero")
	}
	return in, r.done()
}

func readMessage(r *reader) (m Message) {
	var last []byte
	before := r.off + 2
	r.list("headers", 2, func() {
		kv := KeyValue{r.blob("key", 1), r.blob("value", 2)}
		r.check(len(kv.Key) > 0, "key", "is empty")
		r.check(ascends(last, kv.Key), "key", "%q does not ascend", kv.Key)
		m.Headers, last = append(m.Headers, kv), kv.Key
	})
	r.check(r.off-before <= 16384, "headers", "have %d bytes", r.off-before)
	m.Body = r.blob("body", 4)
	return m
}

// Encode is the inner part's bytes, padded or not.
func (in *Inner) Encode(padded bool) []byte {
	b := append(u64(in.SentUS), u16(len(in.Messages))...)
	for _, m := range in.Messages {
		var headers []byte
		for _, kv := range m.Headers {
			headers = slices.Concat(headers, []byte{byte(len(kv.Key))}, kv.Key, u16(len(kv.Value)), kv.Value)
		}
		b = slices.Concat(b, u16(len(headers)), headers, u32(len(m.Body)), m.Body)
	}
	if padded {
		b = append(b, make([]byte, Padme(len(b))-len(b))...)
	}
	return b
}

// Padme is the padded length of n bytes: of the e+1 bits of n, those behind the first and as many more as e has bits
// are rounded up to zero.
func Padme(n int) int {
	if n < 2 {
		return n
	}
	e := bits.Len(uint(n)) - 1
	mask := 1<<(e-bits.Len(uint(e))) - 1
	return (n + mask) &^ mask
}

// Seal makes a frame: the inner part under the epoch key, signed by the seed.
func (h Header) Seal(signSeed, epochKey []byte, recordHash Hash32, inner []byte) ([]byte, error) {
	header, ct := h.Encode(len(inner)), inner
	if h.Suite != 0 {
		key, err := h.FrameKey(epochKey, recordHash)
		if err != nil {
			return nil, err
		}
		aead, err := AEAD(h.Suite, key)
		if err != nil {
			return nil, err
		}
		header = h.Encode(len(inner) + tagSize)
		ct = aead.Seal(nil, h.Nonce[:], inner, header)
	}
	hash := FrameHash(header, ct)
	return slices.Concat(header, ct, Sign(signSeed, "frame", hash[:])), nil
}

// Equivocation is a proof that somebody has signed two frames of one seq.
type Equivocation struct {
	SignPub       Hash32
	First, Second Header
	Fields        []Field
}

// ParseEquivocation reads and verifies a proof of equivocation. Codes: malformed, bad_signature.
func ParseEquivocation(b []byte) (*Equivocation, error) {
	r := newReader(b)
	e := &Equivocation{SignPub: r.hash("sign_pub")}
	var hashes [2]Hash32
	var sigs [2][]byte
	for i, h := range []*Header{&e.First, &e.Second} {
		part := []string{"first", "second"}[i]
		header, digest := r.take(part+"_header", headerSize), r.take(part+"_ct_sha256", 32)
		sigs[i] = r.take(part+"_sig", 64)
		if r.err != nil {
			break
		}
		hashes[i] = Hash("frame-hash", header, digest)
		if n := int(newReader(header[headerSize-4:]).uint("ct_len", 4)); n <= maxFrame {
			// What stands behind the header is not there, so zeros stand for it.
			f, err := ParseFrame(append(slices.Clone(header), make([]byte, n+64)...))
			if err != nil {
				return nil, err
			}
			*h = f.Header
		} else {
			r.fail("malformed", part+"_header", "of %d bytes", n)
		}
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	e.Fields = r.fields
	a, c := &e.First, &e.Second
	switch {
	case a.RoomID != c.RoomID || a.Sender != c.Sender || a.Session != c.Session || a.Seq != c.Seq:
		return nil, refuse("malformed", "second_header", "is of another seq")
	case hashes[0] == hashes[1]:
		return nil, refuse("malformed", "second_header", "is of the same frame")
	case ID(e.SignPub) != a.Sender:
		return nil, refuse("malformed", "sign_pub", "is not the sender's")
	}
	for i := range sigs {
		if err := Verify(e.SignPub, "frame", hashes[i][:], sigs[i]); err != nil {
			return nil, err
		}
	}
	return e, nil
}
