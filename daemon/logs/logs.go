// Package logs keeps a node's log from filling the disk.
//
// Start with [Bound]. Strangers can cause lines: a refused request, a denied
// session, a broken handshake. Each kind of line, told by its message and its
// error code, may come so often and no more; what is left out is counted, and
// the log says that it happened. A kind that floods hides no other.
//
// What it does not do: it formats nothing, and leaves debug lines alone, which
// somebody asked for who is looking on.
package logs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/enmanuel/unibus/lib/bus"
)

// Of each kind, burst lines may come at once and one every refill in the long
// run: with its note about what was left out that is some 5 MB a day.
const (
	burst  = 200
	refill = 10 * time.Second
	// maxKinds bounds how many kinds are told apart, far beyond what there are.
	maxKinds = 4096
)

// codeKey is the attribute that holds an error code.
const codeKey = "code"

// Bound returns a handler that passes on to next what is within bounds. now is
// the clock; suppressed is called for each line that is left out.
func Bound(next slog.Handler, now func() time.Time, suppressed func()) slog.Handler {
	return &bound{next, &budgets{now: now, suppressed: suppressed, kinds: map[kind]*budget{}}}
}

type bound struct {
	slog.Handler
	budgets *budgets
}

// kind is what lines have in common.
type kind struct {
	message string
	code    bus.Code
}

// budgets is what may be written, of each kind.
type budgets struct {
	now        func() time.Time
	suppressed func()

	mu    sync.Mutex
	kinds map[kind]*budget
}

type budget struct {
	tokens  *rate.Limiter
	missing int // left out since the last line
}

// Handle implements [slog.Handler].
func (h *bound) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	allowed, missing := h.budgets.spend(kindOf(r))
	switch {
	case allowed && missing > 0:
		if err := h.leftOut(ctx, r, "log lines left out", missing); err != nil {
			return err
		}
	case !allowed && missing == 1:
		return h.leftOut(ctx, r, "too many log lines of a kind, leaving most out", 0)
	}
	if !allowed {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h *bound) leftOut(ctx context.Context, of slog.Record, message string, missing int) error {
	note := slog.NewRecord(of.Time, slog.LevelWarn, message, 0)
	note.AddAttrs(slog.String("of", of.Message))
	if code := kindOf(of).code; code != "" {
		note.AddAttrs(slog.String(codeKey, string(code)))
	}
	if missing > 0 {
		note.AddAttrs(slog.Int("lines", missing))
	}
	return h.Handler.Handle(ctx, note)
}

func kindOf(r slog.Record) kind {
	k := kind{message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == codeKey {
			if code := bus.Code(a.Value.String()); code.Known() {
				k.code = code
			}
		}
		return k.code == ""
	})
	return k
}

// spend asks whether one more line of a kind may be written, and says how many
// were left out before it, or with it.
func (b *budgets) spend(k kind) (allowed bool, missing int) {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.kinds[k]
	if left == nil {
		if len(b.kinds) >= maxKinds {
			k = kind{}
			left = b.kinds[k]
		}
		if left == nil {
			left = &budget{tokens: rate.NewLimiter(rate.Every(refill), burst)}
			b.kinds[k] = left
		}
	}
	if left.tokens.AllowN(now, 1) {
		missing, left.missing = left.missing, 0
		return true, missing
	}
	left.missing++
	b.suppressed()
	return false, left.missing
}

// WithAttrs implements [slog.Handler].
func (h *bound) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &bound{h.Handler.WithAttrs(attrs), h.budgets}
}

// WithGroup implements [slog.Handler].
func (h *bound) WithGroup(name string) slog.Handler {
	return &bound{h.Handler.WithGroup(name), h.budgets}
}
