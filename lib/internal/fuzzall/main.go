// Command fuzzall runs every fuzz target of the module for the same time each:
// `go run ./lib/internal/fuzzall -time 20s`. The go command fuzzes one target of
// one package a call; this finds them all, so that a new parser's target needs
// no list to be added to, and gives each a core of its own. A failure is printed
// with the go command's own output and stops nothing else; finding no target is a
// failure too.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

type target struct{ pkg, name string }

func main() {
	each := flag.Duration("time", 20*time.Second, "how long to fuzz each target")
	jobs := flag.Int("jobs", runtime.NumCPU(), "how many targets to fuzz at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *each, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, each time.Duration, jobs int) error {
	targets, err := list(ctx)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("list fuzz targets: found none")
	}
	fmt.Printf("%d targets, %s each, %d at once\n", len(targets), each, jobs)
	failures := make([]error, len(targets))
	var group errgroup.Group
	group.SetLimit(jobs)
	for i, t := range targets {
		group.Go(func() error { failures[i] = fuzz(ctx, t, each); return nil })
	}
	return errors.Join(append(failures, group.Wait())...)
}

// fuzz runs one target and prints one line, or everything if it failed.
func fuzz(ctx context.Context, t target, each time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$",
		"-fuzztime", each.String(), "-parallel", "1", t.pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("fuzz %s in %s: %w\n%s", t.name, t.pkg, err, out)
	}
	fmt.Printf("ok %s %s: %s\n", t.pkg, t.name, lastProgress(out))
	return nil
}

// lastProgress returns what the go command counted last.
func lastProgress(out []byte) string {
	last := "no figures"
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if _, figures, ok := strings.Cut(lines.Text(), "elapsed: "); ok {
			last = figures
		}
	}
	return last
}

// list asks the go command for the targets: it prints a package's targets
// first and the package in the line that closes them.
func list(ctx context.Context) ([]target, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list fuzz targets: %w", err)
	}
	var all []target
	var names []string
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) >= 2 && fields[0] == "ok":
			for _, name := range names {
				all = append(all, target{fields[1], name})
			}
			names = nil
		}
	}
	return all, nil
}
