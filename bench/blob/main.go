// Command blob measures what it takes to send a file through a bus: it builds
// the daemon and the tool, runs them as processes, sends and fetches a file, and
// prints the peak memory of each process (VmHWM of /proc, so Linux only). Then
// it sends and fetches one more, and kills the tool with SIGKILL again and again
// on the way; each time it has to go on where it was.
//
//	go run ./bench/blob [-size BYTES] [-kills N] [-json]
//
// It exits with 1 where a file is not what it was, or where a transfer began
// from the start after it was killed.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	size := flag.Int64("size", 64<<20, "bytes of the file")
	kills := flag.Int("kills", 12, "kill the tool so often on its way out, and on its way in")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, *size, *kills)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	r.print(*asJSON)
}

// result is what was measured. Memory is in KiB, as the kernel gives it.
type result struct {
	Size                 int64   `json:"size"`
	PutSeconds           float64 `json:"put_seconds"`
	GetSeconds           float64 `json:"get_seconds"`
	ToolIdle             int64   `json:"tool_idle_kib"` // unibus room ls
	ToolPut              int64   `json:"tool_put_kib"`
	ToolGet              int64   `json:"tool_get_kib"`
	DaemonIdle           int64   `json:"daemon_idle_kib"`
	DaemonPut            int64   `json:"daemon_put_kib"`
	DaemonGet            int64   `json:"daemon_get_kib"`
	DaemonEnd            int64   `json:"daemon_end_kib"` // after the killed transfers too
	PutKills             []int64 `json:"put_kills_at"`   // bytes that the node had
	GetKills             []int64 `json:"get_kills_at"`   // bytes that were here
	ToolPutKilledHighest int64   `json:"tool_put_killed_kib"`
	ToolGetKilledHighest int64   `json:"tool_get_killed_kib"`
}

func (r result) print(asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(r) // a closed pipe ends nothing else
		return
	}
	mib := func(kib int64) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }
	fmt.Printf("file                     %.1f MiB\n", float64(r.Size)/(1<<20))
	fmt.Printf("put, get                 %.1f s, %.1f s; content is the same\n", r.PutSeconds, r.GetSeconds)
	fmt.Printf("tool that sends nothing  %s\n", mib(r.ToolIdle))
	fmt.Printf("unibus blob put          %s (+%s)\n", mib(r.ToolPut), mib(r.ToolPut-r.ToolIdle))
	fmt.Printf("unibus blob get          %s (+%s)\n", mib(r.ToolGet), mib(r.ToolGet-r.ToolIdle))
	fmt.Printf("unibusd before           %s\n", mib(r.DaemonIdle))
	fmt.Printf("unibusd after put        %s (+%s)\n", mib(r.DaemonPut), mib(r.DaemonPut-r.DaemonIdle))
	fmt.Printf("unibusd after get        %s (+%s)\n", mib(r.DaemonGet), mib(r.DaemonGet-r.DaemonIdle))
	fmt.Printf("put, killed %2d times at  %s\n", len(r.PutKills), places(r.PutKills))
	fmt.Printf("get, killed %2d times at  %s\n", len(r.GetKills), places(r.GetKills))
	fmt.Printf("highest of those         put %s, get %s, unibusd %s (+%s)\n",
		mib(r.ToolPutKilledHighest), mib(r.ToolGetKilledHighest), mib(r.DaemonEnd), mib(r.DaemonEnd-r.DaemonIdle))
}

func places(at []int64) string {
	words := make([]string, len(at))
	for i, n := range at {
		words[i] = fmt.Sprintf("%.1f", float64(n)/(1<<20))
	}
	return strings.Join(words, " ") + " MiB"
}

// bench is a bus of one node in a directory of its own.
type bench struct {
	dir    string
	env    []string
	daemon *exec.Cmd
	result
}

func run(ctx context.Context, size int64, kills int) (_ result, err error) {
	dir, err := os.MkdirTemp("", "unibus-bench-")
	if err != nil {
		return result{}, err
	}
	b := &bench{dir: dir, result: result{Size: size}}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, step := range []func(context.Context) error{
		b.build, b.start, b.plain,
		func(ctx context.Context) error { return b.killedPut(ctx, kills) },
		func(ctx context.Context) error { return b.killedGet(ctx, kills) },
	} {
		if err := step(ctx); err != nil {
			return result{}, err
		}
	}
	b.DaemonEnd, err = highWater(b.daemon.Process.Pid)
	return b.result, err
}

func (b *bench) close() error {
	var err error
	if b.daemon != nil {
		err = errors.Join(b.daemon.Process.Signal(syscall.SIGTERM), b.daemon.Wait())
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

func (b *bench) path(name ...string) string {
	return filepath.Join(append([]string{b.dir}, name...)...)
}

func (b *bench) build(ctx context.Context) error {
	for name, pkg := range map[string]string{"unibusd": "./daemon/unibusd", "unibus": "./tools/cmd/unibus"} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.path(name), pkg).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return nil
}

// start makes a bus, starts its node and makes a room.
func (b *bench) start(ctx context.Context) error {
	b.env = []string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH")}
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	if _, err := b.tool(ctx, "init", "--quiet", "--nats-port", ports[0], "--control-port", ports[1], b.path("bus")); err != nil {
		return err
	}
	settings, err := os.ReadFile(b.path("bus", "unibusd.env"))
	if err != nil {
		return err
	}
	// Not of ctx: close ends it, in order.
	b.daemon = exec.Command(b.path("unibusd"), "--log-level", "warn")
	b.daemon.Env = append(b.env, strings.Split(strings.TrimSpace(string(settings)), "\n")...)
	b.daemon.Stderr = os.Stderr
	if err := b.daemon.Start(); err != nil {
		b.daemon = nil
		return err
	}
	if err := b.waitReady(ctx, "http://127.0.0.1:"+ports[1]+"/readyz"); err != nil {
		return err
	}
	if _, err := b.tool(ctx, "room", "create", "files"); err != nil {
		return err
	}
	if b.ToolIdle, err = b.tool(ctx, "room", "ls"); err != nil {
		return err
	}
	b.DaemonIdle, err = highWater(b.daemon.Process.Pid)
	return err
}

func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // after all are found, so that no two are the same
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

func (b *bench) waitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the node: %w", ctx.Err())
		}
	}
}

// tool runs the tool to its end and returns the most memory it had.
func (b *bench) tool(ctx context.Context, args ...string) (int64, error) {
	most, _, err := b.watched(ctx, nil, args...)
	return most, err
}

// watched runs the tool, and kills it when enough says so.
func (b *bench) watched(ctx context.Context, enough func() bool, args ...string) (most int64, killed bool, err error) {
	cmd := exec.CommandContext(ctx, b.path("unibus"), args...)
	cmd.Env = b.env
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return 0, false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil && !killed {
				return most, false, fmt.Errorf("unibus %s: %w: %s", strings.Join(args, " "), err, &said)
			}
			return most, killed, nil
		case <-poll.C:
			if n, err := highWater(cmd.Process.Pid); err == nil { // it may just have ended
				most = max(most, n)
			}
			if !killed && enough != nil && enough() {
				killed = true
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					return most, killed, err
				}
			}
		}
	}
}

// highWater reads the most memory that a process has had, in KiB.
func highWater(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, errors.New("no VmHWM in the process's status")
}

// file makes a file of random content.
func (b *bench) file(name string) error {
	f, err := os.Create(b.path(name))
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, b.Size)
	return errors.Join(err, f.Close())
}

// same compares two files by their hashes.
func (b *bench) same(one, other string) error {
	var sums [2][]byte
	for i, name := range []string{one, other} {
		f, err := os.Open(b.path(name))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		sums[i] = h.Sum(nil)
	}
	if !bytes.Equal(sums[0], sums[1]) {
		return fmt.Errorf("%s is not %s", other, one)
	}
	return nil
}

// plain sends and fetches a file without disturbance.
func (b *bench) plain(ctx context.Context) (err error) {
	if err := b.file("plain"); err != nil {
		return err
	}
	began := time.Now()
	if b.ToolPut, err = b.tool(ctx, "blob", "put", "files", b.path("plain")); err != nil {
		return err
	}
	b.PutSeconds = time.Since(began).Seconds()
	if b.DaemonPut, err = highWater(b.daemon.Process.Pid); err != nil {
		return err
	}
	began = time.Now()
	if b.ToolGet, err = b.tool(ctx, "blob", "get", "files", "plain", "-o", b.path("plain.got")); err != nil {
		return err
	}
	b.GetSeconds = time.Since(began).Seconds()
	if b.DaemonGet, err = highWater(b.daemon.Process.Pid); err != nil {
		return err
	}
	return b.same("plain", "plain.got")
}

// killedPut kills the tool each time that the node has one part more.
func (b *bench) killedPut(ctx context.Context, kills int) error {
	if err := b.file("killed"); err != nil {
		return err
	}
	uploaded := func() int64 {
		names, err := filepath.Glob(b.path("bus", "data", "blobs", "uploads", "*"))
		if err != nil || len(names) != 1 {
			return 0
		}
		n, err := strconv.ParseInt(names[0][strings.LastIndexByte(names[0], '-')+1:], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	var err error
	b.PutKills, b.ToolPutKilledHighest, err = b.killed(ctx, kills, 1, uploaded, "blob", "put", "files", b.path("killed"))
	return err
}

// killedGet kills the tool each time that some more is here.
func (b *bench) killedGet(ctx context.Context, kills int) error {
	fetched := func() int64 {
		names, err := filepath.Glob(b.path(".local", "state", "unibus", "*", "*", "blobs", "in", "*.part"))
		if err != nil || len(names) != 1 {
			return 0
		}
		info, err := os.Stat(names[0])
		if err != nil {
			return 0
		}
		return info.Size()
	}
	var err error
	// A piece of random size, of which all the kills together do not make a file.
	step := 1 + mathrand.Int64N(b.Size/int64(2*kills+2))
	b.GetKills, b.ToolGetKilledHighest, err = b.killed(ctx, kills, step, fetched, "blob", "get", "files", "killed", "-o", b.path("killed.got"))
	if err != nil {
		return err
	}
	return b.same("killed", "killed.got")
}

// killed runs the tool until it ends by itself, and before that kills it so
// many times, each after it has moved on by step. Nothing that it had may be
// lost.
func (b *bench) killed(ctx context.Context, kills int, step int64, have func() int64, args ...string) (at []int64, most int64, err error) {
	for {
		before := have()
		if len(at) > 0 && before < at[len(at)-1] {
			return nil, 0, fmt.Errorf("unibus %s: killed at %d bytes, and afterwards there are %d", args[1], at[len(at)-1], before)
		}
		var last int64
		enough := func() bool { last = have(); return last >= before+step }
		if len(at) == kills {
			enough = nil
		}
		n, killed, err := b.watched(ctx, enough, args...)
		if err != nil {
			return nil, 0, err
		}
		most = max(most, n)
		switch {
		case killed:
			at = append(at, last)
		case len(at) < kills:
			return nil, 0, fmt.Errorf("unibus %s: it was done after %d kills, and %d were to come; use a larger -size", args[1], len(at), kills-len(at))
		default:
			return at, most, nil
		}
	}
}
