package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// world is an Env whose output can be looked at.
type world struct {
	*Env
	out, errs bytes.Buffer
}

func newWorld(t *testing.T, args ...string) *world {
	t.Helper()
	w := &world{}
	w.Env = &Env{
		Args:    append([]string{"toy"}, args...),
		Environ: []string{"HOME=" + t.TempDir()},
		Stdin:   strings.NewReader(""),
		Stdout:  &w.out,
		Stderr:  &w.errs,
		Now:     func() time.Time { return time.Unix(1_700_000_000, 0) },
		Rand:    strings.NewReader(""),
		Version: "v1.2.3",
	}
	return w
}

func (w *world) setenv(kv ...string) *world {
	w.Environ = append(w.Environ, kv...)
	return w
}

// toy is a program with a command of each shape.
func toy(action func(c *Call) error) Program {
	return Program{Root: &Command{
		Name:  "toy",
		Usage: "try things",
		Subcommands: []*Command{
			{
				Name: "pub", Usage: "send", ArgsUsage: "ROOM [FILE...]",
				Description: "Sends what it reads.",
				UsageText:   "toy pub lobby -",
				Flags: []Flag{
					&IntFlag{Name: "count", Aliases: []string{"n"}, Value: 1, Usage: "repeat `N` times", EnvVars: []string{"TOY_COUNT"}},
					&BoolFlag{Name: "raw", Aliases: []string{"r"}, Usage: "as it is"},
					&StringSliceFlag{Name: "tag", Usage: "add a `TAG`"},
				},
				Action: Action(action),
			},
			{
				Name: "room", Usage: "rooms",
				Subcommands: []*Command{
					{Name: "show", Usage: "one", ArgsUsage: "ROOM", Action: Action(action),
						Flags: []Flag{&StringFlag{Name: "as", Required: true, Usage: "show as `WHAT`"}}},
					{Name: "ls", Usage: "all", Action: Action(action)},
				},
			},
			{Name: "raw", Usage: "verbatim", ArgsUsage: "[ARG...]", SkipFlagParsing: true, Action: Action(action)},
		},
	}}
}

// seen prints what a command was called with.
func seen(c *Call) error {
	c.Printf("%s args=%q json=%t", c.CommandLine(), c.Args().Slice(), c.WantsJSON())
	if c.Command.Name == "pub" {
		c.Printf(" count=%d raw=%t tag=%q", c.Int("count"), c.Bool("raw"), c.StringSlice("tag"))
	}
	if c.Command.Name == "show" {
		c.Printf(" as=%q", c.String("as"))
	}
	c.Printf("\n")
	return nil
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"pub lobby", `toy pub args=["lobby"] json=false count=1 raw=false tag=[]`},
		{"--json pub lobby", `toy pub args=["lobby"] json=true count=1 raw=false tag=[]`},
		{"pub --json lobby", `toy pub args=["lobby"] json=true count=1 raw=false tag=[]`},
		{"pub lobby f --count 3 g --json", `toy pub args=["lobby" "f" "g"] json=true count=3 raw=false tag=[]`},
		{"pub lobby --count=3 --count=4", `toy pub args=["lobby"] json=false count=4 raw=false tag=[]`},
		{"pub lobby --tag a --tag b,c", `toy pub args=["lobby"] json=false count=1 raw=false tag=["a" "b" "c"]`},
		{"pub -rqn5 lobby", `toy pub args=["lobby"] json=false count=5 raw=true tag=[]`},
		{"pub -n=5 lobby -r", `toy pub args=["lobby"] json=false count=5 raw=true tag=[]`},
		{"pub -n -5 lobby", `toy pub args=["lobby"] json=false count=-5 raw=false tag=[]`},
		{"pub lobby --raw=false -", `toy pub args=["lobby" "-"] json=false count=1 raw=false tag=[]`},
		{"pub lobby -- --raw -n", `toy pub args=["lobby" "--raw" "-n"] json=false count=1 raw=false tag=[]`},
		{"pub -- raw --json", `toy pub args=["raw" "--json"] json=false count=1 raw=false tag=[]`},
		{"room --json show lobby --as x", `toy room show args=["lobby"] json=true as="x"`},
		{"room show --as= lobby", `toy room show args=["lobby"] json=false as=""`},
		{"room ls", `toy room ls args=[] json=false`},
		{"--json raw --json -- -x --help", `toy raw args=["--json" "--" "-x" "--help"] json=true`},
	} {
		t.Run(tt.line, func(t *testing.T) {
			w := newWorld(t, strings.Fields(tt.line)...)
			if code := toy(seen).Run(t.Context(), w.Env); code != 0 {
				t.Fatalf("exit %d: %s", code, &w.errs)
			}
			if diff := cmp.Diff(tt.want+"\n", w.out.String()); diff != "" {
				t.Error(diff)
			}
			if w.errs.Len() > 0 {
				t.Errorf("standard error: %s", &w.errs)
			}
		})
	}
}

func TestWrongCallsExitWithTwoAndAHint(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"pbu lobby", "error: unknown command \"toy pbu\"\nhint: toy pub\n"},
		{"zzzzzz", "error: unknown command \"toy zzzzzz\"\nhint: toy --help\n"},
		{"room sho x", "error: unknown command \"toy room sho\"\nhint: toy room show\n"},
		{"pub lobby --cuont 3", "error: unknown flag \"--cuont\" for toy pub\nhint: did you mean --count? see toy pub --help\n"},
		{"pub lobby -json", "error: unknown flag \"-json\" for toy pub\nhint: did you mean --json? see toy pub --help\n"},
		{"pub lobby --n 3", "error: unknown flag \"--n\" for toy pub\nhint: toy pub --help\n"},
		{"pub lobby --secret=hush", "error: unknown flag \"--secret\" for toy pub\nhint: toy pub --help\n"},
		{"pub lobby --count", "error: flag --count needs a value\nhint: toy pub --help\n"},
		{"pub lobby -n", "error: flag -n needs a value\nhint: toy pub --help\n"},
		{"pub lobby --count x", "error: invalid value \"x\" for --count: want a whole number\nhint: toy pub --help\n"},
		{"pub lobby --raw=maybe", "error: invalid value \"maybe\" for --raw: want true or false\nhint: toy pub --help\n"},
		{"pub lobby --timeout soon", "error: invalid value \"soon\" for --timeout: want a time such as 30s or 5m\nhint: toy pub --help\n"},
		{"pub", "error: missing ROOM\nhint: toy pub --help\n"},
		{"room ls extra", "error: unexpected argument \"extra\"\nhint: toy room ls --help\n"},
		{"room show lobby", "error: flag --as is needed\nhint: toy room show --help\n"},
		{"--json pub", `{"v":1,"error":{"code":"usage","exit":2,"message":"missing ROOM","hint":"toy pub --help"}}` + "\n"},
		{"--json --bogus pub", `{"v":1,"error":{"code":"usage","exit":2,"message":"unknown flag \"--bogus\" for toy","hint":"toy --help"}}` + "\n"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			w := newWorld(t, strings.Fields(tt.line)...)
			never := func(*Call) error { t.Error("the command ran"); return nil }
			if code := toy(never).Run(t.Context(), w.Env); code != int(ExitUsage) {
				t.Errorf("exit %d", code)
			}
			if diff := cmp.Diff(tt.want, w.errs.String()); diff != "" {
				t.Error(diff)
			}
			if w.out.Len() > 0 {
				t.Errorf("standard output: %s", &w.out)
			}
		})
	}
}

func TestVariablesStandInForFlags(t *testing.T) {
	w := newWorld(t, "pub", "lobby").setenv("TOY_COUNT=7", "UNIBUS_JSON=1", "UNIBUS_SERVER=nats://a:1,nats://b:2", "UNIBUS_TIMEOUT=")
	var cfg Config
	err := toy(func(c *Call) (err error) {
		cfg, err = c.Config()
		c.Printf("%s %s %s\n", c.Source("count"), c.Source("json"), c.Source("timeout"))
		return err
	})
	if code := err.Run(t.Context(), w.Env); code != 0 {
		t.Fatalf("exit %d: %s", code, &w.errs)
	}
	if diff := cmp.Diff("env TOY_COUNT env UNIBUS_JSON default\n", w.out.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"nats://a:1", "nats://b:2"}, cfg.Servers); diff != "" {
		t.Error(diff)
	}

	w = newWorld(t, "pub", "lobby", "-n", "2").setenv("TOY_COUNT=7")
	if toy(seen).Run(t.Context(), w.Env); !strings.Contains(w.out.String(), "count=2 ") {
		t.Errorf("the flag does not win: %s", &w.out)
	}

	w = newWorld(t, "pub", "lobby").setenv("TOY_COUNT=many")
	code := toy(seen).Run(t.Context(), w.Env)
	if want := "error: invalid value \"many\" for $TOY_COUNT: want a whole number\nhint: toy pub --help\n"; code != 2 || w.errs.String() != want {
		t.Errorf("exit %d: %s", code, &w.errs)
	}
}

// The process's own environment is not the one commands run in.
func TestVariablesOfTheProcessAreNotRead(t *testing.T) {
	t.Setenv("TOY_COUNT", "9")
	t.Setenv("UNIBUS_JSON", "1")
	w := newWorld(t, "pub", "lobby")
	toy(seen).Run(t.Context(), w.Env)
	if want := `toy pub args=["lobby"] json=false count=1 raw=false tag=[]` + "\n"; w.out.String() != want {
		t.Errorf("have %s", &w.out)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, tt := range []struct{ line, first string }{
		{"--help", "toy - try things"},
		{"-h", "toy - try things"},
		{"help", "toy - try things"},
		{"pub --help", "toy pub - send"},
		{"--help pub", "toy pub - send"},
		{"help pub", "toy pub - send"},
		{"pub lobby -h --bogus", "toy pub - send"},
		{"help room show", "toy room show - one"},
		{"room help show", "toy room show - one"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			w := newWorld(t, strings.Fields(tt.line)...)
			if code := toy(seen).Run(t.Context(), w.Env); code != 0 || w.errs.Len() > 0 {
				t.Fatalf("exit %d: %s", code, &w.errs)
			}
			first, _, _ := strings.Cut(w.out.String(), "\n")
			if first != tt.first {
				t.Errorf("help begins %q", first)
			}
			if !strings.Contains(w.out.String(), "5 unavailable") {
				t.Error("help does not publish the exit statuses")
			}
		})
	}
}

func TestCommandWithoutItsCommandShowsHelpAsAnError(t *testing.T) {
	for _, line := range []string{"", "room", "--quiet room"} {
		w := newWorld(t, strings.Fields(line)...)
		if code := toy(seen).Run(t.Context(), w.Env); code != 2 {
			t.Errorf("%q: exit %d", line, code)
		}
		if w.out.Len() > 0 || !strings.Contains(w.errs.String(), "Commands:") {
			t.Errorf("%q: output %q, errors %q", line, &w.out, &w.errs)
		}
	}
}

func TestVersion(t *testing.T) {
	w := newWorld(t, "--version")
	w.Commit = "0123abc"
	want := fmt.Sprintf("toy v1.2.3 (commit 0123abc, %s %s/%s)\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if code := toy(seen).Run(t.Context(), w.Env); code != 0 || w.out.String() != want {
		t.Errorf("exit %d: %s%s", code, &w.out, &w.errs)
	}
	w = newWorld(t, "--version", "--json")
	want = fmt.Sprintf(`{"v":1,"program":"toy","version":"v1.2.3","commit":"","go":%q}`, runtime.Version()) + "\n"
	if code := toy(seen).Run(t.Context(), w.Env); code != 0 || w.out.String() != want {
		t.Errorf("exit %d: %s%s", code, &w.out, &w.errs)
	}
}

func TestErrorsDecideStatusAndHint(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		exit   int
		stderr string
	}{
		{"plain", errors.New("went wrong"), 1, "error: went wrong\nhint: unibus explain internal\n"},
		{"coded", bus.Errorf(bus.CodeUnavailable, "dial bus: nobody answers"), 5, "error: dial bus: nobody answers\nhint: unibus context validate\n"},
		{"wrapped", fmt.Errorf("list: %w", bus.ErrForbidden), 4, "error: list: the signer may not do this\nhint: ask an administrator of the bus, or an owner of the room\n"},
		{"hinted", WithHint(bus.Errorf(bus.CodeNotFound, "find room %q", "x"), "unibus room ls"), 1, "error: find room \"x\"\nhint: unibus room ls\n"},
		{"hint of the outermost", WithHint(WithHint(errors.New("e"), "inner"), "outer"), 1, "error: e\nhint: outer\n"},
		{"hint inside the message", bus.Errorf(bus.CodeFileMode, "check a.id: it is 0644; run: chmod 600 a.id"), 1, "error: check a.id: it is 0644\nhint: chmod 600 a.id\n"},
		{"certificate of nobody known", bus.Errorf(bus.CodeForbidden, "dial: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), 4,
			"error: dial: tls: failed to verify certificate: x509: certificate signed by unknown authority\nhint: if the node's certificate comes from an authority of your own, trust that one: --ca FILE\n"},
		{"TLS to a node without", fmt.Errorf("dial: %w", http.ErrSchemeMismatch), 1,
			"error: dial: http: server gave HTTP response to HTTPS client\nhint: the node has no certificate: http:// in --url and nats:// in --server, or give it one\n"},
		{"partial", WithExit(errors.New("2 of 5 lost"), ExitPartial), 3, "error: 2 of 5 lost\nhint: unibus explain 3\n"},
		{"deadline", fmt.Errorf("wait: %w", context.DeadlineExceeded), 5, "error: wait: context deadline exceeded\nhint: try again, or allow more time: --timeout 60s\n"},
		{"joined", errors.Join(errors.New("one"), errors.New("two")), 1, "error: one; two\nhint: unibus explain internal\n"},
		{"from a hostile server", errors.New("\x1b[2Jall is well\a"), 1, `error: \x1b[2Jall is well\a` + "\nhint: unibus explain internal\n"},
		{"hint of a member", bus.Errorf(bus.CodeRequestFailed, "request: mallory says: no; run: rm -rf ."), 1, "error: request: mallory says: no; run: rm -rf .\nhint: unibus explain request_failed\n"},
		{"hint of a hostile server", problemOf(t, bus.CodeFileMode, "it is 0644; run: rm -rf ."), 1, "error: server answered 500: it is 0644; run: rm -rf .\nhint: " + AdviceFor(bus.CodeFileMode).Hint + "\n"},
		{"silent", Status(42), 42, ""},
		{"usage", BadArg("ROOM", errors.New("no")), 2, "error: ROOM: no\nhint: toy pub --help\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "pub", "lobby")
			if code := toy(func(*Call) error { return tt.err }).Run(t.Context(), w.Env); code != tt.exit {
				t.Errorf("exit %d, want %d", code, tt.exit)
			}
			if diff := cmp.Diff(tt.stderr, w.errs.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// problemOf is the answer of a server that says anything.
func problemOf(t *testing.T, code bus.Code, detail string) error {
	t.Helper()
	body, err := json.Marshal(api.Problem{Status: 500, Code: code, Detail: detail})
	if err != nil {
		t.Fatal(err)
	}
	return api.ReadProblem(&http.Response{
		StatusCode: 500, Header: http.Header{"Content-Type": {api.MediaProblem}}, Body: io.NopCloser(bytes.NewReader(body)),
	})
}

func TestJSONErrorsAreOneLine(t *testing.T) {
	w := newWorld(t, "pub", "lobby", "--json")
	toy(func(*Call) error { return bus.Errorf(bus.CodeRevoked, "dial: %q\nis gone", "a<b") }).Run(t.Context(), w.Env)
	want := `{"v":1,"error":{"code":"revoked","exit":4,"message":"dial: \"a\u003cb\"; is gone","hint":"ask an administrator of the bus"}}` + "\n"
	if diff := cmp.Diff(want, w.errs.String()); diff != "" {
		t.Error(diff)
	}
}

func TestEveryCodeHasAdvice(t *testing.T) {
	for _, code := range bus.Codes() {
		groups := 0
		for _, g := range AdviceGroups() {
			if slices.Contains(g.Codes(), code) {
				groups++
			}
		}
		a, ok := AdviceFor(code), groups == 1
		if !ok {
			t.Errorf("%s has advice in %d groups, want 1", code, groups)
			continue
		}
		if a.Exit < ExitFailed || a.Exit > ExitUnavailable {
			t.Errorf("%s exits with %d", code, a.Exit)
		}
		if a.Why == "" || a.Do == "" {
			t.Errorf("%s explains nothing", code)
		}
		if have := ExitOf(bus.Errorf(code, "x")); have != a.Exit {
			t.Errorf("an error with %s exits with %d, want %d", code, have, a.Exit)
		}
	}
	have := 0
	for _, g := range AdviceGroups() {
		have += len(g.Codes())
	}
	if have != len(bus.Codes()) {
		t.Errorf("advice for %d codes, there are %d", have, len(bus.Codes()))
	}
}

func TestASignalCountsOnlyWhenTheCommandGaveUp(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  func(ctx context.Context) error
		exit int
		says string
	}{
		{"gave up", func(ctx context.Context) error { return fmt.Errorf("wait: %w", ctx.Err()) }, 130, ""},
		{"ended well", func(context.Context) error { return nil }, 0, ""},
		{"failed for another reason", func(context.Context) error { return errors.New("disk full") }, 1, "error: disk full\nhint: unibus explain internal\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			w := newWorld(t, "pub", "lobby")
			code := toy(func(c *Call) error {
				cancel(signaled{syscall.SIGINT})
				<-c.Done()
				return tt.err(c.Context)
			}).Run(ctx, w.Env)
			if code != tt.exit || w.errs.String() != tt.says {
				t.Errorf("exit %d: %s", code, &w.errs)
			}
		})
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestFailingOutputEndsTheCommand(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		exit int
		says string
	}{
		{"closed pipe", fmt.Errorf("write: %w", syscall.EPIPE), 141, ""},
		{"closed pipe in the process", io.ErrClosedPipe, 141, ""},
		{"full disk", syscall.ENOSPC, 1, "error: write standard output: no space left on device\nhint: make room on the disk and run it again: df -h\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "pub", "lobby")
			w.Stdout = failingWriter{tt.err}
			code := toy(func(c *Call) error {
				c.Printf("a result\n")
				<-c.Done() // the failure cancels the context
				return c.Err()
			}).Run(t.Context(), w.Env)
			if code != tt.exit || w.errs.String() != tt.says {
				t.Errorf("exit %d: %s", code, &w.errs)
			}
		})
	}
}

func TestReadingAnUndeclaredFlagPanics(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "--cuont") {
			t.Errorf("panic: %s", p)
		}
	}()
	w := newWorld(t, "pub", "lobby")
	toy(func(c *Call) error { c.Int("cuont"); return nil }).Run(t.Context(), w.Env)
}

func TestDeclarationsThatCannotWorkAreRefused(t *testing.T) {
	action := Action(seen)
	for name, cmd := range map[string]*Command{
		"flag of every command": {Name: "x", Action: action, Flags: []Flag{&BoolFlag{Name: "json"}}},
		"flag twice":            {Name: "x", Action: action, Flags: []Flag{&BoolFlag{Name: "a"}, &StringFlag{Name: "b", Aliases: []string{"a"}}}},
		"flag of the parent": {Name: "x", Flags: []Flag{&BoolFlag{Name: "a"}}, Subcommands: []*Command{
			{Name: "y", Action: action, Flags: []Flag{&BoolFlag{Name: "a"}}}}},
		"command twice":      {Name: "x", Subcommands: []*Command{{Name: "y", Action: action}, {Name: "z", Aliases: []string{"y"}, Action: action}}},
		"nothing to do":      {Name: "x"},
		"arguments in prose": {Name: "x", Action: action, ArgsUsage: "a room"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if code := Run(t.Context(), w.Env, cmd); code != 1 || !strings.Contains(w.errs.String(), "check command") {
				t.Errorf("exit %d: %s", code, &w.errs)
			}
		})
	}
}

func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		usage  string
		args   string
		reason string
	}{
		{"", "", ""},
		{"", "a", `unexpected argument "a"`},
		{"ROOM", "", "missing ROOM"},
		{"ROOM HANDLE|ID", "a", "missing HANDLE|ID"},
		{"ROOM [FILE]", "a b", ""},
		{"ROOM [FILE]", "a b c", `unexpected argument "c"`},
		{"ROOM...", "", "missing ROOM"},
		{"ROOM...", "a b c", ""},
		{"[ARG...]", "", ""},
		{"ROOM -- COMMAND [ARG...]", "a", "missing COMMAND"},
		{"ROOM -- COMMAND [ARG...]", "a b c d", ""},
	} {
		shape, err := parseArgsUsage(tt.usage)
		if err != nil {
			t.Fatal(err)
		}
		have := ""
		if err := shape.check(strings.Fields(tt.args)); err != nil {
			have = err.Error()
		}
		if have != tt.reason {
			t.Errorf("%q with %q: %q, want %q", tt.usage, tt.args, have, tt.reason)
		}
	}
	for _, usage := range []string{"room", "[ROOM] FILE", "FILE... ROOM", "[ROOM", "ROOM]", "A, B"} {
		if _, err := parseArgsUsage(usage); err == nil {
			t.Errorf("%q passes", usage)
		}
	}
}

func TestNothingKeepsRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w := newWorld(t, "pub", "lobby")
	toy(seen).Run(t.Context(), w.Env)
}

// interruptible returns a context and what cancels it as Ctrl-C would.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, func() { cancel(signaled{syscall.SIGINT}) }
}
