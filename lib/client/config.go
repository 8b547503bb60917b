package client

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

// Config says which bus to use, as whom, and how.
type Config struct {
	// Servers are the NATS addresses of the bus's nodes, tried in this order:
	// "tls://n1.example:4222". "nats://" is for loopback addresses, where TLS is
	// used if the server offers it. At least one.
	Servers []string
	// URLs are the control-plane addresses of the nodes, tried in this order:
	// "https://n1.example:8443". "http://" is for loopback addresses. At least one.
	URLs []string
	// CA are the authorities that may sign the servers' certificates; nil is the
	// system's. Where it is set TLS is required everywhere.
	CA *x509.CertPool
	// AllowPlaintext accepts "nats://" and "http://" beyond loopback, such as
	// inside a network of containers. Content stays encrypted; who talks to
	// whom, sizes and times do not.
	AllowPlaintext bool

	// BusID names the bus.
	BusID bus.BusID
	// Identity is who the client is. Required.
	Identity *identity.Identity
	// Keeper stores the identity again when a new card needs a new HPKE key.
	// Without one the client warns when its card grows old, with [EventCard],
	// and cannot renew it.
	Keeper Keeper

	// StateDir is where pins, accepted rooms and cursors are kept, below a
	// directory for each bus and identity; the tools use
	// $XDG_STATE_HOME/unibus. It is made if it is missing. Several processes may
	// share it. When it is empty the state lives in a temporary directory until
	// Close, and a server that rolls back between two runs goes unnoticed.
	StateDir string

	// ReportFailures lets the client tell the servers, every ten minutes or so,
	// how many frames and answers it refused, by the code of the failure and
	// with nothing else, so that whoever runs the bus notices a fault or an
	// attack. The report is signed like every request: the servers learn that
	// this identity refused something.
	ReportFailures bool

	// OnEvent is told what happens apart from any call: connections, denials,
	// new heads of rooms, and lies of servers or members. Calls come one after
	// the other, from one goroutine, which may use the client but not close it.
	OnEvent func(Event)
	// Logger gets the same events and what helps to find a fault; nil discards.
	Logger *slog.Logger
	// Now is the clock against which times in cards, records, frames and
	// requests are judged; nil is time.Now.
	Now func() time.Time

	// DialTimeout bounds one attempt to connect to one server; 0 is 2 s.
	DialTimeout time.Duration
	// RequestTimeout bounds one attempt of a control-plane request; 0 is 10 s.
	RequestTimeout time.Duration
	// ControlTimeout bounds a control-plane call with all its attempts on all
	// nodes, where the context ends no earlier; 0 is 30 s.
	ControlTimeout time.Duration
}

// Keeper keeps the identity outside of this package, such as in its file.
type Keeper interface {
	// Load returns the identity as it is stored now. Another process may have
	// added a key since it was last read.
	Load() (*identity.Identity, error)
	// Update changes the stored identity, durably and while nobody else does:
	// change gets it as it is stored now, and where it returns an error nothing
	// is stored. It returns what is stored then. [identity.Update] does so with a
	// file.
	Update(ctx context.Context, change func(*identity.Identity) error) (*identity.Identity, error)
}

// withDefaults checks the configuration and fills in what was left out. Its
// errors have [bus.CodeUsage].
func (c Config) withDefaults() (Config, error) {
	if c.Identity == nil {
		return c, bus.Errorf(bus.CodeUsage, "check config: no identity")
	}
	if c.BusID.IsZero() {
		return c, bus.Errorf(bus.CodeUsage, "check config: no bus id")
	}
	c.Servers, c.URLs = slices.Clone(c.Servers), slices.Clone(c.URLs)
	if err := c.checkAddresses("server", c.Servers, "tls", "nats"); err != nil {
		return c, err
	}
	if err := c.checkAddresses("control-plane URL", c.URLs, "https", "http"); err != nil {
		return c, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.DialTimeout, 2 * time.Second},
		{&c.RequestTimeout, 10 * time.Second},
		{&c.ControlTimeout, 30 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	return c, nil
}

func (c Config) checkAddresses(what string, addresses []string, secure, plain string) error {
	if len(addresses) == 0 {
		return bus.Errorf(bus.CodeUsage, "check config: no %s", what)
	}
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			return bus.Errorf(bus.CodeUsage, "check config: %s: %w", what, err)
		}
		switch {
		case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/"):
			return bus.Errorf(bus.CodeUsage, "check config: %s %q: want %s://host:port and nothing else", what, a, secure)
		case u.Scheme == secure:
		case u.Scheme != plain:
			return bus.Errorf(bus.CodeUsage, "check config: %s %q: want %s://host:port", what, a, secure)
		case c.CA != nil && plain == "http":
			return bus.Errorf(bus.CodeUsage, "check config: %s %q is not encrypted, but an authority for certificates is given", what, a)
		case !c.AllowPlaintext && !isLoopback(u.Hostname()):
			return bus.Errorf(bus.CodeUsage, "check config: %s %q: %s:// is for loopback addresses, use %s://", what, a, plain, secure)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
