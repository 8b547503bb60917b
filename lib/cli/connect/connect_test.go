package connect

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
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
		if _, err := id.AddKEM(rand.Reader); err != nil {
			t.Fatal(err)
		}
		if err := keeper.Save(id); err != nil {
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
	for _, tt := range []struct {
		name    string
		event   client.Event
		args    []string
		want    string
		silence bool
	}{
		{"a lie is a warning", client.Event{Kind: client.EventSecurity, Err: lie}, nil, `warning: security: older than\x1b[31m before` + "\n", false},
		{"and --quiet does not silence it", client.Event{Kind: client.EventSecurity, Err: lie}, []string{"-q"}, `warning: security: older than\x1b[31m before` + "\n", false},
		{"a lost connection is a detail", client.Event{Kind: client.EventDisconnected, Err: lie}, nil, "", true},
		{"a failed renewal is a warning", client.Event{Kind: client.EventUpkeep, Err: lie, Room: bus.RoomID{}}, nil, "warning: upkeep: ", false},
		{"a new epoch is a detail", client.Event{Kind: client.EventEpoch, Detail: "epoch 4"}, []string{"-v"}, "epoch: epoch 4\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have := call(t, tt.args, nil, func(c *cli.Call) error {
				report(c, tt.event)
				return nil
			})
			if !strings.HasPrefix(have, tt.want) || tt.silence && have != "" {
				t.Errorf("said %q, want %q", have, tt.want)
			}
		})
	}
}
