// Package certs keeps the certificate that a node presents up to date with its
// files, while the node runs.
//
// Start with [Open] and [Keeper.Config], and run [Keeper.Watch]. Connections that
// begin after the files changed get the new certificate; those that are open go
// on. A new pair that cannot be served (half written, of two different keys,
// past its time) is left alone and said, and the old one stays.
//
// It asks nobody for certificates: that is for whatever writes the files.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// PollInterval is how often the files are looked at.
	PollInterval = 5 * time.Second

	warnBelow = 14 * 24 * time.Hour // of life left
	warnEvery = 24 * time.Hour
)

// Keeper holds a certificate. It is safe for concurrent use, except for
// [Keeper.Reload], which Watch calls.
type Keeper struct {
	cert, key string // files
	log       *slog.Logger
	now       func() time.Time

	current atomic.Pointer[tls.Certificate]
	seen    [2]fs.FileInfo // of the files when they were last read
	refused string         // why what was last read was not taken
	told    time.Time      // when the end of the certificate was last warned of
}

// Open reads the certificate chain in a PEM file and its private key in another.
// The error has [bus.CodeUsage].
func Open(cert, key string, now func() time.Time, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{cert: cert, key: key, now: now, log: log}
	k.seen = k.look()
	pair, err := k.load()
	if err != nil {
		return nil, bus.Errorf(bus.CodeUsage, "load certificate: %w", err)
	}
	k.current.Store(pair)
	k.warnOfEnd()
	return k, nil
}

// Config returns a TLS configuration that presents whatever certificate is the
// latest, by TLS 1.3 only.
func (k *Keeper) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.current.Load(), nil },
	}
}

// Leaf returns the certificate that a configuration presents to clients that
// ask for no name; nil if there is none.
func Leaf(c *tls.Config) *x509.Certificate {
	if c == nil {
		return nil
	}
	if c.GetCertificate != nil {
		cert, err := c.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil || cert == nil {
			return nil
		}
		return cert.Leaf
	}
	if len(c.Certificates) == 0 {
		return nil
	}
	return c.Certificates[0].Leaf
}

// DaysLeft returns how many whole days a certificate is good for; negative once
// it is not.
func DaysLeft(leaf *x509.Certificate, now time.Time) int {
	left := leaf.NotAfter.Sub(now)
	if left < 0 {
		left -= 24*time.Hour - 1
	}
	return int(left / (24 * time.Hour))
}

// Watch looks at the files every [PollInterval], and at once whenever again
// yields, until ctx ends.
func (k *Keeper) Watch(ctx context.Context, again <-chan struct{}) {
	tick := time.NewTicker(PollInterval)
	defer tick.Stop()
	for {
		force := false
		select {
		case <-ctx.Done():
			return
		case <-again:
			force = true
		case <-tick.C:
		}
		k.Reload(force)
		k.warnOfEnd()
	}
}

// Reload reads the files if they are not those that were read last, or in any
// case where force says so, and reports whether another certificate is
// presented from now on. A pair that cannot be served is logged and not taken.
func (k *Keeper) Reload(force bool) bool {
	found := k.look()
	// What was not taken may have been half written, and finished within the
	// grain of the clock of files.
	if !force && k.refused == "" && same(found, k.seen) {
		return false
	}
	k.seen = found
	pair, err := k.load()
	if err == nil && k.now().After(pair.Leaf.NotAfter) {
		err = fmt.Errorf("it ended on %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	old := k.current.Load().Leaf
	if err != nil {
		if !force && err.Error() == k.refused {
			return false
		}
		k.refused = err.Error()
		k.log.Warn("new certificate not taken; the old one stays", "file", k.cert, "key", k.key, "error", err,
			"days_left", DaysLeft(old, k.now()), "until", old.NotAfter.UTC())
		return false
	}
	k.refused = ""
	if old.Equal(pair.Leaf) {
		if force {
			k.log.Info("certificate read again; it is the same", "file", k.cert, "until", old.NotAfter.UTC())
		}
		return false
	}
	k.current.Store(pair)
	k.told = time.Time{}
	k.log.Info("new certificate taken", "file", k.cert, "serial", pair.Leaf.SerialNumber,
		"days_left", DaysLeft(pair.Leaf, k.now()), "until", pair.Leaf.NotAfter.UTC())
	return true
}

func (k *Keeper) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(k.cert, k.key)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, err
		}
	}
	return &pair, nil
}

// look returns what the files are now; a file that is not there is nil.
func (k *Keeper) look() (found [2]fs.FileInfo) {
	for i, name := range []string{k.cert, k.key} {
		info, err := os.Stat(name)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				k.log.Debug("certificate not looked at", "file", name, "error", err)
			}
			continue
		}
		found[i] = info
	}
	return found
}

// same reports whether nothing about the files has changed. One that has gone
// is no reason to read them: it is about to be replaced.
func same(found, seen [2]fs.FileInfo) bool {
	changed := false
	for i, now := range found {
		before := seen[i]
		if now == nil {
			return true
		}
		if before == nil || !os.SameFile(now, before) || !now.ModTime().Equal(before.ModTime()) || now.Size() != before.Size() {
			changed = true
		}
	}
	return !changed
}

// warnOfEnd tells the operator once a day of a certificate that ends soon.
func (k *Keeper) warnOfEnd() {
	leaf, now := k.current.Load().Leaf, k.now()
	if leaf.NotAfter.Sub(now) >= warnBelow || !k.told.IsZero() && now.Sub(k.told) < warnEvery {
		return
	}
	k.told = now
	k.log.Warn("the certificate ends soon; replace its files, the node takes the new ones by itself",
		"file", k.cert, "days_left", DaysLeft(leaf, now), "until", leaf.NotAfter.UTC())
}
