package control

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/enmanuel/unibus/daemon/lobby"
	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// Rate is how often something may happen: Burst times at once, and PerSecond
// times a second in the long run.
type Rate struct {
	PerSecond float64 // zero is the default of both, negative is no limit
	Burst     int     // zero is what comes in one second
}

// Default quotas of an identity.
const (
	DefaultOwnedRooms  = 1000
	DefaultMemberships = 10_000
)

// Limits bounds what one address and one identity may ask of a node, and what
// the node takes on. A field that is zero has the default named; a negative
// one is no limit.
type Limits struct {
	// Address is for all requests of one IPv4 address or IPv6 /64, before their
	// signature is looked at. Default 400/s, 2,000 at once: a check takes about
	// 0.1 ms, so that one address can take some 4 % of one core, and a house
	// full of agents behind one address can start at the same time.
	Address Rate
	// Unsigned is for the requests among them that change something and prove
	// themselves, such as revocations: anybody can make keys and sign with them.
	// Default 1/s, 30 at once.
	Unsigned Rate
	// Reads and Changes are for the requests of one identity. Default 100/s,
	// 400 at once, and 20/s, 100 at once.
	Reads, Changes Rate

	AddressRequests  int // of one address under way; default 256
	IdentityRequests int // of one identity under way; default 64

	Connections        int // of everybody; default 10,000
	AddressConnections int // of one address; default 1,000

	// Strangers is how many of the connections may be of peers that have not
	// made a signed request yet, and AddressStrangers how many of those of one
	// address: beyond, the oldest ones are closed. See package lobby.
	Strangers, AddressStrangers int

	// OwnedRooms is how many rooms an identity may be an owner of, default
	// 1,000. Memberships is how many rooms others may put it into, default
	// 10,000: rooms of its own it may make beyond. Both are taken from the
	// node's view, so requests at the same time may overstep them a little.
	OwnedRooms, Memberships int

	// TrustLoopback leaves this machine's own addresses out of the limits of
	// addresses: for nodes that nobody else reaches, whose clients all have the
	// same one, and for those behind a proxy, which is to limit addresses itself.
	TrustLoopback bool
}

func (l Limits) withDefaults() Limits {
	rate := func(r *Rate, or Rate) {
		switch {
		case r.PerSecond == 0:
			*r = or
		case r.Burst <= 0:
			r.Burst = max(1, int(r.PerSecond))
		}
	}
	rate(&l.Address, Rate{400, 2000})
	rate(&l.Unsigned, Rate{1, 30})
	rate(&l.Reads, Rate{100, 400})
	rate(&l.Changes, Rate{20, 100})
	for _, n := range []struct {
		field *int
		or    int
	}{
		{&l.AddressRequests, 256}, {&l.IdentityRequests, 64},
		{&l.Connections, 10_000}, {&l.AddressConnections, 1000},
		{&l.Strangers, lobby.DefaultSize}, {&l.AddressStrangers, lobby.DefaultSource},
		{&l.OwnedRooms, DefaultOwnedRooms}, {&l.Memberships, DefaultMemberships},
	} {
		if *n.field == 0 {
			*n.field = n.or
		}
	}
	return l
}

// over reports whether n is beyond a limit that may be none.
func over(n, limit int) bool { return limit >= 0 && n > limit }

// Kinds of requests of an identity, each with a bucket of its own.
const (
	kindRead = iota
	kindChange
)

// limitAddresses serves next as often as one address may ask. Health and
// readiness cost less than what it would take to refuse them, and whoever
// watches a node must not be locked out with those who flood it.
func (s *Server) limitAddresses(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := lobby.Source(r.RemoteAddr)
		if r.URL.Path == api.HealthPath() || r.URL.Path == api.ReadyPath() || s.trusts(from) {
			next.ServeHTTP(w, r)
			return
		}
		leave, refused := s.addresses.enter(from, 0)
		if refused != nil {
			s.cfg.Metrics.RateLimited(metrics.ByAddress)
			s.problem(w, &request{Request: r, id: newRequestID()}, fmt.Errorf("take request from %s: %w", from, refused))
			return
		}
		defer leave()
		next.ServeHTTP(w, r)
	})
}

// limitUnsigned counts a change that nobody has signed as a request.
func (s *Server) limitUnsigned(req *request) error {
	from := lobby.Source(req.RemoteAddr)
	if s.trusts(from) {
		return nil
	}
	leave, refused := s.unsigned.enter(from, 0)
	if refused != nil {
		return fmt.Errorf("take request from %s: %w", from, refused)
	}
	req.leave = leave
	return nil
}

// limitIdentity counts a request as one of its signer's. It does so before the
// request costs the store anything.
func (s *Server) limitIdentity(req *request, rt route) error {
	kind := kindRead
	if rt.changes() {
		kind = kindChange
	}
	leave, refused := s.identities.enter(req.signer.ID, kind)
	if refused != nil {
		s.cfg.Metrics.RateLimited(metrics.ByIdentity)
		return fmt.Errorf("take request of %s: %w", req.signer.Handle, refused)
	}
	req.leave = leave
	return nil
}

// trusts reports whether a source is outside the limits of addresses.
func (s *Server) trusts(from netip.Addr) bool {
	return s.cfg.Limits.TrustLoopback && from.IsLoopback()
}

// limited is a request that was one too many. Its code is
// [bus.CodeRateLimited].
type limited struct {
	after time.Duration // when to come again
	first bool          // the first one in a while of whom it is about
	err   error
}

// Error implements error.
func (l *limited) Error() string { return l.err.Error() }

// Unwrap returns the error with the code.
func (l *limited) Unwrap() error { return l.err }

func newLimited(why string, after time.Duration, first bool) *limited {
	return &limited{after, first, bus.Errorf(bus.CodeRateLimited, "%s, come again in %s", why, after)}
}
