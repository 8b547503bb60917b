package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/daemon/access"
	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/daemon/blobs/blobdir"
	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/daemon/certs"
	"github.com/enmanuel/unibus/daemon/control"
	"github.com/enmanuel/unibus/daemon/logs"
	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/daemon/quota"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store"
	"github.com/enmanuel/unibus/lib/store/sqlite"
)

// Node is a running node. Its methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics.Metrics
	started time.Time

	store   store.Store
	audit   *audit.Log
	dir     *directory.Directory
	view    *directory.View
	quota   *quota.Quota // nil without [Config].UserBytes
	broker  *broker.Broker
	access  *access.Access
	blobs   blobs.Store
	certs   *certs.Keeper // nil without [Config].CertFile
	reload  chan struct{} // to look at the certificate again
	notes   atomic.Pointer[[]string]
	public  net.Listener
	scraped net.Listener // nil without [Config].MetricsListen
	debug   net.Listener // nil without [Config].DebugListen

	probing atomic.Bool                         // by Healthy
	durable func(context.Context) (bool, error) // asks the store whether its commits are
	seen    atomic.Pointer[measured]            // by the latest probes
	control *control.Server

	failed chan error // at most one
	undo   []func(context.Context) error
	stop   sync.Once
	result error
}

// Start brings a node up and returns when it is ready. ctx bounds the start
// only; end the node with [Node.Stop]. Errors of the configuration have
// [bus.CodeUsage], a data directory of another bus [bus.CodeWrongBus], one in
// use by another process [bus.CodeUnavailable].
func Start(ctx context.Context, cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger, reload: make(chan struct{}, 1), metrics: metrics.New(cfg.Version), started: cfg.Now(), failed: make(chan error, 1)}
	n.seen.Store(&measured{})
	n.log = slog.New(logs.Bound(n.log.Handler(), cfg.Now, n.metrics.LogSuppressed))
	if err := n.start(ctx); err != nil {
		// What was begun is undone even if ctx is why the start failed.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return nil, fmt.Errorf("start node: %w", errors.Join(err, n.Stop(cleanup)))
	}
	n.log.Info("ready", "bus", cfg.BusID, "node", cfg.Name, "version", cfg.Version,
		"control", n.URL(), "nats", n.ServerURL(), "socket", cfg.Socket)
	return n, nil
}

// start begins each part after what it stands on; Stop undoes them in reverse.
func (n *Node) start(ctx context.Context) error {
	for _, begin := range []func(context.Context) error{
		n.claimDir, n.loadCertificate, n.openStore, n.openAudit, n.openBlobs, n.bootstrap, n.bootstrapEntry, n.warnOfNoAdmin, n.follow, n.startQuota, n.startBroker, n.startLease, n.admitMembers, n.serveControl, n.watchPosture, n.serveWatchers,
	} {
		if err := begin(ctx); err != nil {
			return err
		}
	}
	return nil
}

// loadCertificate reads the certificate from its files, where it is in files.
func (n *Node) loadCertificate(context.Context) (err error) {
	if n.cfg.CertFile == "" {
		return nil
	}
	if n.certs, err = certs.Open(n.cfg.CertFile, n.cfg.KeyFile, n.cfg.Now, n.log.With("part", "tls")); err != nil {
		return err
	}
	n.cfg.TLS = n.certs.Config()
	return nil
}

// ReloadCertificate has the node look at the files of its certificate at once.
// It does not wait for that.
func (n *Node) ReloadCertificate() {
	select {
	case n.reload <- struct{}{}:
	default: // it is about to
	}
}

func (n *Node) onStop(f func(context.Context) error) { n.undo = append(n.undo, f) }

// Stop ends the node: the control plane first, then the members' connections,
// then what they stand on. It may be called more than once and returns the
// same every time.
func (n *Node) Stop(ctx context.Context) error {
	n.stop.Do(func() {
		var errs []error
		for i := len(n.undo) - 1; i >= 0; i-- {
			errs = append(errs, n.undo[i](ctx))
		}
		n.result = errors.Join(errs...)
	})
	return n.result
}

// Failed yields an error when the node can go on only as a new process: its
// disk stopped taking writes, or a listener ended. Stop is still to be called.
func (n *Node) Failed() <-chan error { return n.failed }

func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // the first failure is the one that counts
	}
}

// URL returns where clients reach the control plane.
func (n *Node) URL() string {
	scheme := "http"
	if n.cfg.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + n.public.Addr().String()
}

// ServerURL returns where clients reach the data plane.
func (n *Node) ServerURL() string { return n.broker.ClientURL() }

// SocketPath returns where the local socket is.
func (n *Node) SocketPath() string { return n.cfg.Socket }

// DataDir returns where the node keeps everything.
func (n *Node) DataDir() string { return n.cfg.DataDir }

func (n *Node) openStore(ctx context.Context) error {
	s, err := sqlite.Open(ctx, filepath.Join(n.cfg.DataDir, "unibus.db"), sqlite.Options{Now: n.cfg.Now})
	if err != nil {
		return err
	}
	n.store, n.durable = n.metrics.Store(s), s.Durable
	n.onStop(func(context.Context) error { return s.Close() })
	if err := n.claimStore(ctx); err != nil {
		return err
	}
	n.dir = directory.New(n.store, n.cfg.BusID, n.cfg.Now)
	return nil
}

// openAudit opens the audit log before anything is changed.
func (n *Node) openAudit(ctx context.Context) error {
	l, err := audit.Open(ctx, audit.Dir(n.cfg.DataDir), audit.Options{Now: n.cfg.Now})
	if err != nil {
		return err
	}
	n.audit = l
	n.onStop(func(context.Context) error { return l.Close() })
	last, head := l.Head()
	if torn := l.Recovered(); torn > 0 {
		n.log.Warn("the audit log ended in an unfinished entry, which was cut off", "bytes", torn, "entries", last)
	}
	n.log.Info("audit log opened", "entries", last, "head", head)
	return nil
}

// openBlobs opens the directory of blobs, once the store has made sure that no
// other process uses the data directory.
func (n *Node) openBlobs(context.Context) error {
	d, err := blobdir.Open(filepath.Join(n.cfg.DataDir, "blobs"), blobdir.Options{
		Limits: n.cfg.Blobs, KeepFor: n.cfg.BlobLife, Now: n.cfg.Now, Logger: n.log.With("part", "blobs"),
	})
	if err != nil {
		return err
	}
	n.blobs = d
	n.onStop(func(context.Context) error { return d.Close() })
	return nil
}

// busKey is where a store says which bus it belongs to.
const busKey = "bus"

// claimStore makes sure that the store belongs to this bus: the id is written
// once and never changes.
func (n *Node) claimStore(ctx context.Context) error {
	_, err := n.store.Create(ctx, store.Control, busKey, n.cfg.BusID[:], 0)
	if err == nil || !errors.Is(err, bus.ErrExists) {
		return err
	}
	entry, err := n.store.Get(ctx, store.Control, busKey)
	if err != nil {
		return err
	}
	if string(entry.Value) != string(n.cfg.BusID[:]) {
		return bus.Errorf(bus.CodeWrongBus, "open store: %s belongs to another bus than %s", n.cfg.DataDir, n.cfg.BusID)
	}
	return nil
}

func (n *Node) bootstrap(ctx context.Context) error {
	admin := n.cfg.BootstrapAdmin
	if admin == nil {
		return nil
	}
	users, err := n.dir.Users(ctx)
	if err != nil {
		return fmt.Errorf("bootstrap admin: %w", err)
	}
	if slices.ContainsFunc(users, func(u directory.User) bool { return u.Role == bus.UserAdmin }) {
		return nil
	}
	var created bool
	change := audit.Local(audit.ViaStart, http.MethodPost, api.UsersPath(), string(admin.Handle)+" "+admin.SignPub.String())
	err = n.audit.Do(change, func() uint64 { return uint64(n.dir.Wrote()) }, func() (err error) {
		created, err = n.dir.BootstrapAdmin(ctx, admin.SignPub, admin.Handle)
		return err
	})
	if err != nil {
		return fmt.Errorf("bootstrap admin: %w", err)
	}
	if created {
		n.log.Info("first admin added", "handle", admin.Handle, "sign_pub", admin.SignPub)
	}
	return nil
}

// bootstrapEntry stores the directory entry of the configuration where its
// handle has none. One that is of no use, or has grown old, ends nothing.
func (n *Node) bootstrapEntry(ctx context.Context) error {
	raw := n.cfg.BootstrapEntry
	if len(raw) == 0 {
		return nil
	}
	entry, err := identity.ParseEntry(raw, n.cfg.BusID)
	if err != nil {
		return fmt.Errorf("bootstrap entry: %w", err)
	}
	named, err := n.dir.Lookup(ctx, entry.Handle)
	if errors.Is(err, bus.ErrNotFound) || err == nil && (named.Entry != nil || named.User.ID != entry.ID) {
		return nil
	}
	if err == nil {
		err = entry.CheckTime(n.cfg.Now())
		if err != nil {
			n.log.Warn("the entry of the first admin is not stored", "handle", entry.Handle, "error", err)
			return nil
		}
		change := audit.Local(audit.ViaStart, http.MethodPut, api.HandlePath(entry.Handle), entry.ID.String())
		err = n.audit.Do(change, func() uint64 { return uint64(n.dir.Wrote()) }, func() error {
			return n.dir.PutEntry(ctx, entry.Handle, raw)
		})
	}
	if err != nil {
		return fmt.Errorf("bootstrap entry: %w", err)
	}
	return nil
}

func (n *Node) follow(ctx context.Context) error {
	view, err := n.dir.Follow(ctx)
	if err != nil {
		return err
	}
	n.view = view
	n.onStop(func(context.Context) error { view.Close(); return nil })
	return nil
}

// startQuota is to count what rooms store, where that is limited.
func (n *Node) startQuota(context.Context) error {
	if n.cfg.UserBytes == 0 {
		return nil
	}
	n.quota = quota.New(quota.Config{Limit: n.cfg.UserBytes, View: n.view, Logger: n.log.With("part", "quota")})
	n.onStop(func(context.Context) error { n.quota.Close(); return nil })
	return nil
}

func (n *Node) startBroker(ctx context.Context) error {
	var ledger broker.Ledger
	if n.quota != nil {
		ledger = n.quota
	}
	b, err := broker.Start(ctx, broker.Config{
		Ledger:        ledger,
		Name:          n.cfg.Name,
		StoreDir:      filepath.Join(n.cfg.DataDir, "jetstream"),
		Listen:        n.cfg.NATSListen,
		TLS:           n.cfg.TLS,
		MaxShardBytes: n.cfg.MaxShardBytes,
		Logger:        n.log.With("part", "nats"),
		Metrics:       n.metrics,
	})
	if err != nil {
		return err
	}
	n.broker = b
	n.onStop(b.Shutdown)
	return nil
}

// startLease renews for the first time before anybody is let in, and goes on in
// the background, with what else a node does by itself.
func (n *Node) startLease(ctx context.Context) error {
	if err := n.dir.RenewLease(ctx, n.cfg.Name); err != nil {
		return err
	}
	if err := n.view.CatchUp(ctx); err != nil {
		return err
	}
	if err := n.Ready(); err != nil {
		return err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { n.keepLease(background) })
	running.Go(func() { n.keepHouse(background) })
	running.Go(func() { n.watchFill(background) })
	if n.certs != nil {
		running.Go(func() { n.certs.Watch(background, n.reload) })
	}
	running.Go(func() {
		select {
		case err := <-n.broker.Failed():
			n.fail(err)
		case <-background.Done():
		}
	})
	n.onStop(func(context.Context) error { cancel(); running.Wait(); return nil })
	return nil
}

func (n *Node) admitMembers(context.Context) error {
	a, err := access.New(access.Config{View: n.view, Broker: n.broker, Ready: n.Ready, Now: n.cfg.Now, Logger: n.log.With("part", "access"), Metrics: n.metrics})
	if err != nil {
		return err
	}
	n.access = a
	n.onStop(func(context.Context) error { a.Close(); return nil })
	return n.broker.Open(a)
}
