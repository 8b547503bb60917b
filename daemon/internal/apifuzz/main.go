// Command apifuzz talks to the control plane of a real node with random
// requests, valid ones and broken ones, for as long as it is told:
//
//	go run ./daemon/internal/apifuzz -time 10m
//
// The node runs in this process, so that its memory and goroutines can be
// counted. The run fails when an answer has a status of 500 or above or is no
// answer of the protocol, when a valid request is refused or a forged one is
// served, when the node logs an error, and when memory or goroutines have grown
// between the end of the warm-up and the end. It prints what was sent, what
// came back and those figures. -seed repeats the choices of a run, though not
// their timing nor the keys.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	length := flag.Duration("time", 20*time.Second, "how long to send requests")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the choices")
	workers := flag.Int("workers", 4, "how many clients send at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *length, *seed, *workers); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, length time.Duration, seed uint64, workers int) (err error) {
	if workers < 1 || length <= 0 {
		return fmt.Errorf("read flags: %d workers for %s", workers, length)
	}
	fmt.Printf("seed %d, %s, %d workers\n", seed, length, workers)
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := w.close(); err == nil {
			err = stopErr
		}
	}()
	// What is made once, caches and pools too, is made in the warm-up.
	warmUp := min(length/5, time.Minute)
	if err := w.send(ctx, warmUp, seed, workers); err != nil {
		return err
	}
	before := w.measure()
	w.tally.reset()
	if err := w.send(ctx, length-warmUp, seed+1, workers); err != nil {
		return err
	}
	after := w.measure()
	w.tally.print(os.Stdout)
	fmt.Printf("after warm-up: %s\nat the end:    %s\n", before, after)
	if err := w.tally.failure(); err != nil {
		return err
	}
	if lines := w.log.errors(); len(lines) > 0 {
		return fmt.Errorf("the node logged %d errors, the first: %s", len(lines), lines[0])
	}
	return after.checkGrowth(before)
}
