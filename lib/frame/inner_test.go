package frame

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

func TestSizesAddUpToTheLargestRecord(t *testing.T) {
	if got := len((&Header{}).append(nil, 0)); got != HeaderSize {
		t.Errorf("a header has %d bytes, want %d", got, HeaderSize)
	}
	if got := HeaderSize + InnerOverhead + RecordOverhead + bus.MaxRecordSize + 16 + SignatureSize; got != bus.MaxFrameSize {
		t.Errorf("a frame with the largest record has %d bytes, want %d", got, bus.MaxFrameSize)
	}
	if MaxInner != InnerOverhead+RecordOverhead+bus.MaxRecordSize {
		t.Errorf("content of %d bytes at most", MaxInner)
	}
	if most := padmé(MaxInner) - MaxInner; most > len(zeros) || padmé(1<<17+1)-(1<<17+1) > len(zeros) {
		t.Errorf("padding of %d bytes, more than there are zeros", most)
	}
}

func padmé(n int) int { return int(wire.Padmé(int64(n))) }

func TestPadméLengths(t *testing.T) {
	for _, v := range []struct{ n, want int }{
		{16, 16}, {17, 18}, {26, 26}, {27, 28}, {32, 32}, {33, 36}, {100, 104}, {127, 128}, {128, 128}, {129, 144},
		{1000, 1024}, {1024, 1024}, {1025, 1088}, {65536, 65536}, {65537, 67584}, {131073, 135168}, {MaxInner, 262144},
	} {
		if got := padmé(v.n); got != v.want {
			t.Errorf("content of %d bytes is padded to %d, want %d", v.n, got, v.want)
		}
	}
	for n := minInner; n < 1<<18; n++ {
		if got := padmé(n); got < n || got-n > n*12/100 || got-n > len(zeros) {
			t.Fatalf("content of %d bytes is padded to %d", n, got)
		}
	}
}

// encode writes content as a frame of these flags carries it.
func encode(sent time.Time, recs []Record, flags bus.RoomFlags) ([]byte, error) {
	n, err := contentLen(recs)
	if err != nil {
		return nil, err
	}
	return appendInner(nil, sent, recs, n, paddedLen(n, flags)), nil
}

func genRecords(t *rapid.T) []Record {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Record {
		fields := rapid.MapOfN(rapid.StringN(1, 20, 60), rapid.String(), 0, 5).Draw(t, "headers")
		r := Record{Body: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body")}
		for k, v := range fields {
			r.Headers = append(r.Headers, HeaderField{k, v})
		}
		slices.SortFunc(r.Headers, func(a, b HeaderField) int { return strings.Compare(a.Key, b.Key) })
		return r
	}), 1, 20).Draw(t, "records")
}

func TestContentComesBackAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		recs := genRecords(t)
		sent := time.UnixMicro(rapid.Int64Range(0, maxSent).Draw(t, "sent")).UTC()
		flags := rapid.SampledFrom([]bus.RoomFlags{0, bus.FlagPad}).Draw(t, "flags")
		inner, err := encode(sent, recs, flags)
		if err != nil {
			t.Fatal(err)
		}
		gotSent, got, err := parseInner(inner, flags)
		if err != nil {
			t.Fatal(err)
		}
		if !gotSent.Equal(sent) {
			t.Errorf("sent at %s, want %s", gotSent, sent)
		}
		if diff := cmp.Diff(recs, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("records (-in +out):\n%s", diff)
		}
	})
}

func TestOneRecordCannotReachIntoTheNext(t *testing.T) {
	inner, err := encode(start, []Record{{Headers: []HeaderField{{"a", "1"}}, Body: []byte("one")}, {Headers: []HeaderField{{"b", "2"}}, Body: []byte("two")}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, recs, err := parseInner(inner, 0)
	if err != nil {
		t.Fatal(err)
	}
	next := bytes.Index(inner, []byte("one")) + len("one")
	_ = append(recs[0].Body, make([]byte, len(inner)-next)...) // as much as there is room for
	_ = append(recs[0].Headers, HeaderField{"x", "y"})
	if string(recs[1].Body) != "two" || recs[1].Headers[0].Key != "b" {
		t.Errorf("appending to a record changed the next: %v", recs[1])
	}
}

// raw builds content from hand-written pieces.
func raw(n uint16, records string) []byte {
	return append([]byte{0x00, 0x06, 0x65, 0xcd, 0x1d, 0x4a, 0x80, 0x00, byte(n >> 8), byte(n)}, records...)
}

// malformedContents are what no decoder may accept, each with its reason.
var malformedContents = []struct {
	name  string
	flags bus.RoomFlags
	inner []byte
}{
	{"empty", 0, nil},
	{"no count", 0, raw(1, "")[:9]},
	{"no records", 0, raw(0, "")},
	{"a count without records", 0, raw(1, "")},
	{"more records than there are", 0, raw(2, "\x00\x00\x00\x00\x00\x00")},
	{"1,025 records", 0, raw(1025, strings.Repeat("\x00\x00\x00\x00\x00\x00", 1025))},
	{"fewer records than there are", 0, raw(1, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
	{"body cut short", 0, raw(1, "\x00\x00\x00\x00\x00\x02a")},
	{"body of 4 GiB", 0, raw(1, "\x00\x00\xff\xff\xff\xffa")},
	{"headers cut short", 0, raw(1, "\x00\x09\x01k\x00\x01v\x00\x00\x00\x00")},
	{"header value cut short", 0, raw(1, "\x00\x05\x01k\x00\x02v\x00\x00\x00\x00")},
	{"header key without value", 0, raw(1, "\x00\x02\x01k\x00\x00\x00\x00")},
	{"empty header key", 0, raw(1, "\x00\x04\x00\x00\x01v\x00\x00\x00\x00")},
	{"header keys descend", 0, raw(1, "\x00\x0a\x01b\x00\x01v\x01a\x00\x01v\x00\x00\x00\x00")},
	{"header key twice", 0, raw(1, "\x00\x0a\x01a\x00\x01v\x01a\x00\x01w\x00\x00\x00\x00")},
	{"a prefix after the longer key", 0, raw(1, "\x00\x0b\x02aa\x00\x01v\x01a\x00\x01v\x00\x00\x00\x00")},
	{"headers of 16,385 bytes", 0, raw(1, "\x40\x01\x01k\x3f\xfd"+strings.Repeat("v", 0x3ffd)+"\x00\x00\x00\x00")},
	{"a byte after the last record", 0, raw(1, "\x00\x00\x00\x00\x00\x01a\x00")},
	{"padding where none is due", 0, append(raw(1, "\x00\x00\x00\x00\x00\x01a"), 0)},
	{"no padding where some is due", bus.FlagPad, raw(1, "\x00\x00\x00\x00\x00\x01a")},
	{"more padding than is due", bus.FlagPad, raw(1, "\x00\x00\x00\x00\x00\x01a\x00\x00\x00")},
	{"padding that is not zero", bus.FlagPad, raw(1, "\x00\x00\x00\x00\x00\x01a\x01")},
	{"sent in the year 10000", 0, append([]byte{0x03, 0x84, 0x44, 0x0c, 0xcc, 0x73, 0x60, 0x00}, raw(1, "\x00\x00\x00\x00\x00\x00")[8:]...)},
	{"sent beyond 63 bits", 0, append(bytes.Repeat([]byte{0xff}, 8), raw(1, "\x00\x00\x00\x00\x00\x00")[8:]...)},
	{"longer than any frame", 0, raw(1, "\x00\x00\x00\x03\xff\x17"+strings.Repeat("a", bus.MaxRecordSize+1))},
}

func TestMalformedContentIsRefused(t *testing.T) {
	for _, v := range malformedContents {
		t.Run(v.name, func(t *testing.T) {
			if _, recs, err := parseInner(v.inner, v.flags); bus.CodeOf(err) != bus.CodeMalformed || recs != nil {
				t.Errorf("records %v, %v", recs, err)
			}
		})
	}
	// The same pieces, put together right.
	for _, v := range []struct {
		flags bus.RoomFlags
		inner []byte
	}{
		{0, raw(1, "\x00\x0a\x01a\x00\x01v\x01b\x00\x01v\x00\x00\x00\x01a")},
		{bus.FlagPad, raw(1, "\x00\x00\x00\x00\x00\x01a\x00")},
		{0, append([]byte{0x03, 0x84, 0x44, 0x0c, 0xcc, 0x73, 0x5f, 0xff}, raw(1, "\x00\x00\x00\x00\x00\x00")[8:]...)},
		{0, raw(1, "\x40\x00\x01k\x3f\xfc"+strings.Repeat("v", 0x3ffc)+"\x00\x00\x00\x00")},
		{0, raw(1, "\x00\x00\x00\x03\xff\x16"+strings.Repeat("a", bus.MaxRecordSize))},
	} {
		if _, _, err := parseInner(v.inner, v.flags); err != nil {
			t.Errorf("content %.30q: %v", v.inner, err)
		}
	}
}

func FuzzParseInner(f *testing.F) {
	for _, v := range malformedContents {
		f.Add(v.inner, byte(v.flags))
	}
	f.Add(raw(2, "\x00\x0a\x01a\x00\x01v\x01b\x00\x01v\x00\x00\x00\x01a\x00\x00\x00\x00\x00\x01b"), byte(0))
	f.Add(raw(1, "\x00\x00\x00\x00\x00\x01a\x00"), byte(bus.FlagPad))
	f.Fuzz(func(t *testing.T, inner []byte, flags byte) {
		sent, recs, err := parseInner(inner, bus.RoomFlags(flags))
		if err != nil {
			if bus.CodeOf(err) != bus.CodeMalformed {
				t.Fatal(err)
			}
			return
		}
		again, err := encode(sent, recs, bus.RoomFlags(flags))
		if err != nil {
			t.Fatalf("accepted what no encoder writes: %v", err)
		}
		if !bytes.Equal(again, inner) {
			t.Fatalf("%x is encoded again as %x", inner, again)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	h := Header{Suite: 1, Flags: 1, Room: bus.RoomID{2}, Epoch: 3, EpochTag: EpochTag{4}, Sender: bus.ID{5}, Session: bus.SessionID{6}, Seq: 7}
	f.Add(append(h.append(nil, 20), make([]byte, 20+SignatureSize)...))
	f.Add(append(h.append(nil, 21), make([]byte, 20+SignatureSize)...))
	f.Add([]byte("UB"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseHeader(frame)
		if err != nil {
			if bus.CodeOf(err) != bus.CodeMalformed {
				t.Fatal(err)
			}
			return
		}
		if again := h.append(nil, len(frame)-HeaderSize-SignatureSize); !bytes.Equal(again, frame[:HeaderSize]) {
			t.Fatalf("%x is encoded again as %x", frame[:HeaderSize], again)
		}
	})
}
