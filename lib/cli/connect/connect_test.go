package connect

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call runs f as a command with these arguments and variables, and returns what
// it wrote to standard error.
func call(t *testing.T, args, environ []string, f func(c *cli.Call) error) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := &cli.Env{
		Args: append([]string{"unibus-test"}, args...), Environ: append([]string{"HOME=" + t.TempDir()}, environ...),
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now, Rand: rand.Reader,
	}
	ran := false
	cli.Run(context.Background(), env, &cli.Command{Name: "test", Usage: "test", Action: cli.Action(func(c *cli.Call) error {
		ran = true
		return f(c)
	})})
	if !ran {
		t.Fatalf("did not run: %s", &stderr)
	}
	return stderr.String()
}

func newIdentity(t *testing.T, path, passphrase string) *identity.Identity {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Create(path, passphrase); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAKeeperAsksForThePassphraseOnceAndKeepsIt(t *testing.T) {
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "alice.id"), filepath.Join(dir, "secret")
	want := newIdentity(t, path, "correct horse")
	if err := os.WriteFile(secret, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, nil, []string{"UNIBUS_PASSPHRASE_FILE=" + secret}, func(c *cli.Call) error {
		keeper := &file{call: c, path: path}
		id, err := keeper.Load()
		if err != nil {
			t.Fatal(err)
		}
		if id.ID() != want.ID() {
			t.Errorf("loaded %s, want %s", id, want)
		}
		// What was typed once is not there to be read a second time.
		if err := os.Remove(secret); err != nil {
			t.Fatal(err)
		}
		id, err = keeper.Update(t.Context(), func(id *identity.Identity) error {
			_, err := id.AddKEM(rand.Reader)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		again, err := keeper.Load()
		if err != nil {
			t.Fatal(err)
		}
		if again.LatestKEM().CardSeq != id.LatestKEM().CardSeq {
			t.Errorf("card number %d, want %d", again.LatestKEM().CardSeq, id.LatestKEM().CardSeq)
		}
		return nil
	})
	if _, err := identity.Load(path, nil); !errors.Is(err, bus.ErrPassphrase) {
		t.Errorf("the file lost its passphrase: %v", err)
	}
}

func TestAuthorities(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if pool, err := Authorities(cli.Config{}); pool != nil || err != nil {
		t.Errorf("without a file: %v, %v", pool, err)
	}
	if _, err := Authorities(cli.Config{CA: noPEM}); !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("a file without certificates: %v", err)
	}
	if _, err := Authorities(cli.Config{CA: noPEM + ".no"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestDialSaysWhatIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alice.id")
	newIdentity(t, path, "")
	id := bus.BusID{1}.String()
	for _, tt := range []struct {
		name string
		args []string
		code bus.Code
	}{
		{"everything", nil, bus.CodeNoContext},
		{"the bus", []string{"--server", "nats://127.0.0.1:1", "--url", "http://127.0.0.1:1", "--identity", path}, bus.CodeNoContext},
		{"the identity file", []string{"--server", "nats://127.0.0.1:1", "--url", "http://127.0.0.1:1", "--bus-id=" + id, "--identity", path + ".no"}, bus.CodeNotFound},
		{"a node", []string{"--server", "nats://127.0.0.1:1", "--url", "http://127.0.0.1:1", "--bus-id=" + id, "--identity", path, "--timeout", "100ms"}, bus.CodeUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			call(t, tt.args, nil, func(c *cli.Call) error {
				_, err := Dial(c.Context, c)
				if have := bus.CodeOf(err); have != tt.code {
					t.Errorf("error is %v, want code %q", err, tt.code)
				}
				return nil
			})
		})
	}
}

func TestEventsReachPeople(t *testing.T) {
	lie := bus.Errorf(bus.CodeRollback, "older than\x1b[31m before")
	gone := client.Event{Kind: client.EventDisconnected, Err: io.EOF}
	back := client.Event{Kind: client.EventConnected, Detail: "nats://n1"}
	const lost, again = "lost connection to the bus, trying again\n", "connected again\n"
	for _, tt := range []struct {
		name   string
		events []client.Event
		args   []string
		want   string
	}{
		{"a lie is a warning", []client.Event{{Kind: client.EventSecurity, Err: lie}}, nil, `warning: security: older than\x1b[31m before` + "\n"},
		{"and --quiet does not silence it", []client.Event{{Kind: client.EventSecurity, Err: lie}}, []string{"-q"}, `warning: security: older than\x1b[31m before` + "\n"},
		{"a failed renewal is a warning", []client.Event{{Kind: client.EventUpkeep, Err: io.EOF}}, nil, "warning: upkeep: EOF\n"},
		{"a new epoch is nothing to tell", []client.Event{{Kind: client.EventEpoch, Detail: "epoch 4"}}, nil, ""},
		{"the first connection is not told", []client.Event{back}, nil, ""},
		{"a connection is lost and found", []client.Event{back, gone, back}, nil, lost + again},
		{"once each time", []client.Event{back, gone, gone, back, back, gone, back}, nil, lost + again + lost + again},
		{"--quiet silences it", []client.Event{back, gone, back}, []string{"-q"}, ""},
		{"a disconnection that was asked for is not told", []client.Event{back, {Kind: client.EventDisconnected}}, nil, ""},
		{"--verbose tells the server too", []client.Event{back, gone, back}, []string{"-v"}, "connected: nats://n1\n" + lost + again},
		{"and leaves the rest to the log", []client.Event{{Kind: client.EventSecurity, Err: lie}, {Kind: client.EventEpoch, Detail: "epoch 4"}}, []string{"-v"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have := call(t, tt.args, nil, func(c *cli.Call) error {
				r := &reporter{call: c}
				for _, e := range tt.events {
					r.report(e)
				}
				return nil
			})
			if have != tt.want {
				t.Errorf("said %q, want %q", have, tt.want)
			}
		})
	}
}

func TestTheLogLeavesConnectionsToTheReporter(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(withoutConnection{slog.NewTextHandler(&out, nil)}).With("room", "r").WithGroup("g")
	log.Warn("client", "event", string(client.EventDisconnected), "code", "internal", "err", io.EOF)
	log.Info("client", "event", string(client.EventConnected))
	if out.Len() > 0 {
		t.Errorf("logged %s", &out)
	}
	log.Error("client", "event", string(client.EventSecurity))
	log.Warn("client", "connection", "lost")
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2: %s", n, &out)
	}
}
