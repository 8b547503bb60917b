package main

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"
)

// usage is what the process holds once nothing is under way.
type usage struct {
	heap       uint64 // bytes in live objects
	goroutines int
}

func (u usage) String() string {
	return fmt.Sprintf("%.1f MiB in live objects, %d goroutines", float64(u.heap)/(1<<20), u.goroutines)
}

// Growth that is none: what a few chains, pools and timers more or less make.
const (
	heapSlack      = 8 << 20
	goroutineSlack = 10
)

func (u usage) checkGrowth(before usage) error {
	if u.heap > before.heap+before.heap/4+heapSlack {
		return fmt.Errorf("memory grew from %d to %d bytes", before.heap, u.heap)
	}
	if u.goroutines > before.goroutines+goroutineSlack {
		buf := make([]byte, 1<<20)
		return fmt.Errorf("goroutines grew from %d to %d:\n%s", before.goroutines, u.goroutines, buf[:runtime.Stack(buf, true)])
	}
	return nil
}

// measure waits until the node has let go of the connections, then counts.
func (w *world) measure() usage {
	w.http.CloseIdleConnections()
	var u usage
	last := 1 << 30
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		u.goroutines = runtime.NumGoroutine()
		if u.goroutines >= last {
			break
		}
		last = u.goroutines
		time.Sleep(500 * time.Millisecond)
	}
	// Twice: finalizers and pools give up what they hold one collection later.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap = m.HeapAlloc
	return u
}

// errorLog keeps the log lines that no request may cause.
type errorLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *errorLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) < 100 {
		l.lines = append(l.lines, strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func (l *errorLog) errors() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

func (l *errorLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelError}))
}
