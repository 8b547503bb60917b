package broker

import (
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// maxHeaders is what NATS headers may add to a frame. A publish carries
	// its Nats-Msg-Id and little else.
	maxHeaders = 1 << 10
	// MaxPayload is the largest message of a member, headers and frame, in bytes.
	MaxPayload = bus.MaxFrameSize + maxHeaders
	// maxOwnPayload is the largest message of the daemon itself: a key-value
	// store on JetStream has values larger than frames.
	maxOwnPayload = 1 << 20

	// A connection that cannot take what was queued for it within
	// writeDeadline, or lets maxPending bytes pile up, is cut: it reads again
	// from its cursor.
	writeDeadline = 10 * time.Second
	maxPending    = 64 << 20

	authTimeout  = 10 * time.Second // from the first byte, the TLS handshake included
	pingInterval = 20 * time.Second
	maxSubs      = 16 << 10 // a connection: a live room costs its reader one

	// Streams have limits of their own, so JetStream's are out of the way. The
	// library would otherwise take three quarters of what is free at each
	// start, and refuse its own streams once they filled the disk.
	maxStoreBytes  = 1 << 60
	maxMemoryBytes = 1 << 40
)

// serverOptions translates the configuration. The server itself does not
// listen: members come in through the gate.
func serverOptions(cfg Config, door *door) (*server.Options, error) {
	opts := &server.Options{
		ServerName: cfg.Name,
		DontListen: true,

		JetStream:              true,
		StoreDir:               cfg.StoreDir,
		SyncAlways:             true,
		JetStreamMaxStore:      maxStoreBytes,
		JetStreamMaxMemory:     maxMemoryBytes,
		DisableJetStreamBanner: true,

		CustomClientAuthentication: door,
		AlwaysEnableNonce:          true,
		AuthTimeout:                authTimeout.Seconds(),

		MaxPayload:    maxOwnPayload,
		MaxPending:    maxPending,
		MaxSubs:       maxSubs,
		WriteDeadline: writeDeadline,
		PingInterval:  pingInterval,

		NoSigs: true,
		NoLog:  true, // what it has to say goes to the logger of the daemon
	}
	if err := opts.ProcessConfigString(accountsConfig()); err != nil {
		return nil, fmt.Errorf("configure accounts: %w", err)
	}
	return opts, nil
}

// prepareDir makes the store directory for the daemon's user alone.
func prepareDir(dir string) error {
	if dir == "" {
		return bus.Errorf(bus.CodeUsage, "prepare message store: no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("prepare message store: %w", err)
	}
	// MkdirAll leaves an existing directory as it is.
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("prepare message store: %w", err)
	}
	return nil
}
