package control

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"sync"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
)

// Bounds of one request and one connection.
const (
	requestTimeout    = 15 * time.Second // a handler, body and reply aside
	settleTimeout     = 5 * time.Second  // of that, waiting until a change shows
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

// Cursors makes the consumers a session reads persisted rooms through.
type Cursors interface {
	// Cursors does so for the session of an active user. It checks the request
	// against the rooms that the identity is a member of.
	Cursors(ctx context.Context, id bus.ID, req api.CursorRequest) (api.CursorReply, error)
}

// Config is what a control plane stands on. Directory, View, Cursors, Audit, Ready
// and Health are required.
type Config struct {
	Directory *directory.Directory
	View      *directory.View
	Cursors   Cursors
	// Audit is written to before anything changes, or it does not change.
	Audit *audit.Log

	// Blobs keeps blobs; nil is a node that keeps none.
	Blobs blobs.Store

	// Ready returns why the node may not serve now, or nil. Everybody may read
	// its text.
	Ready func() error
	// Notes returns what needs attention although the node may serve, for
	// everybody to read. nil is to have none.
	Notes func() []string
	// Health measures the node.
	Health func(context.Context) api.Health

	// Settle waits until whatever acts by the view's changes has done so with
	// all that were delivered before the call. nil is not to wait.
	Settle func(context.Context) error

	// PlainRooms admits rooms without encryption: for nodes that listen on
	// loopback only.
	PlainRooms bool

	Limits Limits

	Logger  *slog.Logger     // default [slog.Default]
	Metrics *metrics.Metrics // default is to count for nobody
	Now     func() time.Time // default [time.Now]
}

// Server answers the requests of one node.
type Server struct {
	cfg        Config
	log        *slog.Logger
	addresses  *throttle[netip.Addr]
	unsigned   *throttle[netip.Addr]
	identities *throttle[bus.ID]
	reports    *throttle[bus.ID]
	own        sync.Map // addresses of the node's own probes
	uploading  uploading
}

// New returns a control plane over cfg.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.New("")
	}
	cfg.Limits = cfg.Limits.withDefaults()
	return &Server{
		cfg: cfg, log: cfg.Logger,
		uploading:  uploading{lines: map[uploadKey]*line{}},
		addresses:  newThrottle[netip.Addr](cfg.Now, cfg.Limits.AddressRequests, cfg.Limits.Address),
		unsigned:   newThrottle[netip.Addr](cfg.Now, -1, cfg.Limits.Unsigned),
		identities: newThrottle[bus.ID](cfg.Now, cfg.Limits.IdentityRequests, cfg.Limits.Reads, cfg.Limits.Changes),
		reports:    newReportThrottle(cfg.Now),
	}
}

// Probing has requests from a remote address, those of the node's own probe, not
// logged or counted as refusals until done is called.
func (s *Server) Probing(remote string) (done func()) {
	s.own.Store(remote, nil)
	return func() { s.own.Delete(remote) }
}

// who says whom a route is for.
type who uint8

const (
	anyone     who = iota
	cardHolder     // active users, known by the card in the request
	member         // active users, known by their latest card
	admin          // active users who are admins in the store
	localUser      // the peer of the local socket
)

// Bounds of bodies, in bytes.
const (
	noBody    = 0
	smallBody = 4 << 10 // a card, a user, a directory entry
)

// route is one method of one pattern of package api.
type route struct {
	method  string
	pattern string
	who     who
	limit   int64  // bytes of body
	query   string // the one query parameter it knows, if any
	serve   func(*Server, *request) (status int, reply any, err error)
}

// changes reports whether the route changes anything.
func (rt route) changes() bool { return rt.method != http.MethodGet && rt.method != http.MethodHead }

var publicRoutes = []route{
	{http.MethodGet, api.PatternHealth, anyone, noBody, "", (*Server).health},
	{http.MethodGet, api.PatternReady, anyone, noBody, "", (*Server).ready},
	{http.MethodPut, api.PatternCard, cardHolder, smallBody, "", (*Server).putCard},
	{http.MethodGet, api.PatternCard, member, noBody, api.QueryHash, (*Server).getCard},
	{http.MethodGet, api.PatternHandle, member, noBody, "", (*Server).getHandle},
	{http.MethodPut, api.PatternHandle, admin, smallBody, "", (*Server).putEntry},
	{http.MethodGet, api.PatternUsers, admin, noBody, api.QueryAfter, (*Server).listUsers},
	{http.MethodPost, api.PatternUsers, admin, smallBody, "", (*Server).addUser},
	{http.MethodPost, api.PatternRevoke, admin, noBody, "", (*Server).revokeUser},
	{http.MethodPut, api.PatternRevocation, anyone, smallBody, "", (*Server).putRevocation},
	{http.MethodGet, api.PatternRevocation, member, noBody, "", (*Server).getStanding},
	{http.MethodGet, api.PatternRooms, member, noBody, "", (*Server).listRooms},
	{http.MethodPost, api.PatternRooms, member, bus.MaxBody, "", (*Server).createRoom},
	{http.MethodGet, api.PatternRecords, member, noBody, api.QueryFrom, (*Server).listRecords},
	{http.MethodPost, api.PatternRecords, member, bus.MaxBody, "", (*Server).appendRecord},
	{http.MethodGet, api.PatternRevokedMembers, member, noBody, "", (*Server).listRevoked},
	{http.MethodGet, api.PatternKey, member, noBody, api.QueryCard, (*Server).getKey},
	{http.MethodPut, api.PatternKey, member, smallBody, "", (*Server).putKey},
	{http.MethodPost, api.PatternCursors, member, bus.MaxBody, "", (*Server).makeCursors},
	{http.MethodPost, api.PatternReports, member, smallBody, "", (*Server).takeReport},
	{http.MethodHead, api.PatternBlob, member, noBody, "", (*Server).statBlob},
	{http.MethodGet, api.PatternBlob, member, noBody, api.QueryFrom, (*Server).getBlob},
	{http.MethodPut, api.PatternBlob, member, bus.MaxBlobPart, api.QueryPart, (*Server).putBlob},
	{http.MethodDelete, api.PatternBlob, member, noBody, "", (*Server).removeBlob},
}

var localRoutes = []route{
	{http.MethodGet, api.PatternHealth, localUser, noBody, "", (*Server).health},
	{http.MethodGet, api.PatternReady, localUser, noBody, "", (*Server).ready},
	{http.MethodGet, api.PatternHandle, localUser, noBody, "", (*Server).getHandle},
	{http.MethodPut, api.PatternHandle, localUser, smallBody, "", (*Server).putEntry},
	{http.MethodGet, api.PatternUsers, localUser, noBody, api.QueryAfter, (*Server).listUsers},
	{http.MethodPost, api.PatternUsers, localUser, smallBody, "", (*Server).addUser},
	{http.MethodPost, api.PatternRevoke, localUser, noBody, "", (*Server).revokeUser},
	{http.MethodPut, api.PatternRevocation, localUser, smallBody, "", (*Server).putRevocation},
	{http.MethodGet, api.PatternAudit, localUser, noBody, api.QueryFrom, (*Server).auditPage},
}

// Handler returns the routes for clients, within [Config].Limits. Serve it on a
// listener of [Server.LimitConns].
func (s *Server) Handler() http.Handler {
	return s.count(metrics.Control, s.limitAddresses(s.mux(publicRoutes)))
}

// LocalHandler returns the routes for the local socket. Whoever can connect is
// trusted and not limited: serve it on a listener of [ListenLocal] only.
func (s *Server) LocalHandler() http.Handler { return s.count(metrics.Local, s.mux(localRoutes)) }

func (s *Server) mux(routes []route) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, rt := range routes {
		mux.HandleFunc(rt.method+" "+rt.pattern, func(w http.ResponseWriter, r *http.Request) { s.handle(w, r, rt) })
		methods[rt.pattern] = append(methods[rt.pattern], rt.method)
	}
	for pattern, allowed := range methods {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.refuseMethod(w, r, allowed) })
	}
	mux.HandleFunc("/", s.refusePath)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would answer a path in another form with a redirect, which
		// no signature survives.
		if r.URL.Path != path.Clean(r.URL.Path) {
			s.refusePath(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// NewHTTPServer returns a server for a handler, with a deadline on everything a
// client could otherwise draw out.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return withGuest(withPeer(ctx, conn), conn)
		},
		// What it reports is the doing of strangers: broken handshakes, cut lines.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
