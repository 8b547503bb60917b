package frame

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// suites are the policies with which everything has to work.
var suites = map[string]bus.Policy{
	"XAES-256-GCM":         policyOf(bus.SuiteXAESGCM, bus.FlagPersist),
	"XAES-256-GCM, padded": policyOf(bus.SuiteXAESGCM, bus.FlagPersist|bus.FlagPad),
	"XChaCha20-Poly1305":   policyOf(bus.SuiteXChaCha20, bus.FlagPersist),
	"plain":                policyOf(bus.SuitePlain, bus.FlagPersist),
	"plain, padded":        policyOf(bus.SuitePlain, bus.FlagPersist|bus.FlagPad),
}

func TestWhatIsSealedOpens(t *testing.T) {
	for name, policy := range suites {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy)
			s, o := w.sealer("alice", 0, 1), w.opener()
			recs := []Record{
				{Headers: []HeaderField{{"content-type", "text/plain"}, {"id", "1"}}, Body: []byte("first")},
				{Body: []byte("second")},
				{},
			}
			sent := w.now.Add(123456 * time.Microsecond)
			prefix := []byte("prefix")
			buf, hash, err := s.Seal(prefix, 7, sent, recs)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(buf, prefix) {
				t.Fatal("the frame is not appended")
			}
			frame := buf[len(prefix):]
			if policy.Encrypted() && (bytes.Contains(frame, []byte("first")) || bytes.Contains(frame, []byte("content-type"))) {
				t.Error("the frame shows its content")
			}
			got, err := w.open(o, frame)
			if err != nil {
				t.Fatal(err)
			}
			h := w.header("alice", 0, 1)
			h.Seq, h.Nonce = 7, got.Header.Nonce
			if diff := cmp.Diff(h, got.Header); diff != "" {
				t.Errorf("header (-want +have):\n%s", diff)
			}
			recs[2].Body = []byte{}
			if diff := cmp.Diff(recs, got.Records); diff != "" {
				t.Errorf("records (-in +out):\n%s", diff)
			}
			if got.Hash != hash || !got.Sent.Equal(sent) || got.Size != len(frame) {
				t.Errorf("opened hash %s, sent %s, %d bytes; want %s, %s, %d", got.Hash, got.Sent, got.Size, hash, sent, len(frame))
			}
		})
	}
}

func TestLargestRecordFitsExactly(t *testing.T) {
	headers := []HeaderField{{"a", strings.Repeat("v", bus.MaxHeadersSize-4)}}
	for name, policy := range suites {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy)
			s, o := w.sealer("alice", 0, 1), w.opener()
			largest := []Record{
				{Body: make([]byte, bus.MaxRecordSize)},
				{Headers: headers, Body: make([]byte, bus.MaxRecordSize-bus.MaxHeadersSize)},
			}
			for i, r := range largest {
				var b Budget
				if !b.Take(r) || b.FrameSize() != bus.MaxFrameSize || b.Take(Record{}) {
					t.Errorf("a budget with it has %d bytes", b.FrameSize())
				}
				frame := w.seal(s, bus.Seq(i), r)
				want := bus.MaxFrameSize
				if !policy.Encrypted() {
					want -= 16
				}
				if len(frame) != want {
					t.Errorf("frame of %d bytes, want %d", len(frame), want)
				}
				opened, err := w.open(o, frame)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(opened.Records, []Record{r}) { // cmp.Diff takes a second for them
					t.Error("the record came back changed")
				}
				r.Body = append(r.Body, 0)
				if _, _, err := s.Seal(nil, 9, w.now, []Record{r}); !errors.Is(err, bus.ErrTooLarge) {
					t.Errorf("a record of one byte more: %v", err)
				}
			}
		})
	}
}

func TestSealRefuses(t *testing.T) {
	w := newWorld(t, stored)
	header := func(fields ...HeaderField) []Record { return []Record{{Headers: fields}} }
	for _, v := range []struct {
		name string
		recs []Record
		seq  bus.Seq
		sent time.Time
		code bus.Code
	}{
		{"no record", nil, 5, start, bus.CodeUsage},
		{"1,025 records", make([]Record, 1025), 5, start, bus.CodeTooLarge},
		{"two records too many bytes", []Record{{Body: make([]byte, 200_000)}, {Body: make([]byte, 61_905)}}, 5, start, bus.CodeTooLarge},
		{"empty header key", header(HeaderField{"", "v"}), 5, start, bus.CodeMalformed},
		{"header key of 256 bytes", header(HeaderField{strings.Repeat("k", 256), "v"}), 5, start, bus.CodeTooLarge},
		{"descending header keys", header(HeaderField{"b", ""}, HeaderField{"a", ""}), 5, start, bus.CodeMalformed},
		{"a header key twice", header(HeaderField{"a", ""}, HeaderField{"a", "v"}), 5, start, bus.CodeMalformed},
		{"too many bytes of headers", header(HeaderField{"a", strings.Repeat("v", bus.MaxHeadersSize-3)}), 5, start, bus.CodeTooLarge},
		{"the seq before", text("a"), 4, start, bus.CodeUsage},
		{"a lower seq", text("a"), 0, start, bus.CodeUsage},
		{"an expired epoch", text("a"), 5, start.Add(bus.DefaultRecordLife + bus.ClockSkew + time.Second), bus.CodeExpired},
		{"a time before 1970", text("a"), 5, time.Unix(-1, 0), bus.CodeClockSkew},
	} {
		t.Run(v.name, func(t *testing.T) {
			s := w.sealer("alice", 0, 1)
			w.seal(s, 4)
			dst := append(make([]byte, 0, bus.MaxFrameSize+10), "before"...)
			got, hash, err := s.Seal(dst, v.seq, v.sent, v.recs)
			if bus.CodeOf(err) != v.code {
				t.Errorf("error %v, want code %s", err, v.code)
			}
			if !bytes.Equal(got, dst) || !hash.IsZero() {
				t.Errorf("left %d bytes, hash %s", len(got), hash)
			}
			if _, _, err := s.Seal(nil, 5, start, text("a")); err != nil {
				t.Errorf("the seq is no longer free: %v", err)
			}
		})
	}
}

// The records of a room end before the year 9999 does, so this takes a forger.
func TestTimeThatNoFrameCanNameIsRefused(t *testing.T) {
	w := newWorld(t, stored)
	s := w.forger("alice", w.header("alice", 0, 1), w.key(0), w.Head().Hash())
	for seq, sent := range []time.Time{time.UnixMicro(0), time.UnixMicro(maxSent)} {
		frame, _, err := s.seal(nil, bus.Seq(seq), sent, text("a"))
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := w.open(w.opener(), frame); err != nil || !opened.Sent.Equal(sent) {
			t.Errorf("sent at %s: %v", sent, err)
		}
	}
	for _, sent := range []time.Time{time.UnixMicro(-1), time.UnixMicro(maxSent + 1)} {
		if _, _, err := s.seal(nil, 9, sent, text("a")); bus.CodeOf(err) != bus.CodeUsage {
			t.Errorf("sent at %s: %v", sent, err)
		}
	}
}

func TestSealWithoutRandomnessFails(t *testing.T) {
	w := newWorld(t, stored)
	s, err := NewSealer(w.people["alice"], w.Head(), w.key(0), bus.SessionID{1}, iotest.ErrReader(errors.New("drained")))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Seal(nil, 0, w.now, text("a")); bus.CodeOf(err) != bus.CodeInternal || got != nil {
		t.Errorf("sealed %d bytes, %v", len(got), err)
	}
}

func TestOnlyWritersWithTheKeyGetASealer(t *testing.T) {
	w := newWorld(t, stored)
	for name, want := range map[string]bus.Code{"olga": "", "alice": "", "rita": bus.CodeNotMember, "mallory": bus.CodeNotMember} {
		if _, err := NewSealer(w.people[name], w.Head(), w.key(0), bus.SessionID{}, rand.Reader); bus.CodeOf(err) != want {
			t.Errorf("%s: %v, want code %q", name, err, want)
		}
	}
	if _, err := NewSealer(w.people["alice"], w.Head(), room.Key{1}, bus.SessionID{}, rand.Reader); !errors.Is(err, bus.ErrKeyMismatch) {
		t.Errorf("another key: %v", err)
	}
}

func TestEqualRecordsMakeDifferentFrames(t *testing.T) {
	for name, policy := range suites {
		w := newWorld(t, policy)
		a, b := w.sealer("alice", 0, 1), w.sealer("alice", 0, 1)
		_, first, err := a.Seal(nil, 0, w.now, text("same"))
		if err != nil {
			t.Fatal(err)
		}
		_, second, err := b.Seal(nil, 0, w.now, text("same"))
		if err != nil {
			t.Fatal(err)
		}
		if first == second || MsgID(first) == MsgID(second) {
			t.Errorf("%s: both have hash %s, so somebody could know it before the frame is stored", name, first)
		}
		if len(MsgID(first)) != 43 || MsgID(first) != first.String() {
			t.Errorf("message id %q", MsgID(first))
		}
	}
}

func TestPaddedFramesHideTheLength(t *testing.T) {
	w := newWorld(t, suites["XAES-256-GCM, padded"])
	s := w.sealer("alice", 0, 1)
	lengths := map[int]bool{}
	for i := range 100 {
		frame := w.seal(s, bus.Seq(i), Record{Body: make([]byte, 1000+i)})
		lengths[len(frame)] = true
	}
	if len(lengths) > 3 {
		t.Errorf("100 lengths of records show as %d lengths of frames", len(lengths))
	}
}

// A budget takes exactly what Seal takes.
func TestBudgetFillsFramesToTheBrim(t *testing.T) {
	w := newWorld(t, stored)
	s := w.sealer("alice", 0, 1)
	seq := bus.Seq(0)
	buf := make([]byte, 0, bus.MaxFrameSize)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, 128, 250, 251, 1024, 16 << 10, 100_000, bus.MaxRecordSize}).Draw(t, "size")
		spread, headers := rapid.IntRange(1, 7).Draw(t, "spread"), rapid.IntRange(1, 4).Draw(t, "one in … with headers")
		var b Budget
		var recs []Record
		next := func() Record {
			n := len(recs)
			r := Record{Body: make([]byte, max(0, min(bus.MaxRecordSize-n%2*10, size+n%spread-3)))}
			if n%headers == 1 {
				r.Headers = []HeaderField{{"k", "value"}}
			}
			return r
		}
		r := next()
		for ; b.Take(r); r = next() {
			recs = append(recs, r)
		}
		if len(recs) == 0 {
			t.Fatalf("an empty frame has no room for %d bytes", RecordSize(r))
		}
		frame, _, err := s.Seal(buf, seq, w.now, recs)
		if err != nil {
			t.Fatalf("a full budget does not seal: %v", err)
		}
		if b.Records() != len(recs) || b.FrameSize() != len(frame) {
			t.Errorf("budget has %d records in %d bytes, frame %d in %d", b.Records(), b.FrameSize(), len(recs), len(frame))
		}
		if _, _, err := s.Seal(buf, seq+1, w.now, append(slices.Clone(recs), r)); !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("a refused record would have fitted: %v", err)
		}
		seq++
		if b.Reset(); b != (Budget{}) {
			t.Error("reset budget is not empty")
		}
	})
}

func TestSealingAllocatesNothingARecord(t *testing.T) {
	for name, policy := range suites {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy)
			s := w.sealer("alice", 0, 1)
			buf := make([]byte, 0, bus.MaxFrameSize)
			seq := bus.Seq(0)
			measure := func(n int) float64 {
				recs := make([]Record, n)
				for i := range recs {
					recs[i] = Record{Headers: []HeaderField{{"a", "1"}, {"b", "2"}}, Body: make([]byte, 128)}
				}
				return testing.AllocsPerRun(20, func() {
					if _, _, err := s.Seal(buf, seq, w.now, recs); err != nil {
						t.Fatal(err)
					}
					seq++
				})
			}
			one, many := measure(1), measure(bus.MaxRecords)
			t.Logf("%.0f allocations a frame", one)
			if many > one || one > 8 {
				t.Errorf("%.0f allocations for a record, %.0f for %d", one, many, bus.MaxRecords)
			}
		})
	}
}
