package node

import (
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/daemon/control"
	"github.com/enmanuel/unibus/lib/bus"
)

// Default listen addresses. Without a certificate a node listens on loopback
// only.
const (
	DefaultControlListen = "127.0.0.1:4280"
	DefaultNATSListen    = "127.0.0.1:4222"
)

// Config says what a node is and where it keeps what it knows. The zero value
// of a field that is not marked required means the default named.
type Config struct {
	// BusID is the bus this node serves. Required; it never changes over the
	// life of a data directory.
	BusID bus.BusID
	// DataDir holds everything the node keeps. Required; it is made if missing,
	// closed to other users.
	DataDir string
	// Name names the node: letters, digits, '_' and '-'. Default: the name that
	// the data directory has, at the first start the host's. It never changes
	// over the life of a data directory.
	Name string

	ControlListen string // "host:port" of the control plane; port 0 takes a free one
	NATSListen    string // "host:port" of the data plane; port 0 takes a free one
	Socket        string // path of the local socket; default control.sock in DataDir

	// TLS is what both planes present to clients. Without it they listen on
	// loopback only.
	TLS *tls.Config
	// CertFile and KeyFile are where the certificate is kept (PEM), in place of
	// TLS. What replaces them is taken while the node runs, and at once by
	// [Node.ReloadCertificate].
	CertFile, KeyFile string

	// MetricsListen is the "host:port" where everybody who reaches it may read
	// metrics, in the clear; "" is nowhere. The local socket serves them always.
	MetricsListen string
	// DebugListen is the loopback "host:port" of profiles (net/http/pprof); "" is
	// nowhere. Profiles show what the process holds in memory.
	DebugListen string

	// BootstrapAdmin becomes the first admin if, and only if, there is none.
	BootstrapAdmin *Admin
	// BootstrapEntry is a directory entry, signed by the bus root, that is stored
	// if its handle has none: with it the first admin is vouched for from the start.
	BootstrapEntry []byte

	// MaxShardBytes bounds each of the [bus.Shards] streams; beyond it, messages
	// are refused. 0 leaves it to the disk.
	MaxShardBytes int64

	// UserBytes bounds what the persisted rooms of an owner store; beyond it,
	// messages to them are refused. See package quota. 0 is no limit.
	UserBytes int64

	// Blobs bounds the blobs that the node keeps; BlobLife is how long it keeps
	// one, 0 is until somebody removes it.
	Blobs    blobs.Limits
	BlobLife time.Duration

	// Limits bounds what one address and one identity may ask of the control
	// plane. Where that listens on loopback only, addresses are not told apart.
	Limits control.Limits

	Version string           // for health; default "devel"
	Logger  *slog.Logger     // default [slog.Default]
	Now     func() time.Time // default [time.Now]

	nameGiven bool // Name was not left to the host's
}

// Admin names the first admin of a bus.
type Admin struct {
	Handle  bus.Handle
	SignPub bus.SignPub
}

// ParseAdmin reads "handle:signpub" or, for the handle "admin", "signpub"
// alone.
func ParseAdmin(s string) (Admin, error) {
	name, key, found := strings.Cut(s, ":")
	if !found {
		name, key = "admin", s
	}
	handle, err := bus.ParseHandle(name)
	if err != nil {
		return Admin{}, err
	}
	pub, err := bus.ParseSignPub(key)
	return Admin{handle, pub}, err
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// DefaultName returns the name of a node that was given none: the host's, with
// dashes for dots. An error has [bus.CodeUsage].
func DefaultName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", bus.Errorf(bus.CodeUsage, "configure node: it has no name and the host's cannot be read: %w", err)
	}
	return strings.ReplaceAll(host, ".", "-"), nil
}

// DefaultSocket returns where the local socket of a node with this data
// directory is unless it is told otherwise.
func DefaultSocket(dataDir string) string { return filepath.Join(dataDir, "control.sock") }

// withDefaults fills in what was left out and checks the rest.
func (c Config) withDefaults() (Config, error) {
	if c.BusID.IsZero() {
		return c, bus.Errorf(bus.CodeUsage, "configure node: the bus id is missing")
	}
	if c.DataDir == "" {
		return c, bus.Errorf(bus.CodeUsage, "configure node: the data directory is missing")
	}
	c.nameGiven = c.Name != ""
	if c.Name == "" {
		var err error
		if c.Name, err = DefaultName(); err != nil {
			return c, err
		}
	}
	if !namePattern.MatchString(c.Name) {
		return c, bus.Errorf(bus.CodeUsage, "configure node: name %.80q: want 1 to 64 letters, digits, '_' and '-'", c.Name)
	}
	if c.ControlListen == "" {
		c.ControlListen = DefaultControlListen
	}
	if c.NATSListen == "" {
		c.NATSListen = DefaultNATSListen
	}
	loopback, err := onLoopbackOnly(c.ControlListen, c.NATSListen)
	if err != nil {
		return c, err
	}
	if (c.CertFile == "") != (c.KeyFile == "") || c.CertFile != "" && c.TLS != nil {
		return c, bus.Errorf(bus.CodeUsage, "configure node: a certificate takes its file and that of its key, and nothing else")
	}
	if !loopback && c.TLS == nil && c.CertFile == "" {
		return c, bus.Errorf(bus.CodeUsage, "configure node: %s or %s is beyond loopback and there is no certificate", c.ControlListen, c.NATSListen)
	}
	if err := c.checkWatchers(); err != nil {
		return c, err
	}
	if c.Socket == "" {
		c.Socket = DefaultSocket(c.DataDir)
	}
	if c.MaxShardBytes < 0 {
		return c, bus.Errorf(bus.CodeUsage, "configure node: %d bytes a shard", c.MaxShardBytes)
	}
	if c.UserBytes < 0 {
		return c, bus.Errorf(bus.CodeUsage, "configure node: %d bytes a user", c.UserBytes)
	}
	if c.BlobLife < 0 {
		return c, bus.Errorf(bus.CodeUsage, "configure node: blobs are kept for %s", c.BlobLife)
	}
	if c.Version == "" {
		c.Version = "devel"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// checkWatchers refuses addresses for metrics and profiles that would show them
// to more people than was said.
func (c Config) checkWatchers() error {
	if c.MetricsListen != "" {
		host, _, err := net.SplitHostPort(c.MetricsListen)
		if err != nil {
			return bus.Errorf(bus.CodeUsage, "read metrics listen address %q: %w", c.MetricsListen, err)
		}
		if host == "" {
			return bus.Errorf(bus.CodeUsage, "configure node: metrics at %q are for everybody who reaches this machine: name the address, 127.0.0.1%[1]s or, if you mean it, 0.0.0.0%[1]s", c.MetricsListen)
		}
	}
	if c.DebugListen == "" {
		return nil
	}
	switch local, err := onLoopbackOnly(c.DebugListen); {
	case err != nil:
		return err
	case !local:
		return bus.Errorf(bus.CodeUsage, "configure node: profiles at %s would show memory to others: they are served on loopback only", c.DebugListen)
	}
	return nil
}

// onLoopbackOnly reports whether listen addresses can be reached from this
// machine only. A name is judged by what it says, not by what it resolves to
// today.
func onLoopbackOnly(listens ...string) (bool, error) {
	for _, listen := range listens {
		host, _, err := net.SplitHostPort(listen)
		if err != nil {
			return false, bus.Errorf(bus.CodeUsage, "read listen address %q: %w", listen, err)
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false, nil
		}
	}
	return true, nil
}
