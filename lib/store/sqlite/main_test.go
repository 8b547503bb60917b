package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/store"
	"github.com/enmanuel/unibus/lib/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childVar); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

// clock is an injected clock that moves when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// testKey is a key for stores that hold nothing.
func testKey() *Key {
	var k Key
	for i := range k {
		k[i] = byte(i)
	}
	return &k
}

// mustOpen opens a store that is closed with the test.
func mustOpen(t *testing.T, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	for name, key := range map[string]*Key{"in the clear": nil, "encrypted": testKey()} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Opener {
				path := filepath.Join(t.TempDir(), "unibus.db")
				c := newClock()
				return storetest.Opener{
					Open: func(t *testing.T) store.Store {
						s, err := Open(context.Background(), path, Options{Key: key, Now: c.Now, SweepEvery: 20 * time.Millisecond})
						if err != nil {
							t.Fatal(err)
						}
						return s
					},
					Elapse: func(_ *testing.T, d time.Duration) { c.Advance(d) },
				}
			})
		})
	}
}
