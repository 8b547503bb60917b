package vectors

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
)

type framesGolden struct {
	About []string
	Keys  struct {
		SignSeed   string `json:"sign_seed"`
		SignPub    string `json:"sign_pub"`
		Sender     string
		EpochKey   string `json:"epoch_key"`
		RecordHash string `json:"record_hash"`
	}
	Frames  []frameVector
	Refused []refusedVector
	Proofs  []struct {
		Name   string
		Frames [2]string
		Pieces []struct{ Field, Hex string }
		Proof  string
	}
}

type frameVector struct {
	Name, About string
	Header      struct {
		Suite, Flags byte
		RoomID       string `json:"room_id"`
		Epoch, Seq   uint64
		Session      string
		Nonce        string
	}
	SentUS  uint64 `json:"sent_us"`
	Records []struct {
		Headers [][2]string
		Body    string
	}
	FrameKey  string `json:"frame_key"`
	Inner     string
	CTDigest  string                        `json:"sha256_of_ct"`
	FrameHash string                        `json:"frame_hash"`
	MsgID     string                        `json:"nats_msg_id"`
	Pieces    []struct{ Field, Hex string } // in their order, the frame
	Frame     string
}

type refusedVector struct {
	Name, Code string
	Flags      byte
	Frame      string
}

// epoch is the keys that all frames of the golden file are under.
type epoch struct {
	seed, key           []byte
	signPub, recordHash Hash32
}

func readFrames(t *testing.T) (*framesGolden, epoch) {
	t.Helper()
	g := &framesGolden{}
	readJSON(t, framesFile, g)
	e := epoch{unhex(t, "sign_seed", g.Keys.SignSeed), unhex(t, "epoch_key", g.Keys.EpochKey), Hash32{},
		Hash32(unhex(t, "record_hash", g.Keys.RecordHash))}
	e.signPub = SignPub(e.seed)
	sender := ID(e.signPub)
	same(t, "sign_pub", e.signPub[:], unhex(t, "sign_pub", g.Keys.SignPub))
	same(t, "sender", sender[:], unhex(t, "sender", g.Keys.Sender))
	return g, e
}

func (e epoch) reader(f *Header, flags byte) *Reader {
	return &Reader{f.RoomID, e.recordHash, e.signPub, f.Suite, flags, f.Epoch, e.key}
}

func TestFrameVectors(t *testing.T) {
	g, e := readFrames(t)
	seen := map[string]bool{}
	for _, v := range g.Frames {
		t.Run(v.Name, func(t *testing.T) { e.replay(t, &v) })
		padded, live := v.Header.Flags&FlagPad != 0, v.Header.Flags&FlagPersist == 0
		seen[fmt.Sprintf("suite %d, padded: %t", v.Header.Suite, padded)] = true
		seen[fmt.Sprintf("live: %t", live)] = true
		seen[fmt.Sprintf("more than one record: %t", len(v.Records) > 1)] = true
		for _, r := range v.Records {
			seen[fmt.Sprintf("headers: %d, empty: %t", min(len(r.Headers), 2), r.Body == "")] = true
		}
		seen["seq of more than 32 bits"] = seen["seq of more than 32 bits"] || v.Header.Seq>>32 > 0
	}
	for _, kind := range []string{
		"suite 0, padded: false", "suite 0, padded: true", "suite 1, padded: false", "suite 1, padded: true",
		"suite 2, padded: false", "live: true", "live: false", "more than one record: true", "more than one record: false",
		"headers: 0, empty: true", "headers: 0, empty: false", "headers: 2, empty: false", "seq of more than 32 bits",
	} {
		if !seen[kind] {
			t.Errorf("%s has no frame of this kind: %s", framesFile, kind)
		}
	}
}

// replay makes the frame from keys, header and records, and takes it apart again.
func (e epoch) replay(t *testing.T, v *frameVector) {
	h := e.header(t, v)
	key := ""
	if h.Suite != 0 {
		key = fmt.Sprintf("%x", must[[]byte](t)(h.FrameKey(e.key, e.recordHash)))
	}
	if key != v.FrameKey {
		t.Errorf("frame_key:\n got %s\nwant %s", key, v.FrameKey)
	}
	in := v.inner(t)
	inner := in.Encode(h.Flags&FlagPad != 0)
	same(t, "inner", inner, unhex(t, "inner", v.Inner))
	frame := unhex(t, "frame", v.Frame)
	same(t, "frame", must[[]byte](t)(h.Seal(e.seed, e.key, e.recordHash, inner)), frame)

	f := must[*Frame](t)(ParseFrame(frame))
	if f.Header != h {
		t.Errorf("header:\n got %+v\nwant %+v", f.Header, h)
	}
	if len(f.Fields) != len(v.Pieces) {
		t.Fatalf("pieces: %d, not %d", len(v.Pieces), len(f.Fields))
	}
	for i, p := range v.Pieces {
		if p.Field != f.Fields[i].Name {
			t.Errorf("piece %d: %s, not %s", i, p.Field, f.Fields[i].Name)
		}
		same(t, p.Field, f.Fields[i].Value, unhex(t, p.Field, p.Hex))
	}
	digest := sha256.Sum256(f.CT)
	same(t, "sha256_of_ct", digest[:], unhex(t, "sha256_of_ct", v.CTDigest))
	same(t, "frame_hash", f.Hash[:], unhex(t, "frame_hash", v.FrameHash))
	if id := Text(f.Hash[:]); id != v.MsgID {
		t.Errorf("nats_msg_id: %s, not %s", id, v.MsgID)
	}
	opened := must[*Inner](t)(e.reader(&h, h.Flags).Open(frame))
	same(t, "what was opened", opened.Encode(false), in.Encode(false))
}

// header is the header of a vector, epoch_tag and sender derived.
func (e epoch) header(t *testing.T, v *frameVector) Header {
	t.Helper()
	return Header{
		Suite: v.Header.Suite, Flags: v.Header.Flags,
		RoomID:   Hash32(unhex(t, "room_id", v.Header.RoomID)),
		Epoch:    v.Header.Epoch,
		EpochTag: [8]byte(e.recordHash[:8]),
		Sender:   ID(e.signPub),
		Session:  [16]byte(unhex(t, "session", v.Header.Session)),
		Seq:      v.Header.Seq,
		Nonce:    [nonceSize]byte(unhex(t, "nonce", v.Header.Nonce)),
	}
}

func (v *frameVector) inner(t *testing.T) *Inner {
	t.Helper()
	in := &Inner{SentUS: v.SentUS}
	maybe := func(name, s string) []byte { // a body or value may be empty
		if s == "" {
			return nil
		}
		return unhex(t, name, s)
	}
	for _, r := range v.Records {
		m := Message{Body: maybe("body", r.Body)}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, KeyValue{unhex(t, "key", h[0]), maybe("value", h[1])})
		}
		in.Messages = append(in.Messages, m)
	}
	return in
}

// refusals says for every refused frame the field it is refused for, and for those that are the first frame with one
// piece changed, which piece: a frame that is refused for something else than its name says proves nothing.
var refusals = map[string]struct{ field, changed string }{
	"content: more records than there are":      {"headers_length", ""},
	"content: fewer records than there are":     {"padding", ""},
	"content: body cut short":                   {"body", ""},
	"content: body of 4 GiB":                    {"body", ""},
	"content: headers cut short":                {"key", ""}, // the length covers the body's, which reads as an empty key
	"content: header value cut short":           {"value", ""},
	"content: header key without value":         {"value_length", ""},
	"content: empty header key":                 {"key", ""},
	"content: header keys descend":              {"key", ""},
	"content: header key twice":                 {"key", ""},
	"content: a prefix after the longer key":    {"key", ""},
	"content: a byte after the last record":     {"padding", ""},
	"content: padding where none is due":        {"padding", ""},
	"content: no padding where some is due":     {"padding", ""},
	"content: more padding than is due":         {"padding", ""},
	"content: padding that is not zero":         {"padding", ""},
	"content: sent in the year 10000":           {"sent_us", ""},
	"content: sent beyond 63 bits":              {"sent_us", ""},
	"other letters in front":                    {`magic "UB"`, `magic "UB"`},
	"version 0":                                 {"version", "version"},
	"type 2":                                    {"type", "type"},
	"ct_len is wrong by one":                    {"end", "ct_len"},
	"a byte is missing at the end":              {"sig", "sig"},
	"another session than it was encrypted for": {"ct", "session"},
	"another seq than it was encrypted for":     {"ct", "seq"},
	"another nonce than it was encrypted with":  {"ct", "nonce"},
	"a changed ciphertext":                      {"ct", "ct"},
	"a changed signature":                       {"sig", "sig"},
}

func TestRefusedFrameVectors(t *testing.T) {
	g, e := readFrames(t)
	if len(g.Frames) == 0 {
		t.Fatalf("%s has no frames", framesFile)
	}
	first := must[*Frame](t)(ParseFrame(unhex(t, "frame", g.Frames[0].Frame)))
	seen := map[string]bool{}
	for _, v := range g.Refused {
		seen[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			want, b := refusals[v.Name], unhex(t, "frame", v.Frame)
			rd := e.reader(&first.Header, v.Flags)
			f, err := ParseFrame(b)
			if want.changed != "" {
				same(t, "all but "+want.changed, without(want.changed, first.Fields, b), without(want.changed, first.Fields, nil))
			} else if err != nil {
				t.Fatalf("the frame around the content: %v", err)
			}
			if err == nil {
				rd = e.reader(&f.Header, v.Flags)
			}
			_, err = rd.Open(b)
			var refused *Error
			if !errors.As(err, &refused) || refused.Code != v.Code || refused.Field != want.field {
				t.Errorf("refused with %v, not %s of %q", err, v.Code, want.field)
			}
		})
	}
	for name := range refusals {
		if !seen[name] {
			t.Errorf("%s has no refused frame %q", framesFile, name)
		}
	}
}

// without is a frame, or where that is nil the fields themselves, without the bytes of one of the fields.
func without(name string, fields []Field, frame []byte) (all []byte) {
	off := 0
	for _, f := range fields {
		value := f.Value
		if frame != nil {
			value = frame[min(off, len(frame)):min(off+len(f.Value), len(frame))]
		}
		if off += len(f.Value); f.Name != name {
			all = append(all, value...)
		}
	}
	return all
}

func TestProofVectors(t *testing.T) {
	g, e := readFrames(t)
	if len(g.Proofs) == 0 {
		t.Fatalf("%s has no proofs", framesFile)
	}
	for _, v := range g.Proofs {
		b := unhex(t, "proof", v.Proof)
		p := must[*Equivocation](t)(ParseEquivocation(b))
		first, second := must[*Frame](t)(ParseFrame(unhex(t, "frames", v.Frames[0]))), must[*Frame](t)(ParseFrame(unhex(t, "frames", v.Frames[1])))
		if p.SignPub != e.signPub || p.First != first.Header || p.Second != second.Header || first.Hash == second.Hash {
			t.Errorf("%s: proves %+v", v.Name, p)
		}
		if len(v.Pieces) != len(p.Fields) {
			t.Fatalf("%s: %d pieces, not %d", v.Name, len(v.Pieces), len(p.Fields))
		}
		for i, piece := range v.Pieces {
			if piece.Field != p.Fields[i].Name {
				t.Errorf("piece %d: %s, not %s", i, piece.Field, p.Fields[i].Name)
			}
			same(t, piece.Field, p.Fields[i].Value, unhex(t, piece.Field, piece.Hex))
		}
		for at := range b {
			b[at] ^= 1
			if _, err := ParseEquivocation(b); err == nil {
				t.Errorf("%s: read with byte %d changed", v.Name, at)
			}
			b[at] ^= 1
		}
	}
}
