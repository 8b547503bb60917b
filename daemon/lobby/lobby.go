// Package lobby keeps the connections of strangers from crowding out members:
// those on which nobody has proven yet who they are.
//
// Start with [New], and [Lobby.Enter] for every connection that was accepted.
// [Guest.Admit] takes it out of the lobby when its peer is known, [Guest.Leave]
// when it ends.
//
// A lobby is never full. Who comes when there is no room takes the place of the
// stranger who has waited longest, first among those of the same address, then
// among those of the address that has most. A member proves itself within
// milliseconds; who holds connections open in order to hold them open loses
// them to the next ones, and so floods itself.
//
// It does not bound how many members there are, nor how fast anybody comes.
package lobby

import (
	"container/list"
	"net/netip"
	"sync"
)

// Default sizes, in connections.
const (
	DefaultSize   = 2000 // of everybody
	DefaultSource = 500  // of one address
)

// Lobby holds strangers. It is safe for concurrent use.
type Lobby struct {
	size, source int
	told         func(from netip.Addr)

	mu   sync.Mutex
	all  int
	from map[netip.Addr]*list.List // of *Guest, the latest in front; none is empty
}

// Guest is one connection in a lobby.
type Guest struct {
	lobby *Lobby
	addr  netip.Addr
	close func()
	place *list.Element // nil once it has left; under lobby.mu
}

// New returns a lobby with room for size strangers, source of them of one
// address; 0 is the default, negative is no bound. evicted, which may be nil,
// hears the address of everybody who had to go.
func New(size, source int, evicted func(from netip.Addr)) *Lobby {
	if size == 0 {
		size = DefaultSize
	}
	if source == 0 {
		source = DefaultSource
	}
	if evicted == nil {
		evicted = func(netip.Addr) {}
	}
	return &Lobby{size: size, source: source, told: evicted, from: make(map[netip.Addr]*list.List)}
}

// Enter takes a connection in. close ends it, and is called at most once, from
// another goroutine, if it has to make room.
func (l *Lobby) Enter(from netip.Addr, close func()) *Guest {
	l.mu.Lock()
	var out *Guest
	if waiting := l.from[from]; waiting != nil && l.source > 0 && waiting.Len() >= l.source {
		out = l.remove(waiting.Back().Value.(*Guest))
	} else if l.size > 0 && l.all >= l.size {
		out = l.remove(l.longest().Back().Value.(*Guest))
	}
	if l.from[from] == nil {
		l.from[from] = list.New()
	}
	g := &Guest{lobby: l, addr: from, close: close}
	g.place = l.from[from].PushFront(g)
	l.all++
	l.mu.Unlock()
	if out != nil {
		out.close()
		l.told(out.addr)
	}
	return g
}

// Waiting returns how many strangers there are.
func (l *Lobby) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// longest returns the guests of the address that has most. There are at most as
// many addresses as guests.
func (l *Lobby) longest() *list.List {
	var most *list.List
	for _, waiting := range l.from {
		if most == nil || waiting.Len() > most.Len() {
			most = waiting
		}
	}
	return most
}

// remove takes a guest out, which must be in.
func (l *Lobby) remove(g *Guest) *Guest {
	waiting := l.from[g.addr]
	waiting.Remove(g.place)
	g.place = nil
	if waiting.Len() == 0 {
		delete(l.from, g.addr)
	}
	l.all--
	return g
}

// Admit takes the connection out of the lobby: its peer is known, or is gone. It
// reports whether it was in until now; doing so again changes nothing.
func (g *Guest) Admit() bool {
	g.lobby.mu.Lock()
	defer g.lobby.mu.Unlock()
	if g.place == nil {
		return false
	}
	g.lobby.remove(g)
	return true
}

// Leave is Admit for a connection that ended.
func (g *Guest) Leave() { g.Admit() }

// Source returns what the peers of one place have in common, of a remote address
// with its port: an IPv4 address, or the first address of an IPv6 /64, since
// whoever has one address of those has all. Loopback stays as it is. Without an
// address that can be read it is the zero value, which all such peers share.
func Source(remote string) netip.Addr {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if addr.Is4() || addr.IsLoopback() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return prefix.Addr()
}
