// Package connect takes a command, or any Go program, from the settings of its
// user to a connected client.
//
// Commands start with [Dial]; [Identity] and [Authorities] are for those that
// need only a part. What the client of a command has to say apart from any
// call, such as lies of servers and lost connections, goes to standard error.
//
// Other programs start with [Open], which takes a saved context and the
// UNIBUS_* variables as the tools do. It looks at no flags, asks nobody and
// prints nothing.
//
// The package keeps nothing of its own. The state of the client (pins, rooms,
// cursors) lies in [cli.Env.StateDir], where all tools of one user share it.
package connect

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// closeWait is how long closing waits for what was published.
const closeWait = 5 * time.Second

// Dial connects a command to the bus of its configuration, as the identity of
// its configuration. ctx bounds connecting, together with --timeout. The client
// is to be closed with [Close].
//
// Errors: [bus.CodeNoContext] where the settings do not say enough, those of
// [Identity] and [Authorities], and those of [client.Dial].
func Dial(ctx context.Context, c *cli.Call) (*client.Client, error) {
	return dial(ctx, c, func(said *client.Config) {
		said.OnEvent = (&reporter{call: c}).report
		if c.Verbose() {
			said.Logger = slog.New(withoutConnection{c.Logger().Handler()})
		}
	})
}

// dial connects with the settings of c, after change had its way with them.
func dial(ctx context.Context, c *cli.Call, change func(*client.Config)) (*client.Client, error) {
	cfg, err := c.Config(cli.NeedServers, cli.NeedURLs, cli.NeedBusID, cli.NeedIdentity)
	if err != nil {
		return nil, err
	}
	roots, err := Authorities(cfg)
	if err != nil {
		return nil, err
	}
	keeper := &file{call: c, path: cfg.Identity}
	id, err := keeper.Load()
	if err != nil {
		return nil, err
	}
	state, err := c.Env.StateDir()
	if err != nil {
		return nil, err
	}
	said := client.Config{
		Servers:        cfg.Servers,
		URLs:           cfg.URLs,
		CA:             roots,
		BusID:          cfg.BusID,
		Identity:       id,
		Keeper:         keeper,
		StateDir:       state,
		ReportFailures: cfg.ReportFailures,
		Now:            c.Env.Now,
		RequestTimeout: cfg.Timeout,
		ControlTimeout: cfg.Timeout,
	}
	if change != nil {
		change(&said)
	}
	dialing, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	work := c.Progress("connecting", 0)
	defer work.Close()
	return client.Dial(dialing, said)
}

// Close ends a client: what was published has a few seconds to get its outcome,
// also where the command was interrupted. The error is that of
// [client.Client.Close].
func Close(cl *client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	return cl.Close(ctx)
}

// Identity reads the identity file of the configuration and asks for its
// passphrase if it has one. Its errors are those of [identity.Load].
func Identity(c *cli.Call, cfg cli.Config) (*identity.Identity, error) {
	return (&file{call: c, path: cfg.Identity}).Load()
}

// Authorities reads the certificates that the configuration trusts: nil stands
// for those of the system. An error has [bus.CodeMalformed] if the file holds
// no certificate.
func Authorities(cfg cli.Config) (*x509.CertPool, error) {
	if cfg.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("read certificates to trust: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, bus.Errorf(bus.CodeMalformed, "read certificates to trust: there is none in %s", cfg.CA)
	}
	return pool, nil
}

// file keeps an identity in its file, which a client reads and writes again as
// time goes by.
type file struct {
	call *cli.Call
	path string
}

// Load implements [client.Keeper].
func (f *file) Load() (*identity.Identity, error) {
	return identity.Load(f.path, f.passphrase)
}

// Update implements [client.Keeper].
func (f *file) Update(ctx context.Context, change func(*identity.Identity) error) (*identity.Identity, error) {
	return identity.Update(ctx, f.path, f.passphrase, change)
}

// passphrase is asked for once a run.
func (f *file) passphrase() (string, error) { return f.call.Passphrase(f.path) }
