package frame

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
)

// benchmarkShapes runs a benchmark for each size of record, alone in a frame
// and with as many as a frame carries. Bodies are random.
func benchmarkShapes(b *testing.B, run func(b *testing.B, recs []Record)) {
	for _, size := range []int{128, 1 << 10, 16 << 10} {
		body := make([]byte, size)
		rand.Read(body)
		var full []Record
		for budget := (Budget{}); budget.Take(Record{Body: body}); {
			full = append(full, Record{Body: body})
		}
		for _, recs := range [][]Record{full[:1], full} {
			b.Run(fmt.Sprintf("size=%d/records=%d", size, len(recs)), func(b *testing.B) {
				b.SetBytes(int64(size * len(recs)))
				b.ReportAllocs()
				run(b, recs)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(recs)), "ns/record")
			})
		}
	}
}

// reportAllocs tells what a frame cost, and, where it carries many, what that is
// for each record: a lone record pays for its frame alone.
func reportAllocs(b *testing.B, n uint64, records int) {
	b.ReportMetric(float64(n)/float64(b.N), "allocs/frame")
	if records > 1 {
		b.ReportMetric(float64(n)/float64(b.N*records), "allocs/record")
	}
}

// mallocs returns how many objects were allocated so far.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func BenchmarkSeal(b *testing.B) {
	for _, name := range []string{"XAES-256-GCM", "XChaCha20-Poly1305"} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, suites[name])
			s := w.sealer("alice", 0, 1)
			buf := make([]byte, 0, bus.MaxFrameSize)
			seq := bus.Seq(0)
			benchmarkShapes(b, func(b *testing.B, recs []Record) {
				before := mallocs()
				for b.Loop() {
					if _, _, err := s.Seal(buf, seq, w.now, recs); err != nil {
						b.Fatal(err)
					}
					seq++
				}
				reportAllocs(b, mallocs()-before, len(recs))
			})
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, name := range []string{"XAES-256-GCM", "XChaCha20-Poly1305"} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, suites[name])
			roomToken, senderToken := w.room().Token(), w.people["alice"].ID().Token()
			benchmarkShapes(b, func(b *testing.B, recs []Record) {
				s := w.sealer("alice", 0, 1)
				sealed, frames := make([][]byte, 64), make([][]byte, 64)
				for i := range sealed {
					sealed[i] = w.seal(s, bus.Seq(i), recs...)
					frames[i] = make([]byte, len(sealed[i]))
				}
				var o *Opener
				var allocated uint64
				for i := 0; b.Loop(); i++ {
					at := i % len(frames)
					if at == 0 {
						// Frames are consumed and seqs used up: lay them out again.
						b.StopTimer()
						o = w.opener()
						for i := range frames {
							copy(frames[i], sealed[i])
						}
						allocated -= mallocs()
						b.StartTimer()
					}
					if _, err := o.Open(roomToken, senderToken, frames[at]); err != nil {
						b.Fatal(err)
					}
					if at == len(frames)-1 {
						b.StopTimer()
						allocated += mallocs()
						b.StartTimer()
					}
				}
				if b.N%len(frames) != 0 {
					allocated += mallocs()
				}
				reportAllocs(b, allocated, len(recs))
			})
		})
	}
}

func BenchmarkRefuse(b *testing.B) {
	w := newWorld(b, stored)
	roomToken, senderToken := w.room().Token(), w.people["alice"].ID().Token()
	frame := w.seal(w.sealer("alice", 0, 1), 0)
	o := w.opener()
	for _, v := range []struct {
		name string
		at   int
	}{{"malformed", 0}, {"misrouted", 6}, {"fork", 46}, {"decrypt", HeaderSize}, {"bad_signature", len(frame) - 1}} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			scratch := make([]byte, len(frame))
			for b.Loop() {
				copy(scratch, frame)
				scratch[v.at] ^= 1
				if _, err := o.Open(roomToken, senderToken, scratch); err == nil {
					b.Fatal("opened")
				}
			}
		})
	}
}
