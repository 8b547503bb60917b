package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
)

// maxFailures is how many failures a run keeps before it stops.
const maxFailures = 20

// tally counts what was sent and what came back.
type tally struct {
	mu       sync.Mutex
	answers  map[string]map[int]int // by what was sent; status 0 is none
	failures []string
}

func newTally() *tally { return &tally{answers: map[string]map[int]int{}} }

func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.answers)
}

func (t *tally) count(what string, status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers[what] == nil {
		t.answers[what] = map[int]int{}
	}
	t.answers[what][status]++
}

// fail keeps what must not happen.
func (t *tally) fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

func (t *tally) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures) >= maxFailures
}

func (t *tally) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d failures, the first: %s", len(t.failures), t.failures[0])
}

// print writes a line for each kind of request.
func (t *tally) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := 0
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, what := range slices.Sorted(maps.Keys(t.answers)) {
		fmt.Fprintf(table, "%s\t", what)
		for _, status := range slices.Sorted(maps.Keys(t.answers[what])) {
			n := t.answers[what][status]
			total += n
			if status == 0 {
				fmt.Fprintf(table, "no answer: %d  ", n)
			} else {
				fmt.Fprintf(table, "%d: %d  ", status, n)
			}
		}
		fmt.Fprintln(table)
	}
	table.Flush()
	fmt.Fprintf(out, "%d requests, %d failures\n", total, len(t.failures))
}
