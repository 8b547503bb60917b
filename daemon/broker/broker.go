package broker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/daemon/lobby"
	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
)

// Config says how the message server runs.
type Config struct {
	// Name is the server's name. It must never change over the life of a node.
	Name string
	// StoreDir holds the streams. It is made if missing and closed to others.
	StoreDir string
	// Listen is the "host:port" for members; port 0 takes a free one.
	Listen string
	// TLS secures the members' connections; nil leaves them in the clear.
	TLS *tls.Config
	// MaxShardBytes bounds each of the [bus.Shards] streams; a publish beyond
	// it is refused. 0 leaves it to the disk.
	MaxShardBytes int64
	// Ledger counts what rooms store and refuses what is too much; nil is to let
	// every room store what fits its shard.
	Ledger Ledger
	// CheckInterval is how often the server is asked whether it still can
	// store; 0 is a second.
	CheckInterval time.Duration
	// Logger takes what the server logs; nil is [slog.Default].
	Logger *slog.Logger
	// Metrics counts connections and frames; nil is to count for nobody.
	Metrics *metrics.Metrics
}

// Broker is a running message server. Its methods are safe for concurrent use.
type Broker struct {
	log     *slog.Logger
	metrics *metrics.Metrics
	srv     *server.Server
	door    *door
	failed  chan error
	own     addresses // of probes
	ledger  Ledger    // nil without limits of rooms
	tally   *tally    // nil without ledger

	listen string
	tls    *tls.Config

	stopWatch context.CancelFunc
	watching  sync.WaitGroup

	mu    sync.Mutex
	conns map[*nats.Conn]Account // the daemon's own
	gate  *gate                  // nil before Open
	info  serverInfo
	down  bool
}

// Start runs the server and returns when JetStream serves and every stream is
// there. Members cannot connect before [Broker.Open]. ctx bounds the start
// only; end the server with [Broker.Shutdown].
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Name == "" {
		return nil, bus.Errorf(bus.CodeUsage, "start message server: it has no name")
	}
	if err := prepareDir(cfg.StoreDir); err != nil {
		return nil, err
	}
	b := &Broker{
		log:     cmp.Or(cfg.Logger, slog.Default()),
		door:    newDoor(),
		metrics: cfg.Metrics,
		ledger:  cfg.Ledger,
		failed:  make(chan error, 1),
		listen:  cfg.Listen,
		tls:     cfg.TLS,
		conns:   make(map[*nats.Conn]Account),
	}
	if b.metrics == nil {
		b.metrics = metrics.New("")
	}
	opts, err := serverOptions(cfg, b.door)
	if err != nil {
		return nil, err
	}
	if b.srv, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("start message server: %w", err)
	}
	b.srv.SetLoggerV2(serverLog{log: b.log, metrics: b.metrics, own: &b.own, fatal: b.fail}, b.log.Enabled(ctx, slog.LevelDebug), false, false)
	for _, name := range []Account{AccountStore, AccountBus} {
		if b.door.accounts[name], err = b.srv.LookupAccount(string(name)); err != nil {
			return nil, fmt.Errorf("start message server: find account %s: %w", name, err)
		}
	}
	b.srv.Start()
	if err := b.begin(ctx, cfg); err != nil {
		b.stopServer()
		return nil, fmt.Errorf("start message server: %w", err)
	}
	return b, nil
}

// begin waits for JetStream, makes the streams and starts to watch.
func (b *Broker) begin(ctx context.Context, cfg Config) error {
	if !b.srv.JetStreamEnabled() {
		// The reason went to the log and, by way of Fatalf, into the channel.
		select {
		case err := <-b.failed:
			return err
		default:
			return errors.New("jetstream does not run")
		}
	}
	nc, err := b.Conn(AccountStore)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := ensureStreams(ctx, js, cfg.MaxShardBytes); err != nil {
		return err
	}
	watch, stop := context.WithCancel(context.Background())
	b.stopWatch = stop
	if b.ledger != nil {
		if err := b.startTally(watch, b.ledger); err != nil {
			return err
		}
	}
	b.watching.Go(func() { b.watch(watch, cmp.Or(cfg.CheckInterval, time.Second)) })
	return nil
}

// Open begins to accept the connections of members, each of which the
// authenticator admits or denies. It finds the member's address in the user
// name of the connection's options. Open is called once.
func (b *Broker) Open(members server.Authentication) error {
	if err := b.door.open(members); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", b.listen)
	if err != nil {
		return fmt.Errorf("open message server: %w", err)
	}
	g := &gate{
		log:      b.log,
		metrics:  b.metrics,
		tls:      b.tls,
		mark:     b.door.mark,
		dial:     b.srv.InProcessConn,
		listener: listener,
		conns:    make(map[net.Conn]struct{}),
		guests:   make(map[string]*lobby.Guest),
	}
	g.lobby = lobby.New(0, 0, g.evicted)
	if b.ledger != nil {
		answers, err := b.Conn(AccountBus)
		if err != nil {
			return errors.Join(fmt.Errorf("open message server: %w", err), listener.Close())
		}
		g.ledger, g.answers = b.ledger, answers
	}
	known := g.known
	b.door.known.Store(&known)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		listener.Close()
		return bus.Errorf(bus.CodeClosed, "open message server: it is shut down")
	}
	b.gate = g
	g.serve()
	if b.info, err = readServerInfo(DialAddress(listener.Addr())); err != nil {
		return fmt.Errorf("open message server: %w", err)
	}
	return nil
}

// Conn opens a connection of the daemon itself, with every right in its
// account. It stays inside the process, reconnects by itself and is closed by
// whoever asked for it or by [Broker.Shutdown].
func (b *Broker) Conn(account Account) (*nats.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return nil, bus.Errorf(bus.CodeClosed, "connect to message server: it is shut down")
	}
	nc, err := nats.Connect("",
		nats.InProcessServer(b.srv),
		nats.UserInfo(string(account), b.door.token),
		nats.Name(ownUser),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond),
		nats.ClosedHandler(b.forget),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Error("daemon's own connection reports an error", "account", account, "error", err)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to message server: %w", err)
	}
	b.conns[nc] = account
	return nc, nil
}

func (b *Broker) forget(nc *nats.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, nc)
}

// Members returns the account that an authenticator registers members with.
func (b *Broker) Members() *server.Account { return b.door.accounts[AccountBus] }

// Kick cuts a connection by its NATS client id. One that is gone is no error.
func (b *Broker) Kick(client uint64) {
	// The only error is that there is no such connection.
	_ = b.srv.DisconnectClientByID(client)
}

// Alive reports whether a connection, by its NATS client id, is still there.
func (b *Broker) Alive(client uint64) bool { return b.srv.GetClient(client) != nil }

// Subscribes reports whether a connection, by its NATS client id, has a
// subscription that overlaps any of the subjects.
func (b *Broker) Subscribes(client uint64, subjects []string) bool {
	if len(subjects) == 0 {
		return false
	}
	z, err := b.srv.Connz(&server.ConnzOptions{CID: client, Subscriptions: true})
	if err != nil {
		return true // to be on the safe side; a connection that is gone is no error
	}
	for _, conn := range z.Conns {
		for _, sub := range conn.Subs {
			if slices.ContainsFunc(subjects, func(s string) bool { return server.SubjectsCollide(sub, s) }) {
				return true
			}
		}
	}
	return false
}

// Failed yields an error when the server can no longer store messages or ended
// by itself: JetStream turned itself off, or a stream met a write error. What
// was acknowledged is safe, and only a new process can go on. At most one
// error is ever sent.
func (b *Broker) Failed() <-chan error { return b.failed }

func (b *Broker) fail(err error) {
	select {
	case b.failed <- err:
	default:
	}
}

// Shutdown ends the server: the daemon's and the members' connections are
// closed and the streams written out. It returns ctx's error if that takes
// longer than ctx lasts, and goes on behind.
func (b *Broker) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.stopServer()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shut down message server: %w", context.Cause(ctx))
	}
}

func (b *Broker) stopServer() {
	if b.stopWatch != nil {
		b.stopWatch()
	}
	b.watching.Wait()
	b.mu.Lock()
	b.down = true
	conns, gate := slices.Collect(maps.Keys(b.conns)), b.gate
	b.mu.Unlock()
	for _, nc := range conns {
		nc.Close()
	}
	if gate != nil {
		gate.listener.Close()
	}
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
	if gate != nil {
		gate.close()
	}
}
