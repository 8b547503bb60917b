package control

import (
	"container/list"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxRemembered is how many keys a throttle remembers of which nothing is
	// under way, at about 300 bytes each.
	maxRemembered = 1 << 14
	// busyRetry is when to come again where too much is under way: nobody can
	// tell when some of it ends, most of it does within a second.
	busyRetry = time.Second
	// tellEvery is how often the operator is told about one key.
	tellEvery = time.Minute
)

// throttle bounds how often and how much at once each key may do something. It
// remembers a key while something of it is under way, and then until its
// buckets are full again, when forgetting it changes nothing. Beyond
// maxRemembered it forgets the one that was idle for longest. It is safe for
// concurrent use.
type throttle[K comparable] struct {
	rates  []Rate        // one for each kind
	atOnce int           // negative is no limit
	refill time.Duration // what an empty bucket takes to be full
	now    func() time.Time

	mu   sync.Mutex
	keys map[K]*usage[K]
	idle list.List // of *usage[K] with nothing under way; the latest in front
}

// usage is what one key does.
type usage[K comparable] struct {
	key     K
	buckets []*rate.Limiter
	running int
	last    time.Time     // when it last asked
	told    time.Time     // when a refusal was last the first in a while
	place   *list.Element // in idle, or nil
}

func newThrottle[K comparable](now func() time.Time, atOnce int, rates ...Rate) *throttle[K] {
	t := &throttle[K]{rates: rates, atOnce: atOnce, now: now, keys: make(map[K]*usage[K])}
	for _, r := range rates {
		if r.PerSecond > 0 {
			t.refill = max(t.refill, seconds(float64(r.Burst)/r.PerSecond))
		}
	}
	return t
}

// seconds is s as a duration, as far as one can hold it.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}

// enter asks for one more of a kind. Whoever is let in calls leave once, at
// its end.
func (t *throttle[K]) enter(key K, kind int) (leave func(), _ *limited) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now() // under the lock, so that it goes back only if the clock does
	t.sweep(now)
	u := t.keys[key]
	if u == nil {
		u = &usage[K]{key: key}
		t.keys[key] = u
	}
	if u.buckets == nil || now.Before(u.last) {
		// A bucket would wait until a clock that was set back is there again.
		u.buckets = t.buckets()
	}
	if u.place != nil {
		t.idle.Remove(u.place)
		u.place = nil
	}
	u.last = now
	if refused := t.ask(u, kind, now); refused != nil {
		t.rest(u)
		return nil, refused
	}
	u.running++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		u.running--
		t.rest(u)
	}, nil
}

// ask takes from a bucket what it has. What is refused takes nothing.
func (t *throttle[K]) ask(u *usage[K], kind int, now time.Time) *limited {
	why, after := "too many are under way", busyRetry
	if !over(u.running+1, t.atOnce) {
		b := u.buckets[kind]
		if b.AllowN(now, 1) {
			return nil
		}
		why, after = "too many", untilNext(b, now)
	}
	first := u.told.IsZero() || now.Sub(u.told) >= tellEvery
	if first {
		u.told = now
	}
	return newLimited(why, after, first)
}

// untilNext returns when a bucket has its next token, rounded up to a whole
// millisecond more, since clients are told in those and floats are not exact.
func untilNext(b *rate.Limiter, now time.Time) time.Duration {
	wait := seconds((1 - b.TokensAt(now)) / float64(b.Limit()))
	wait = min(max(wait, 0), 24*time.Hour)
	return wait.Truncate(time.Millisecond) + time.Millisecond
}

// rest lets a key be forgotten that has nothing under way.
func (t *throttle[K]) rest(u *usage[K]) {
	if u.running > 0 {
		return
	}
	u.place = t.idle.PushFront(u)
	if t.idle.Len() > maxRemembered {
		t.forget(t.idle.Back())
	}
}

// sweep forgets keys whose buckets are full, a few at a time, but more than can
// come in meanwhile.
func (t *throttle[K]) sweep(now time.Time) {
	for range 2 {
		e := t.idle.Back()
		if e == nil || now.Sub(e.Value.(*usage[K]).last) < t.refill {
			return
		}
		t.forget(e)
	}
}

func (t *throttle[K]) forget(e *list.Element) {
	delete(t.keys, t.idle.Remove(e).(*usage[K]).key)
}

func (t *throttle[K]) buckets() []*rate.Limiter {
	full := make([]*rate.Limiter, len(t.rates))
	for i, r := range t.rates {
		full[i] = r.bucket()
	}
	return full
}

func (r Rate) bucket() *rate.Limiter {
	if r.PerSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
}
