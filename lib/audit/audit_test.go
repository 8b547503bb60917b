package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var clock = func() time.Time { return time.Date(2031, 2, 3, 4, 5, 6, 789e6, time.UTC) }

func open(t *testing.T, dir string, size int64) *Log {
	t.Helper()
	l, err := Open(t.Context(), dir, Options{FileSize: size, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func change(subject string) Change {
	uid := 0
	return Change{Via: ViaSocket, UID: &uid, Method: "POST", Path: "/users", Subject: subject, Digest: Digest{1}}
}

// write makes n changes, two entries each.
func write(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		p, err := l.Begin(fmt.Sprintf("r%d", i), change("alice"))
		if err == nil {
			err = p.End(Outcome{Code: OK, Revision: 7})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func scan(dir string) (Summary, []Entry, error) {
	var all []Entry
	s, err := Scan(dir, func(e Entry) error { all = append(all, e); return nil })
	return s, all, err
}

// logs returns the files of a log, in order.
func logs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	return files
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestEntriesAreReadAsTheyWereWritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	id, epoch, head := bus.ID{3}, bus.Epoch(0), bus.RecordHash{4}
	signed := Change{Via: ViaSignature, ID: &id, Handle: "alice", Method: "POST", Path: "/rooms", Subject: "r", Digest: Digest{5}}
	p, err := l.Begin("req", signed)
	if err != nil {
		t.Fatal(err)
	}
	made := Outcome{Code: OK, Revision: 9, Epoch: &epoch, Head: &head}
	if err := p.End(made); err != nil {
		t.Fatal(err)
	}
	s, have, err := scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	made.Begin = 1
	at := clock()
	want := []Entry{
		{V: 1, Seq: 1, Time: at, Kind: KindBegin, Request: "req", Change: &signed, Hash: have[0].Hash},
		{V: 1, Seq: 2, Time: at, Kind: KindEnd, Request: "req", Outcome: &made, Hash: s.Head},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	seq, hash := l.Head()
	if want := (Summary{First: 1, Next: 3, Head: hash, Files: 1}); s != want || seq != 2 {
		t.Errorf("summary %+v, want %+v; last entry %d", s, want, seq)
	}
}

func TestLogGoesOnInOtherFilesAndAfterRestarts(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		l := open(t, dir, 1000)
		write(t, l, 5)
		if l.Recovered() != 0 {
			t.Errorf("recovered %d bytes of nothing", l.Recovered())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, all, err := scan(dir)
	if err != nil || len(all) != 30 || s.Next != 31 || s.Files < 5 {
		t.Errorf("%d entries, %+v, %v", len(all), s, err)
	}
}

func TestEntriesWrittenAtOnceFormOneChain(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 2000)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { write(t, l, 10) })
	}
	all.Wait()
	s, entries, err := scan(dir)
	if err != nil || len(entries) != 160 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	open := map[uint64]bool{}
	for _, e := range entries {
		if e.Kind == KindBegin {
			open[e.Seq] = true
		} else if !open[e.Outcome.Begin] {
			t.Errorf("entry %d ends %d, which did not begin before", e.Seq, e.Outcome.Begin)
		} else {
			delete(open, e.Outcome.Begin)
		}
	}
	if seq, head := l.Head(); seq != 160 || head != s.Head || len(open) != 0 {
		t.Errorf("head %d %s, want 160 %s; %d open", seq, head, s.Head, len(open))
	}
}

func TestEveryBitThatChangesIsNoticed(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 500)
	write(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files := logs(t, dir)
	if len(files) < 2 {
		t.Fatalf("%d files", len(files))
	}
	bits := 0
	for _, path := range files {
		content := get(t, path)
		for i := range 8 * len(content) {
			content[i/8] ^= 1 << (i % 8)
			put(t, path, content)
			if _, _, err := scan(dir); !errors.Is(err, bus.ErrAuditBroken) {
				t.Fatalf("%s, bit %d of byte %d: %v", filepath.Base(path), i%8, i/8, err)
			}
			content[i/8] ^= 1 << (i % 8)
			bits++
		}
		put(t, path, content)
	}
	if _, all, err := scan(dir); err != nil || len(all) != 4 {
		t.Errorf("%d entries of the restored log: %v", len(all), err)
	}
	t.Logf("%d bits", bits)
}

func TestTornTailIsCutOffWhereverItWasTorn(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	write(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := logs(t, dir)[0]
	whole := string(get(t, path))
	lines := strings.SplitAfter(whole, "\n")
	third := len(lines[0] + lines[1] + lines[2] + lines[3])
	for n := third; n < len(whole); n += 1 + min(1, n%7) {
		for _, zeros := range []string{"", "\x00\x00"} {
			put(t, path, []byte(whole[:n]+zeros))
			s, all, err := scan(dir)
			if err != nil || len(all) != 3 || s.Torn != n-third+len(zeros) {
				t.Fatalf("cut at %d: %d entries, %+v, %v", n, len(all), s, err)
			}
			l, err := Open(t.Context(), dir, Options{Now: clock})
			if err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			if l.Recovered() != s.Torn {
				t.Errorf("cut at %d: recovered %d bytes of %d", n, l.Recovered(), s.Torn)
			}
			if n%50 == 0 {
				write(t, l, 1)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if s, _, err = scan(dir); err != nil || s.Torn != 0 {
				t.Fatalf("after the repair of a cut at %d: %+v, %v", n, s, err)
			}
		}
	}
}

func TestWhatIsNoTornTailStopsTheLog(t *testing.T) {
	for name, spoil := range map[string]func(lines []string) string{
		"an entry left out":          func(l []string) string { return l[0] + l[1] + l[3] + l[4] },
		"the first entry left out":   func(l []string) string { return l[0] + l[2] + l[3] + l[4] },
		"entries in another order":   func(l []string) string { return l[0] + l[1] + l[3] + l[2] + l[4] },
		"an entry twice":             func(l []string) string { return l[0] + l[1] + l[1] + l[2] + l[3] + l[4] },
		"junk behind the last entry": func(l []string) string { return strings.Join(l, "") + "oops! not base64" },
		"a line of junk":             func(l []string) string { return strings.Join(l, "") + "junk\n" },
		"zeros between":              func(l []string) string { return l[0] + l[1] + "\x00\x00" + l[2] + l[3] + l[4] },
		"a very long line":           func(l []string) string { return strings.Join(l, "") + strings.Repeat("A", 3*maxLine) },
		"no header":                  func(l []string) string { return strings.Join(l[1:], "") },
		"a header of another file":   func(l []string) string { return strings.Replace(l[0], " 1 ", " 2 ", 1) + strings.Join(l[1:], "") },
		"nothing":                    func([]string) string { return "" },
		"a last line with its newline lost and another bit changed": func(l []string) string {
			s := []byte(strings.TrimSuffix(strings.Join(l, ""), "\n"))
			s[len(s)-5] ^= 1
			return string(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, 0)
			write(t, l, 2)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			path := logs(t, dir)[0]
			put(t, path, []byte(spoil(strings.SplitAfter(string(get(t, path)), "\n"))))
			if _, _, err := scan(dir); !errors.Is(err, bus.ErrAuditBroken) {
				t.Errorf("scan: %v", err)
			}
			if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, bus.ErrAuditBroken) {
				t.Errorf("open: %v", err)
			}
		})
	}
}

func TestMissingFilesAreNoticed(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 500)
	write(t, l, 6)
	files := logs(t, dir)
	if len(files) < 3 {
		t.Fatalf("%d files", len(files))
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := scan(dir); !errors.Is(err, bus.ErrAuditBroken) {
		t.Errorf("without a file in between: %v", err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	// What is left verifies, and says where it begins.
	if s, _, err := scan(dir); err != nil || s.First == 1 {
		t.Errorf("without the oldest files: %+v, %v", s, err)
	}
	if _, _, err := scan(t.TempDir()); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("without any: %v", err)
	}
}

func TestDiskThatTakesNoMore(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	write(t, l, 1)
	before, head := l.Head()
	if err := l.file.Close(); err != nil { // every write fails from now on
		t.Fatal(err)
	}
	if _, err := l.Begin("r", change("bob")); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("begin: %v", err)
	}
	if seq, h := l.Head(); seq != before || h != head {
		t.Errorf("head moved to %d", seq)
	}
	f, err := os.OpenFile(logs(t, dir)[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.file = f
	write(t, l, 1) // once there is room again
	if _, all, err := scan(dir); err != nil || len(all) != 4 {
		t.Errorf("%d entries, %v", len(all), err)
	}
}

func TestOneProcessHasTheLog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	ctx, cancel := timeout(t)
	defer cancel()
	if _, err := Open(ctx, dir, Options{}); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("open a second time: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin("", change("x")); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("begin after close: %v", err)
	}
	write(t, open(t, dir, 0), 1)
}

func TestPagesAreWholeAndEndAtTheDisk(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 1000)
	write(t, l, 10)
	for _, size := range []int{1, 700, 1 << 20} {
		first, err := l.Page(0, size)
		if err != nil {
			t.Fatal(err)
		}
		chain, pages := NewChain(first.First, first.Prev), 1
		for p := first; ; pages++ {
			for _, line := range p.Lines {
				if _, err := chain.Add([]byte(line)); err != nil {
					t.Fatal(err)
				}
			}
			if !p.More {
				break
			}
			if p, err = l.Page(chain.Next(), size); err != nil || p.First != chain.Next() || p.Prev != chain.Head() || len(p.Lines) == 0 {
				t.Fatalf("page from %d: %+v, %v", chain.Next(), p, err)
			}
		}
		if seq, head := l.Head(); chain.Next() != 21 || chain.Head() != head || seq != 20 {
			t.Errorf("pages of %d bytes end before %d", size, chain.Next())
		}
		if size == 1 && pages != 20 || size > 1000 && pages != 1 {
			t.Errorf("%d pages of %d bytes", pages, size)
		}
	}
	if p, err := l.Page(21, 100); err != nil || len(p.Lines) != 0 || p.More || p.First != 21 {
		t.Errorf("page behind the end: %+v, %v", p, err)
	}
	if p, err := l.Page(15, 1<<20); err != nil || len(p.Lines) != 6 || p.First != 15 {
		t.Errorf("page from the middle: %d lines from %d, %v", len(p.Lines), p.First, err)
	}
}
