package connect

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// home gives this process an empty home and no variable of the developer's.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, name := range []string{
		"XDG_CONFIG_HOME", "XDG_STATE_HOME", "UNIBUS_CONTEXT", "UNIBUS_SERVER", "UNIBUS_URL", "UNIBUS_CA", "UNIBUS_BUS_ID",
		"UNIBUS_IDENTITY", "UNIBUS_TIMEOUT", "UNIBUS_PASSPHRASE_FILE",
	} {
		t.Setenv(name, "")
	}
	return dir
}

func saveContext(t *testing.T, name string, saved cli.SavedContext) *cli.Contexts {
	t.Helper()
	contexts, err := cli.System().Contexts()
	if err != nil {
		t.Fatal(err)
	}
	if err := contexts.Create(name, saved); err != nil {
		t.Fatal(err)
	}
	return contexts
}

// startBus starts a bus of one node and returns the context of its admin, whose
// identity lies in path.
func startBus(t *testing.T, path, passphrase string) (cli.SavedContext, *identity.Identity) {
	t.Helper()
	admin := newIdentity(t, path, passphrase)
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), node.Config{
		BusID: root.BusID(), DataDir: t.TempDir(), Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: admin.SignPub()},
		Logger:         slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return cli.SavedContext{Servers: []string{n.ServerURL()}, URLs: []string{n.URL()}, BusID: root.BusID(), Identity: path}, admin
}

// open opens a context, uses it, and returns the configuration it was opened with.
func open(t *testing.T, name string) client.Config {
	t.Helper()
	var said client.Config
	c, err := Open(t.Context(), name, func(cfg *client.Config) { said = *cfg })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateRoom(t.Context(), bus.RoomName("room."+rand.Text()[:8]), client.RoomOptions{}); err != nil {
		t.Error(err)
	}
	if err := Close(c); err != nil {
		t.Error(err)
	}
	return said
}

func TestOpenConnectsWithTheContext(t *testing.T) {
	dir := home(t)
	good, admin := startBus(t, filepath.Join(dir, "admin.id"), "")
	saveContext(t, "good", good)
	lost := good
	lost.Servers, lost.URLs = []string{"nats://127.0.0.1:1"}, []string{"http://127.0.0.1:1"}
	contexts := saveContext(t, "lost", lost)
	for _, tt := range []struct {
		name, open, selected string
		environ              map[string]string
	}{
		{"that is named", "good", "lost", map[string]string{"UNIBUS_CONTEXT": "lost"}},
		{"that is selected", "", "good", nil},
		{"that the variable names", "", "lost", map[string]string{"UNIBUS_CONTEXT": "good"}},
		{"changed by variables", "lost", "lost", map[string]string{"UNIBUS_SERVER": good.Servers[0], "UNIBUS_URL": good.URLs[0]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.environ {
				t.Setenv(name, value)
			}
			if err := contexts.Select(tt.selected); err != nil {
				t.Fatal(err)
			}
			said := open(t, tt.open)
			if want := filepath.Join(dir, ".local", "state", "unibus"); said.StateDir != want {
				t.Errorf("state is in %s, want %s", said.StateDir, want)
			}
			kept, err := said.Keeper.Load()
			if err != nil {
				t.Fatal(err)
			}
			if kept.ID() != admin.ID() {
				t.Errorf("keeps %s, want %s", kept, admin)
			}
		})
	}
}

func TestOpenTakesThePassphraseFromItsFileOnly(t *testing.T) {
	dir := home(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	saved, _ := startBus(t, filepath.Join(dir, "admin.id"), "correct horse")
	saveContext(t, "locked", saved)
	t.Setenv("UNIBUS_PASSPHRASE_FILE", secret)
	// Commands would obey these; a program must not be disturbed by them.
	t.Setenv("UNIBUS_PASSPHRASE_FD", "0")
	t.Setenv("UNIBUS_JSON", "neither yes nor no")
	open(t, "locked")
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	dir := home(t)
	plain, locked := filepath.Join(dir, "plain.id"), filepath.Join(dir, "locked.id")
	newIdentity(t, plain, "")
	newIdentity(t, locked, "correct horse")
	saved := cli.SavedContext{Servers: []string{"nats://127.0.0.1:1"}, URLs: []string{"http://127.0.0.1:1"}, BusID: bus.BusID{1}}
	saveContext(t, "nobody", saved)
	saved.Identity = locked
	saveContext(t, "locked", saved)
	saved.Identity = plain
	saveContext(t, "open", saved)
	for _, tt := range []struct {
		name, context, timeout string
		code                   bus.Code
	}{
		{"a context", "", "", bus.CodeNoContext},
		{"the context of that name", "other", "", bus.CodeNotFound},
		{"a name", "../open", "", bus.CodeUsage},
		{"a time", "open", "soon", bus.CodeUsage},
		{"the identity", "nobody", "", bus.CodeNoContext},
		{"the passphrase", "locked", "", bus.CodePassphrase},
		{"a node", "open", "100ms", bus.CodeUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("UNIBUS_TIMEOUT", tt.timeout)
			_, err := Open(t.Context(), tt.context, nil)
			if have := bus.CodeOf(err); have != tt.code {
				t.Errorf("error is %v, want code %q", err, tt.code)
			}
		})
	}
}

func TestOpenLetsTheProgramChangeTheConfiguration(t *testing.T) {
	dir := home(t)
	path := filepath.Join(dir, "alice.id")
	newIdentity(t, path, "")
	saveContext(t, "open", cli.SavedContext{
		Servers: []string{"nats://127.0.0.1:1"}, URLs: []string{"http://127.0.0.1:1"}, BusID: bus.BusID{1}, Identity: path,
	})
	_, err := Open(t.Context(), "open", func(cfg *client.Config) { cfg.Identity = nil })
	if err == nil || errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("dialed as nobody: %v", err)
	}
}
