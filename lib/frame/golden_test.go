package frame

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/wire"
)

var update = flag.Bool("update", false, "write testdata anew")

var goldenPath = filepath.Join("testdata", "frames.json")

// hexBytes is binary in the file.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// goldenFile is testdata/frames.json. It is meant to be read by people and by
// decoders that know nothing of this code.
type goldenFile struct {
	About   []string        `json:"about"`
	Keys    goldenKeys      `json:"keys"`
	Frames  []goldenFrame   `json:"frames"`
	Refused []goldenRefused `json:"refused"`
	Proofs  []goldenProof   `json:"proofs"`
}

// goldenProof shows that the sender of the file has signed two frames of one seq.
type goldenProof struct {
	Name   string        `json:"name"`
	Frames [2]hexBytes   `json:"frames"`
	Pieces []goldenPiece `json:"pieces"`
	Proof  hexBytes      `json:"proof"`
}

type goldenKeys struct {
	SignSeed hexBytes `json:"sign_seed"`
	SignPub  hexBytes `json:"sign_pub"`
	Sender   hexBytes `json:"sender"`
	EpochKey hexBytes `json:"epoch_key"`
	RH       hexBytes `json:"record_hash"`
}

type goldenFrame struct {
	Name    string         `json:"name"`
	About   string         `json:"about"`
	Header  goldenHeader   `json:"header"`
	SentUS  int64          `json:"sent_us"`
	Records []goldenRecord `json:"records"`

	FrameKey  hexBytes      `json:"frame_key"` // empty for suite 0
	Inner     hexBytes      `json:"inner"`
	Digest    hexBytes      `json:"sha256_of_ct"`
	FrameHash hexBytes      `json:"frame_hash"`
	MsgID     string        `json:"nats_msg_id"`
	Pieces    []goldenPiece `json:"pieces"`
	Frame     hexBytes      `json:"frame"`
}

type goldenHeader struct {
	Suite   bus.Suite     `json:"suite"`
	Flags   bus.RoomFlags `json:"flags"`
	Room    hexBytes      `json:"room_id"`
	Epoch   bus.Epoch     `json:"epoch"`
	Session hexBytes      `json:"session"`
	Seq     bus.Seq       `json:"seq"`
	Nonce   hexBytes      `json:"nonce"`
}

type goldenRecord struct {
	Headers [][2]hexBytes `json:"headers"` // key and value
	Body    hexBytes      `json:"body"`
}

type goldenPiece struct {
	Field string   `json:"field"`
	Hex   hexBytes `json:"hex"`
}

// goldenRefused is a frame that fails with a code; unless the name says
// otherwise its tag and signature hold.
type goldenRefused struct {
	Name  string   `json:"name"`
	Code  bus.Code `json:"code"`
	Flags byte     `json:"flags"`
	Frame hexBytes `json:"frame"`
}

// counting returns n bytes that go up from first.
func counting(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// The secrets of the file.
var (
	goldenSign    = ed25519.NewKeyFromSeed(counting(0x10, 32))
	goldenPub     = bus.SignPub(goldenSign.Public().(ed25519.PublicKey))
	goldenKey     = room.Key(counting(0x40, 32))
	goldenRH      = bus.RecordHash(counting(0x80, 32))
	goldenSession = bus.SessionID(counting(0xe0, 16))
	goldenSent    = time.UnixMicro(1_800_000_000_123_456).UTC()
)

func goldenHeaderOf(suite bus.Suite, flags bus.RoomFlags, seq bus.Seq) Header {
	if suite != bus.SuitePlain {
		flags |= bus.FlagEncrypt
	}
	return Header{
		Suite: suite, Flags: flags, Room: bus.RoomID(counting(0xc0, 32)), Epoch: 0x0102, EpochTag: TagOf(goldenRH),
		Sender: identity.IDOf(goldenPub), Session: goldenSession, Seq: seq,
	}
}

func makeGolden(t *testing.T) goldenFile {
	f := goldenFile{
		About: []string{
			"Frames of unibus, version 1. Binary is hexadecimal, keys and values of headers too. All frames are",
			"of one sender and one epoch, whose keys are under \"keys\"; epoch_key is K_e and record_hash is RH, here any 32 bytes.",
			"frame_key is KDF(K_e, RH, \"frame-key\", suite || sender || session, 32), and empty for suite 0.",
			"pieces, put together, are the frame. Each frame under \"refused\" fails with its code for a reader",
			"of the room that its header names and whose policy has these flags. Under \"proofs\" are two frames of one seq and",
			"what is kept of them to prove it.",
		},
		Keys: goldenKeys{SignSeed: goldenSign.Seed(), SignPub: goldenPub[:], EpochKey: goldenKey[:], RH: goldenRH[:]},
	}
	sender := identity.IDOf(goldenPub)
	f.Keys.Sender = sender[:]

	one := []Record{{Body: []byte("hello")}}
	several := []Record{
		{Headers: []HeaderField{{"content-type", "text/plain; charset=utf-8"}, {"x", ""}}, Body: []byte("grüezi")},
		{},
		{Headers: []HeaderField{{"Z", "before a"}, {"a", "\x00\xff"}, {"ab", "after a"}}, Body: counting(0, 256)},
	}
	for _, v := range []struct {
		name, about string
		suite       bus.Suite
		flags       bus.RoomFlags
		seq         bus.Seq
		records     []Record
	}{
		{"one record", "XAES-256-GCM, a live room, the first frame of a session", bus.SuiteXAESGCM, 0, 0, one},
		{"several records", "headers in the order of their bytes, an empty record, a persisted room with history", bus.SuiteXAESGCM, bus.FlagPersist | bus.FlagHistory, 0x0a0b0c0d0e, several},
		{"padded", "21 bytes of content are padded to Padmé(21) = 22", bus.SuiteXAESGCM, bus.FlagPersist | bus.FlagPad, 1, one},
		{"padded further", "317 bytes of content are padded to 320", bus.SuiteXAESGCM, bus.FlagPad, 2, []Record{{Headers: []HeaderField{{"k", "v"}}, Body: counting(7, 296)}}},
		{"XChaCha20-Poly1305", "the other encrypting suite", bus.SuiteXChaCha20, bus.FlagPersist, 3, one},
		{"plain", "no encryption: the ciphertext is the content, and the nonce is random all the same", bus.SuitePlain, bus.FlagPersist, 4, one},
		{"plain and padded", "padding does not depend on encryption", bus.SuitePlain, bus.FlagPad, 5, one},
	} {
		f.Frames = append(f.Frames, makeGoldenFrame(t, v.name, v.about, goldenHeaderOf(v.suite, v.flags, v.seq), v.records))
	}
	f.Refused = makeGoldenRefused(t, f.Frames[0].Frame)
	second := makeGoldenFrame(t, "", "", goldenHeaderOf(bus.SuiteXAESGCM, 0, 0), []Record{{Body: []byte("goodbye")}})
	f.Proofs = []goldenProof{makeGoldenProof(t, "frame 0 of a session, twice", f.Frames[0].Frame, second.Frame)}
	return f
}

func makeGoldenProof(t *testing.T, name string, first, second []byte) goldenProof {
	p := EquivocationProof{SignPub: goldenPub, First: statementOf(first), Second: statementOf(second)}
	if err := p.Verify(); err != nil {
		t.Fatal(err)
	}
	g := goldenProof{Name: name, Frames: [2]hexBytes{first, second}, Proof: p.Bytes()}
	rest := p.Bytes()
	for _, piece := range []struct {
		field string
		n     int
	}{
		{"sign_pub", 32},
		{"first_header", HeaderSize}, {"first_ct_sha256", 32}, {"first_sig", SignatureSize},
		{"second_header", HeaderSize}, {"second_ct_sha256", 32}, {"second_sig", SignatureSize},
	} {
		g.Pieces = append(g.Pieces, goldenPiece{piece.field, rest[:piece.n]})
		rest = rest[piece.n:]
	}
	return g
}

func makeGoldenFrame(t *testing.T, name, about string, h Header, recs []Record) goldenFrame {
	nonce := counting(byte(0x20+h.Seq), wire.NonceSize)
	s, err := newSealer(h, goldenKey, goldenRH, func(msg []byte) []byte { return wire.Sign(goldenSign, wire.LabelFrame, msg) }, bytes.NewReader(nonce))
	if err != nil {
		t.Fatal(err)
	}
	frame, hash, err := s.seal(nil, h.Seq, goldenSent, recs)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := encode(goldenSent, recs, h.Flags)
	if err != nil {
		t.Fatal(err)
	}
	g := goldenFrame{
		Name: name, About: about, SentUS: goldenSent.UnixMicro(), Frame: frame, Inner: inner, FrameHash: hash[:], MsgID: MsgID(hash), FrameKey: hexBytes{},
		Header: goldenHeader{Suite: h.Suite, Flags: h.Flags, Room: h.Room[:], Epoch: h.Epoch, Session: h.Session[:], Seq: h.Seq, Nonce: nonce},
	}
	if h.Suite != bus.SuitePlain {
		g.FrameKey = wire.DeriveKey(goldenKey[:], goldenRH[:], wire.LabelFrameKey, 32, []byte{byte(h.Suite)}, h.Sender[:], h.Session[:])
	}
	st := statementOf(frame)
	g.Digest = st.Digest[:]
	for _, r := range recs {
		gr := goldenRecord{Headers: [][2]hexBytes{}, Body: r.Body}
		for _, field := range r.Headers {
			gr.Headers = append(gr.Headers, [2]hexBytes{hexBytes(field.Key), hexBytes(field.Value)})
		}
		g.Records = append(g.Records, gr)
	}
	rest := frame
	for _, p := range []struct {
		field string
		n     int
	}{
		{"magic \"UB\"", 2}, {"version", 1}, {"type", 1}, {"suite", 1}, {"flags", 1}, {"room_id", 32}, {"epoch", 8},
		{"epoch_tag", 8}, {"sender", 32}, {"session", 16}, {"seq", 8}, {"nonce", 24}, {"ct_len", 4},
		{"ct", len(frame) - HeaderSize - SignatureSize}, {"sig", SignatureSize},
	} {
		g.Pieces = append(g.Pieces, goldenPiece{p.field, rest[:p.n]})
		rest = rest[p.n:]
	}
	return g
}

// makeGoldenRefused builds frames that are right but for one thing.
func makeGoldenRefused(t *testing.T, good []byte) []goldenRefused {
	var out []goldenRefused
	for _, v := range malformedContents {
		if len(v.inner) < minInner || len(v.inner) > 100 {
			continue // no frame carries it, or it is too long to be read
		}
		h := goldenHeaderOf(bus.SuiteXAESGCM, v.flags, 9)
		h.Nonce = [24]byte(counting(0x90, 24))
		frame := h.append(nil, len(v.inner)+16)
		aead, err := newAEAD(h.Suite, goldenKey, goldenRH, h.Sender, h.Session)
		if err != nil {
			t.Fatal(err)
		}
		frame = aead.Seal(frame, h.Nonce[:], v.inner, frame[:HeaderSize])
		st := statementOf(append(frame, make([]byte, SignatureSize)...))
		hash := st.Hash()
		frame = append(frame, wire.Sign(goldenSign, wire.LabelFrame, hash[:])...)
		out = append(out, goldenRefused{"content: " + v.name, bus.CodeMalformed, byte(h.Flags), frame})
	}
	for _, v := range []struct {
		name string
		code bus.Code
		at   int
	}{
		{"other letters in front", bus.CodeMalformed, 1},
		{"version 0", bus.CodeMalformed, 2},
		{"type 2", bus.CodeMalformed, 3},
		{"ct_len is wrong by one", bus.CodeMalformed, 137},
		{"another session than it was encrypted for", bus.CodeDecrypt, 101},
		{"another seq than it was encrypted for", bus.CodeDecrypt, 109},
		{"another nonce than it was encrypted with", bus.CodeDecrypt, 110},
		{"a changed ciphertext", bus.CodeDecrypt, HeaderSize},
		{"a changed signature", bus.CodeBadSignature, len(good) - 1},
	} {
		frame := bytes.Clone(good)
		frame[v.at] ^= 1
		out = append(out, goldenRefused{v.name, v.code, byte(bus.FlagEncrypt), frame})
	}
	cut := bytes.Clone(good[:len(good)-1])
	return append(out, goldenRefused{"a byte is missing at the end", bus.CodeMalformed, byte(bus.FlagEncrypt), cut})
}

// openGolden opens a frame of the file as an Opener does, once the records of
// a room have let it pass.
func openGolden(frame []byte, flags bus.RoomFlags) (Header, time.Time, []Record, error) {
	h, err := ParseHeader(frame)
	if err != nil {
		return h, time.Time{}, nil, err
	}
	aead, err := newAEAD(h.Suite, goldenKey, goldenRH, h.Sender, h.Session)
	if err != nil {
		return h, time.Time{}, nil, err
	}
	frame = bytes.Clone(frame)
	st := statementOf(frame)
	inner, err := decrypt(aead, &h, frame)
	if err != nil {
		return h, time.Time{}, nil, err
	}
	if !st.verify(goldenPub, st.Hash()) {
		return h, time.Time{}, nil, bus.ErrBadSignature
	}
	sent, recs, err := parseInner(inner, flags)
	return h, sent, recs, err
}

func TestGoldenFrames(t *testing.T) {
	made := makeGolden(t)
	text, err := json.MarshalIndent(made, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(goldenPath, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Fatalf("frames are made differently than %s says (-file +made); -update writes it anew:\n%s", goldenPath, diff)
	}
	var file goldenFile
	if err := json.Unmarshal(want, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Frames {
		t.Run(g.Name, func(t *testing.T) {
			h, sent, recs, err := openGolden(g.Frame, g.Header.Flags)
			if err != nil {
				t.Fatal(err)
			}
			if again := makeGoldenFrame(t, g.Name, g.About, h, recs); cmp.Diff(g, again) != "" {
				t.Errorf("read and made again (-file +made):\n%s", cmp.Diff(g, again))
			}
			if sent.UnixMicro() != g.SentUS {
				t.Errorf("sent at %d, want %d", sent.UnixMicro(), g.SentUS)
			}
		})
	}
	for _, g := range file.Refused {
		t.Run(g.Name, func(t *testing.T) {
			if _, _, recs, err := openGolden(g.Frame, bus.RoomFlags(g.Flags)); bus.CodeOf(err) != g.Code || recs != nil {
				t.Errorf("error %v, want code %s", err, g.Code)
			}
		})
	}
	if len(file.Frames) < 7 || len(file.Refused) < 20 {
		t.Errorf("only %d frames and %d refused ones", len(file.Frames), len(file.Refused))
	}
}
