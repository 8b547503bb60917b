package cli

import (
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progressDelay is how long a command may take without showing that it is at work.
const progressDelay = time.Second

// Progress shows how far a piece of work is. It is safe for concurrent use.
type Progress struct {
	call  *Call
	label string
	bytes bool

	mu     sync.Mutex
	start  *time.Timer
	group  *mpb.Progress
	bar    *mpb.Bar
	before io.Writer // where standard error went before the bar came
	total  int64
	done   int64
	closed bool
}

// Progress begins to count work on total things, 0 if nobody knows how many.
// It shows on standard error, after a second, if that is a terminal and
// neither --quiet nor --json was given. Close it before the command returns.
func (c *Call) Progress(label string, total int64) *Progress { return c.progress(label, total, false) }

// ProgressBytes is [Call.Progress] for bytes.
func (c *Call) ProgressBytes(label string, total int64) *Progress {
	return c.progress(label, total, true)
}

func (c *Call) progress(label string, total int64, bytes bool) *Progress {
	p := &Progress{call: c, label: Printable(label), total: total, bytes: bytes}
	if IsTerminal(c.Env.Stderr) && !c.Quiet() && !c.WantsJSON() {
		p.start = time.AfterFunc(progressDelay, p.show)
	}
	return p
}

// Add says that n more things are done.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.bar != nil {
		p.bar.IncrInt64(n)
	}
}

// SetTotal says how many things there are, once that is known.
func (p *Progress) SetTotal(total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = total
	if p.bar != nil {
		p.bar.SetTotal(total, false)
	}
}

// Close takes the bar away. It may be called more than once.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if p.start != nil {
		p.start.Stop()
	}
	if p.bar != nil {
		p.bar.Abort(true)
		p.group.Wait()
		p.call.frame.stderr.redirect(p.before)
	}
}

// show brings the bar on the screen. From then on what is written to standard
// error goes through the bar, which keeps below it.
func (p *Progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	counters, current := decor.CountersNoUnit("%d / %d"), decor.CurrentNoUnit("%d")
	if p.bytes {
		counters, current = decor.CountersKibiByte("% .1f / % .1f"), decor.CurrentKibiByte("% .1f")
	}
	known := p.total > 0
	p.group = mpb.New(mpb.WithOutput(p.call.Env.Stderr), mpb.WithAutoRefresh(), mpb.WithWidth(40))
	p.bar = p.group.New(p.total, mpb.BarStyle(), mpb.BarFillerTrim(),
		mpb.BarOptional(mpb.BarFillerMiddleware(noFiller), !known),
		mpb.PrependDecorators(decor.Name(p.label+" ")),
		mpb.AppendDecorators(decor.Conditional(known, counters, current), decor.Elapsed(decor.ET_STYLE_MMSS, decor.WC{W: 6})))
	p.bar.IncrInt64(p.done)
	p.before = p.call.frame.stderr.redirect(p.group)
}

// noFiller leaves the bar away where nobody knows how far it would reach.
func noFiller(mpb.BarFiller) mpb.BarFiller {
	return mpb.BarFillerFunc(func(io.Writer, decor.Statistics) error { return nil })
}
