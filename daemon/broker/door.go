package broker

import (
	"crypto/rand"
	"crypto/subtle"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/lib/bus"
)

// door decides about every connection. The daemon's own ones show a random
// token that never leaves the process. Those that came through the gate show
// its mark, which does not either, and are for the members' authenticator. All
// others are denied, and members too as long as there is no authenticator.
type door struct {
	token    string
	mark     string
	accounts map[Account]*server.Account // complete before the first connection
	members  atomic.Pointer[server.Authentication]
	known    atomic.Pointer[func(remote string)] // told who was admitted
}

func newDoor() *door {
	return &door{
		token:    rand.Text() + rand.Text(),
		mark:     rand.Text() + rand.Text(),
		accounts: make(map[Account]*server.Account),
	}
}

// Check implements [server.Authentication].
func (d *door) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	opts := c.GetOpts()
	if same(opts.Password, d.token) {
		account, ok := d.accounts[Account(opts.Username)]
		if ok {
			c.RegisterUser(&server.User{Username: ownUser, Account: account})
		}
		return ok
	}
	members := d.members.Load()
	if !same(opts.Password, d.mark) || members == nil {
		return false
	}
	remote := opts.Username // Check puts a name in its place
	if !(*members).Check(c) {
		return false
	}
	if known := d.known.Load(); known != nil {
		(*known)(remote)
	}
	return true
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// ownUser is what the daemon's connections are called in NATS's own reports.
const ownUser = "unibusd"

// open sets the members' authenticator, once.
func (d *door) open(members server.Authentication) error {
	if !d.members.CompareAndSwap(nil, &members) {
		return bus.Errorf(bus.CodeUsage, "open message server: it is open already")
	}
	return nil
}
