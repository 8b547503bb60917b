package control

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
)

// Bounds of one request and one connection.
const (
	requestTimeout    = 15 * time.Second // a handler, from verified signature to reply
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

// Cursors makes the consumers a session reads persisted rooms through.
type Cursors interface {
	Cursors(ctx context.Context, id bus.ID, req api.CursorRequest) (api.CursorReply, error)
}

// Config is what a control plane stands on. All fields but Logger and Now are
// required.
type Config struct {
	Directory *directory.Directory
	View      *directory.View
	Cursors   Cursors

	// Ready returns why the node may not serve now, or nil.
	Ready func() error
	// Health measures the node.
	Health func(context.Context) api.Health

	// PlainRooms admits rooms without encryption: for nodes that listen on
	// loopback only.
	PlainRooms bool

	Logger *slog.Logger     // default [slog.Default]
	Now    func() time.Time // default [time.Now]
}

// Server answers the requests of one node.
type Server struct {
	cfg Config
	log *slog.Logger
}

// New returns a control plane over cfg.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{cfg: cfg, log: cfg.Logger}
}

// who says whom a route is for.
type who uint8

const (
	anyone    who = iota
	ownCard       // whoever holds the keys of the card in the request
	member        // active users
	admin         // active users who are admins in the store
	localUser     // the peer of the local socket
)

// route is one method of one pattern of package api.
type route struct {
	method  string
	pattern string
	who     who
	serve   func(*Server, *request) (status int, reply any, err error)
}

var publicRoutes = []route{
	{http.MethodGet, api.PatternHealth, anyone, (*Server).health},
	{http.MethodGet, api.PatternReady, anyone, (*Server).ready},
	{http.MethodPut, api.PatternCard, ownCard, (*Server).putCard},
	{http.MethodGet, api.PatternCard, member, (*Server).getCard},
	{http.MethodGet, api.PatternHandle, member, (*Server).getHandle},
	{http.MethodPut, api.PatternHandle, admin, (*Server).putEntry},
	{http.MethodGet, api.PatternUsers, admin, (*Server).listUsers},
	{http.MethodPost, api.PatternUsers, admin, (*Server).addUser},
	{http.MethodPost, api.PatternRevoke, admin, (*Server).revokeUser},
	{http.MethodGet, api.PatternRooms, member, (*Server).listRooms},
	{http.MethodPost, api.PatternRooms, member, (*Server).createRoom},
	{http.MethodGet, api.PatternRecords, member, (*Server).listRecords},
	{http.MethodPost, api.PatternRecords, member, (*Server).appendRecord},
	{http.MethodGet, api.PatternKey, member, (*Server).getKey},
	{http.MethodPost, api.PatternCursors, member, (*Server).makeCursors},
}

var localRoutes = []route{
	{http.MethodGet, api.PatternHealth, localUser, (*Server).health},
	{http.MethodGet, api.PatternReady, localUser, (*Server).ready},
	{http.MethodGet, api.PatternUsers, localUser, (*Server).listUsers},
	{http.MethodPost, api.PatternUsers, localUser, (*Server).addUser},
	{http.MethodPost, api.PatternRevoke, localUser, (*Server).revokeUser},
	{http.MethodPut, api.PatternHandle, localUser, (*Server).putEntry},
}

// Handler returns the routes for clients.
func (s *Server) Handler() http.Handler { return s.mux(publicRoutes) }

// LocalHandler returns the routes for the local socket. Whoever can connect is
// trusted: serve it on a listener of [ListenLocal] only.
func (s *Server) LocalHandler() http.Handler { return s.mux(localRoutes) }

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
	return mux
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
		// What it reports is the doing of strangers: broken handshakes, cut lines.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
