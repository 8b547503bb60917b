package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// Client is one identity's connection to a bus. It may be used from several
// goroutines at once. Connections that break are made again, to whichever node
// answers, for as long as the client is open.
type Client struct {
	config  Config
	log     *slog.Logger
	id      bus.ID
	session bus.SessionID
	limits  limits
	events  *events

	state       *state
	pins        *room.Pins
	cardPins    *identity.CardPins
	handles     stateFile[handlePins]
	accepted    stateFile[acceptedRooms]
	revokedFile stateFile[revokedKeys]

	equivocations equivocations
	refusals      refusals

	self      atomic.Pointer[identity.Identity]
	ownCard   atomic.Pointer[identity.Card]
	transport *identity.Transport
	control   *control
	book      cardBook
	signers   sync.Map // bus.ID to bus.SignPub: keys prove themselves by their id
	names     handleNames
	revoked   revocations

	nc       *nats.Conn
	link     *link
	acks     *ackMux
	inbox    string        // prefix of reply subjects
	inboxes  atomic.Uint64 // made so far
	follower *follower

	ctx    context.Context // ends with the client
	cancel context.CancelCauseFunc
	work   sync.WaitGroup
	closed context.Context // ends when nothing of the client is left
	ended  context.CancelFunc

	mu       sync.Mutex
	rooms    map[bus.RoomID]*Room
	cursors  map[*Cursor]struct{} // open
	leaving  error                // why no messages are taken any more
	closing  bool                 // nothing new is spawned
	closeErr error
}

// Dial connects to a bus. It makes sure that the servers have a valid card of
// the identity, signs in, and returns when a node has accepted the connection;
// while none can it tries again until ctx ends. Errors: [bus.CodeUsage] for the
// configuration, [bus.CodeForbidden], [bus.CodeUnauthenticated] or
// [bus.CodeRevoked] for somebody who is no active user, [bus.CodeUnavailable]
// where no node answered.
func Dial(ctx context.Context, config Config) (*Client, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := newClient(config)
	if err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		c.shutdown(err)
		return nil, fmt.Errorf("dial bus %s: %w", config.BusID.Fingerprint(), err)
	}
	return c, nil
}

// newClient makes a client that has not talked to anybody.
func newClient(config Config) (*Client, error) {
	c := &Client{
		config:    config,
		limits:    defaultLimits,
		log:       config.Logger,
		id:        config.Identity.ID(),
		transport: config.Identity.Transport(config.BusID),
		book:      cardBook{latest: map[bus.ID]fetchedCard{}},
		rooms:     map[bus.RoomID]*Room{},
		cursors:   map[*Cursor]struct{}{},
	}
	if config.ReportFailures {
		c.refusals.counts = map[bus.Code]uint32{}
	}
	c.events = newEvents(config.Logger, config.Now, config.OnEvent, c.refusals.note)
	c.self.Store(config.Identity)
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.closed, c.ended = context.WithCancel(context.Background())
	if _, err := rand.Read(c.session[:]); err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "draw session: %w", err)
	}
	// All connections of an identity may listen below its key: without the
	// session each would take the answers to the others for its own.
	c.inbox = bus.InboxPrefix(c.transport.NKey()) + "." + c.session.String()
	c.link = newLink(c)
	c.acks = newAckMux(c.inbox + ".a.")
	c.follower = newFollower(c)
	var err error
	if c.control, err = newControl(config, c.transport, c.tlsConfig()); err != nil {
		return nil, err
	}
	if c.state, err = openState(config.StateDir, config.BusID, c.id); err != nil {
		return nil, err
	}
	c.pins = room.OpenPins(c.state.path("rooms"))
	c.handles = stateFile[handlePins]{c.state.path(handlesFile)}
	c.accepted = stateFile[acceptedRooms]{c.state.path(roomsFile)}
	c.revokedFile = stateFile[revokedKeys]{c.state.path(revokedFile)}
	if c.cardPins, err = identity.OpenCardPins(c.state.dir); err == nil {
		err = errors.Join(c.loadHandles(), c.loadRevocations())
	}
	if err != nil {
		return nil, errors.Join(err, c.state.remove())
	}
	return c, nil
}

func (c *Client) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: c.config.CA, MinVersion: tls.VersionTLS13}
}

// start does what needs servers.
func (c *Client) start(ctx context.Context) error {
	if err := c.ensureCard(ctx); err != nil {
		return err
	}
	if err := c.link.connect(ctx); err != nil {
		return err
	}
	if err := c.subscribe(c.acks.prefix+"*", c.acks.receive); err != nil {
		return err
	}
	if err := c.subscribe(bus.NoticeSubject(c.id), c.hearNotice); err != nil {
		return err
	}
	c.spawn(c.watchRooms)
	if c.config.ReportFailures {
		c.spawn(c.keepReporting)
	}
	return c.flushServer(ctx, c.config.RequestTimeout)
}

func (c *Client) subscribe(subject string, handler nats.MsgHandler) error {
	sub, err := c.nc.Subscribe(subject, handler)
	if err == nil {
		// What comes here is bounded by what this client asks for.
		err = sub.SetPendingLimits(-1, -1)
	}
	if err != nil {
		return bus.Errorf(bus.CodeUnavailable, "subscribe to %s: %w", subject, err)
	}
	return nil
}

// newInbox returns a reply subject that nobody else uses.
func (c *Client) newInbox(kind string) string {
	return fmt.Sprintf("%s.%s.%d", c.inbox, kind, c.inboxes.Add(1))
}

// ID returns who the client is.
func (c *Client) ID() bus.ID { return c.id }

// SignPub returns the client's signing key, which accounts are added by.
func (c *Client) SignPub() bus.SignPub { return c.identity().SignPub() }

// Session returns the name of this run of the client in what it sends.
func (c *Client) Session() bus.SessionID { return c.session }

// Server returns the address of the node the client is connected to, "" while
// it is to none.
func (c *Client) Server() string {
	if !c.online() {
		return ""
	}
	return c.nc.ConnectedUrlRedacted()
}

// Err returns nil while the client works, and why it stopped afterwards:
// [bus.CodeClosed] after Close, [bus.CodeRevoked] or the like where the servers
// do not let it in any more.
func (c *Client) Err() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return c.closedErr()
}

// Done returns a channel that closes when the client stops working.
func (c *Client) Done() <-chan struct{} { return c.ctx.Done() }

// alive returns why nothing can be done with the client any more, if so.
func (c *Client) alive() error { return c.Err() }

// closedErr is what is left to say about work that is under way when the
// client ends.
func (c *Client) closedErr() error {
	cause := context.Cause(c.ctx)
	if cause == nil || cause == context.Canceled {
		return bus.Errorf(bus.CodeClosed, "the client was closed")
	}
	return cause
}

// fail ends the client for a reason that no retry cures.
func (c *Client) fail(reason error) {
	c.cancel(reason)
	c.events.raise(EventDenied, bus.RoomID{}, reason, "")
}

// spawn runs work in a goroutine that Close waits for. It ends with c.ctx.
func (c *Client) spawn(work func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.work.Go(work)
}

// keepCursor has Close let go of a cursor.
func (c *Client) keepCursor(cur *Cursor) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return c.closedErr()
	}
	c.cursors[cur] = struct{}{}
	return nil
}

func (c *Client) dropCursor(cur *Cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.cursors, cur)
}

// endWait is how long Close waits, after its context, for what only has to end.
const endWait = time.Second

// Close takes no more messages, waits, as long as ctx lasts, until what was
// published has its outcome, and ends the client: iterations end, connections
// close, cursors are let go, a temporary state is deleted. What has no outcome
// by then gets the one that is left. It returns the first error among outcomes
// that nobody saw (see [Room.Flush]), and what went wrong in closing;
// [bus.CodeTimeout] is that OnEvent, say, holds up the end for more than a second
// after ctx. Closing again, at the same time too, waits for the same end and is
// no error.
func (c *Client) Close(ctx context.Context) error {
	reason := bus.Errorf(bus.CodeClosed, "the client was closed")
	var errs []error
	for _, r := range c.leave(reason) {
		errs = append(errs, r.Flush(ctx))
	}
	go c.shutdown(reason)
	late := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		t := time.AfterFunc(endWait, func() { close(late) })
		context.AfterFunc(c.closed, func() { t.Stop() })
	})()
	select {
	case <-c.closed.Done():
		errs = append(errs, c.takeCloseError())
	case <-late:
		errs = append(errs, bus.Errorf(bus.CodeTimeout, "close: it takes longer: %w", ctx.Err()))
	}
	return errors.Join(errs...)
}

// leave has the rooms take nothing more and returns those that may have messages
// without an outcome.
func (c *Client) leave(reason error) []*Room {
	c.mu.Lock()
	c.leaving = reason
	rooms := slices.Collect(maps.Values(c.rooms))
	c.mu.Unlock()
	for _, r := range rooms {
		r.pub.refuse(reason)
	}
	if c.ctx.Err() != nil {
		return nil
	}
	return rooms
}

// takeCloseError returns what went wrong in closing, once.
func (c *Client) takeCloseError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.closeErr
	c.closeErr = nil
	return err
}

// shutdown ends everything and waits until it has ended.
func (c *Client) shutdown(reason error) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		<-c.closed.Done()
		return
	}
	c.closing = true
	rooms, cursors := slices.Collect(maps.Values(c.rooms)), slices.Collect(maps.Keys(c.cursors))
	c.mu.Unlock()
	c.cancel(reason)
	for _, r := range rooms {
		r.pub.close(c.closedErr())
	}
	c.work.Wait()
	var errs []error
	for _, cur := range cursors {
		errs = append(errs, cur.Close())
	}
	c.link.close()
	c.control.close()
	c.events.close()
	errs = append(errs, c.state.remove())
	c.mu.Lock()
	c.closeErr = errors.Join(errs...)
	c.mu.Unlock()
	c.ended()
}

// flushServer returns when the connected server has seen everything that was
// sent before, and every refusal that it answered has been told on.
func (c *Client) flushServer(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return bus.Errorf(bus.CodeUnavailable, "flush: %w", err)
	}
	return c.link.settleDenials(ctx)
}
