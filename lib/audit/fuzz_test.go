package audit

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

func timeout(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), 50*time.Millisecond)
}

// FuzzEntry checks that what is read as an entry is written the same way.
func FuzzEntry(f *testing.F) {
	id := bus.ID{1}
	for _, e := range []Entry{
		{V: 1, Seq: 1, Time: clock(), Kind: KindBegin, Request: "r", Change: &Change{Via: ViaSignature, ID: &id, Handle: "alice", Method: "POST", Path: "/users"}},
		{V: 1, Seq: 2, Time: clock(), Kind: KindEnd, Outcome: &Outcome{Begin: 1, Code: "quota"}},
	} {
		text, err := encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"v":1,"seq":1,"time":"2031-02-03T04:05:06Z","kind":"end"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := decode(text)
		if err != nil {
			return
		}
		again, err := encode(e)
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s became %s, %v", text, again, err)
		}
	})
}

// FuzzFile reads whatever a file may hold: it verifies, or is broken, and what
// opens can be written on.
func FuzzFile(f *testing.F) {
	start := header{first: 1}
	text, err := encode(Entry{V: 1, Seq: 1, Time: clock(), Kind: KindBegin, Change: &Change{Via: ViaStart, Method: "POST", Path: "/users"}})
	if err != nil {
		f.Fatal(err)
	}
	line := append([]byte(hashOf(start.prev, text).String()+" "), text...)
	whole := append(append(start.line(), line...), '\n')
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:len(whole)-40])
	f.Add([]byte("unibus-audit/1 1 x\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		put(t, filepath.Join(dir, nameOf(1)), content)
		s, _, err := scan(dir)
		if err != nil {
			if !errors.Is(err, bus.ErrAuditBroken) {
				t.Errorf("scan: %v", err)
			}
			return
		}
		l, err := Open(t.Context(), dir, Options{Now: clock})
		if err != nil || l.Recovered() != s.Torn {
			t.Fatalf("open: %v", err)
		}
		write(t, l, 1)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if after, _, err := scan(dir); err != nil || after.Next != s.Next+2 {
			t.Errorf("scan after two more entries: %+v, %v", after, err)
		}
	})
}
