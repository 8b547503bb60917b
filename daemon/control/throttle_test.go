package control

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/enmanuel/unibus/lib/bus"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestThrottle(t *testing.T) {
	type step struct {
		at    time.Duration // after noon
		key   string
		kind  int
		stays bool          // is under way until the end of the test
		after time.Duration // when to come again; 0 is let in
	}
	const ms = time.Millisecond
	unlimited := Rate{PerSecond: -1}
	for name, c := range map[string]struct {
		rates  []Rate
		atOnce int
		steps  []step
	}{
		"a burst, and then as fast as it refills": {[]Rate{{10, 2}}, -1, []step{
			{0, "a", 0, false, 0}, {0, "a", 0, false, 0}, {0, "a", 0, false, 101 * ms},
			{99 * ms, "a", 0, false, 2 * ms}, {101 * ms, "a", 0, false, 0}, {101 * ms, "a", 0, false, 100 * ms},
		}},
		"refusals take nothing": {[]Rate{{10, 1}}, -1, []step{
			{0, "a", 0, false, 0}, {10 * ms, "a", 0, false, 91 * ms}, {20 * ms, "a", 0, false, 81 * ms}, {101 * ms, "a", 0, false, 0},
		}},
		"keys have buckets of their own": {[]Rate{{1, 1}}, -1, []step{
			{0, "a", 0, false, 0}, {0, "a", 0, false, 1001 * ms}, {0, "b", 0, false, 0},
		}},
		"kinds have buckets of their own": {[]Rate{{1, 1}, {10, 2}}, -1, []step{
			{0, "a", 0, false, 0}, {0, "a", 0, false, 1001 * ms},
			{0, "a", 1, false, 0}, {0, "a", 1, false, 0}, {0, "a", 1, false, 101 * ms},
		}},
		"no more saved up than a burst": {[]Rate{{1, 2}}, -1, []step{
			{time.Hour, "a", 0, false, 0}, {time.Hour, "a", 0, false, 0}, {time.Hour, "a", 0, false, 1001 * ms},
		}},
		"a clock that was set back locks nobody out": {[]Rate{{1, 1}}, -1, []step{
			{time.Hour, "a", 0, false, 0}, {0, "a", 0, false, 0}, {0, "a", 0, false, 1001 * ms},
			{500 * ms, "a", 0, false, 501 * ms}, {1001 * ms, "a", 0, false, 0},
		}},
		"at once, of all kinds": {[]Rate{unlimited, unlimited}, 2, []step{
			{0, "a", 0, true, 0}, {0, "a", 1, true, 0}, {0, "a", 0, false, busyRetry}, {0, "b", 0, true, 0},
			{time.Hour, "a", 1, false, busyRetry},
		}},
		"what has ended is not at once": {[]Rate{unlimited}, 1, []step{
			{0, "a", 0, false, 0}, {0, "a", 0, false, 0}, {0, "a", 0, true, 0}, {0, "a", 0, false, busyRetry},
		}},
		"too much at once takes nothing from a bucket": {[]Rate{{1, 2}}, 1, []step{
			{0, "a", 0, true, 0}, {0, "a", 0, false, busyRetry}, {0, "a", 0, false, busyRetry},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			now := noon
			th := newThrottle[string](func() time.Time { return now }, c.atOnce, c.rates...)
			var open []func()
			for i, s := range c.steps {
				now = noon.Add(s.at)
				leave, refused := th.enter(s.key, s.kind)
				switch {
				case refused == nil && s.after != 0:
					t.Errorf("step %d was let in", i)
				case refused != nil && refused.after != s.after:
					t.Errorf("step %d: come again in %s, want %s", i, refused.after, s.after)
				case refused != nil && !errors.Is(refused, bus.ErrRateLimited):
					t.Errorf("step %d: code %q", i, bus.CodeOf(refused))
				}
				if refused != nil {
					continue
				}
				if s.stays {
					open = append(open, leave)
				} else {
					leave()
				}
			}
			for _, leave := range open {
				leave()
			}
			if len(th.keys) != th.idle.Len() {
				t.Errorf("%d keys are remembered, %d of them idle", len(th.keys), th.idle.Len())
			}
		})
	}
}

// Whoever comes when told is let in, and a bucket gives out what it should.
func TestThrottleTellsTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{rapid.Float64Range(0.01, 5000).Draw(t, "per second"), rapid.IntRange(1, 50).Draw(t, "burst")}
		now, admitted := noon, 0
		th := newThrottle[string](func() time.Time { return now }, -1, r)
		ask := func() *limited {
			leave, refused := th.enter("a", 0)
			if refused == nil {
				leave()
				admitted++
			}
			return refused
		}
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Millisecond)).Draw(t, "pause")))
			refused := ask()
			if refused != nil && rapid.Bool().Draw(t, "wait") {
				if refused.after <= 0 || refused.after > time.Duration(1/r.PerSecond*float64(time.Second))+2*time.Millisecond {
					t.Fatalf("come again in %s", refused.after)
				}
				if now = now.Add(refused.after); ask() != nil {
					t.Fatalf("refused after %s, as told", refused.after)
				}
			}
		}
		if most := float64(r.Burst) + r.PerSecond*now.Sub(noon).Seconds() + 0.001; float64(admitted) > most {
			t.Fatalf("%d let in, at most %g", admitted, most)
		}
	})
}

func TestThrottleTellsTheOperatorOnceInAWhile(t *testing.T) {
	now := noon
	th := newThrottle[string](func() time.Time { return now }, -1, Rate{0.0001, 1})
	leave, _ := th.enter("a", 0)
	leave()
	for i, c := range []struct {
		at    time.Duration
		first bool
	}{{0, true}, {time.Second, false}, {tellEvery - 1, false}, {tellEvery, true}, {tellEvery + 1, false}} {
		now = noon.Add(c.at)
		_, refused := th.enter("a", 0)
		if refused == nil || refused.first != c.first {
			t.Errorf("refusal %d: %+v", i, refused)
		}
	}
}

func TestThrottleForgetsWhoIsGone(t *testing.T) {
	now := noon
	th := newThrottle[netip.Addr](func() time.Time { return now }, 4, Rate{10, 20})
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	stays, _ := th.enter(addr(0), 0)

	// All at the same time, so that no bucket is full again.
	const n = 5 * maxRemembered
	for i := 1; i <= n; i++ {
		leave, refused := th.enter(addr(i), 0)
		if refused != nil {
			t.Fatalf("address %d: %v", i, refused)
		}
		leave()
	}
	if got := len(th.keys); got != maxRemembered+1 {
		t.Fatalf("%d addresses are remembered, want %d and the one with a request under way", got, maxRemembered)
	}
	if th.keys[addr(0)] == nil || th.keys[addr(n)] == nil || th.keys[addr(1)] != nil {
		t.Error("not the ones that were idle for longest were forgotten")
	}

	// Before a bucket is full it is remembered, and afterwards each request
	// makes more room than it takes.
	enter := func(i int, at time.Duration) {
		now = noon.Add(at)
		if leave, refused := th.enter(addr(i), 0); refused == nil {
			leave()
		}
	}
	enter(n, 1999*time.Millisecond)
	if got := len(th.keys); got != maxRemembered+1 {
		t.Errorf("%d are remembered, want all", got)
	}
	for range maxRemembered {
		enter(n, 2*time.Second)
	}
	if got := len(th.keys); got != 2 {
		t.Errorf("%d are remembered when all but two are gone", got)
	}
	stays()
	enter(n, 4*time.Second)
	if got := len(th.keys); got != 1 {
		t.Errorf("%d are remembered when all but one are gone", got)
	}
}
