package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/room"
)

// View is what access needs to know, from memory; [directory.View] has it.
type View interface {
	UserByTransport(bus.TransportPub) (directory.User, bool)
	UserByID(bus.ID) (directory.User, bool)
	Card(bus.ID) (directory.CardRef, bool)
	Room(bus.RoomID) (*room.Record, bool)
	RoomsOf(bus.ID) []directory.Membership
	OnChange(func(directory.Change)) (stop func())
	// CatchUp waits until the changes of all that shows were told.
	CatchUp(context.Context) error
}

// Config says what access stands on.
type Config struct {
	View   View
	Broker *broker.Broker
	// Ready returns why new sessions are to be denied, or nil. It is asked for
	// every one of them.
	Ready func() error
	// Now is the clock that cards are checked against; nil is [time.Now].
	Now func() time.Time
	// CheckInterval is how often connections are looked at for what no change
	// announces: that they are gone, or their card expired. 0 is 15 seconds.
	CheckInterval time.Duration
	// Logger takes denials and cuts; nil is [slog.Default].
	Logger *slog.Logger
	// Metrics counts them; nil is to count for nobody.
	Metrics *metrics.Metrics
}

// Access admits members' connections and keeps their rights as the view has
// them. Its methods are safe for concurrent use.
type Access struct {
	view    View
	broker  *broker.Broker
	ready   func() error
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics.Metrics

	account *server.Account
	store   *nats.Conn          // in the streams' account
	streams jetstream.JetStream // over store
	notices *nats.Conn          // in the members' account

	stopChanges func()
	stop        context.CancelFunc
	running     sync.WaitGroup
	changes     *queue

	mu    sync.Mutex
	conns map[bus.ID]map[uint64]*conn // by NATS client id

	readersMu sync.Mutex
	readers   map[bus.ID]*reader
}

// conn is an admitted connection. Its fields but rights never change.
type conn struct {
	client    server.ClientAuthentication
	cid       uint64
	id        bus.ID
	session   bus.SessionID
	transport bus.TransportPub
	remote    string
	rights    rights
}

// New returns an Access that follows the view until [Access.Close]. The broker
// is still to be opened with it.
func New(cfg Config) (*Access, error) {
	if cfg.View == nil || cfg.Broker == nil || cfg.Ready == nil {
		return nil, bus.Errorf(bus.CodeUsage, "start access: view, broker and ready must all be there")
	}
	a := &Access{
		view:    cfg.View,
		broker:  cfg.Broker,
		ready:   cfg.Ready,
		now:     cfg.Now,
		log:     cmp.Or(cfg.Logger, slog.Default()),
		metrics: cfg.Metrics,
		account: cfg.Broker.Members(),
		changes: newQueue(),
		conns:   make(map[bus.ID]map[uint64]*conn),
		readers: make(map[bus.ID]*reader),
	}
	if a.metrics == nil {
		a.metrics = metrics.New("")
	}
	if a.now == nil {
		a.now = time.Now
	}
	if err := a.connect(); err != nil {
		a.disconnect()
		return nil, fmt.Errorf("start access: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.running.Go(func() { a.followChanges(ctx) })
	a.running.Go(func() { a.tidy(ctx, cmp.Or(cfg.CheckInterval, 15*time.Second)) })
	a.stopChanges = a.view.OnChange(a.changes.put)
	return a, nil
}

func (a *Access) connect() error {
	var errs [3]error
	a.store, errs[0] = a.broker.Conn(broker.AccountStore)
	a.notices, errs[1] = a.broker.Conn(broker.AccountBus)
	if a.store != nil {
		a.streams, errs[2] = jetstream.New(a.store)
	}
	return errors.Join(errs[:]...)
}

func (a *Access) disconnect() {
	for _, nc := range []*nats.Conn{a.store, a.notices} {
		if nc != nil {
			nc.Close()
		}
	}
}

// Close ends following the view. New connections are denied from then on; open
// ones stay until the broker ends.
func (a *Access) Close() {
	a.stopChanges()
	a.stop()
	a.running.Wait()
	a.mu.Lock()
	a.conns = nil
	a.mu.Unlock()
	a.disconnect()
}
