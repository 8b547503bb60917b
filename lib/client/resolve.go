package client

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/wire"
)

// Peer is an identity that a handle resolved to.
type Peer struct {
	Handle  bus.Handle
	ID      bus.ID
	SignPub bus.SignPub
	Status  bus.UserStatus
	// Signed tells that the root of the bus vouches for the handle. Without it
	// the first answer of a server was believed and is pinned since.
	Signed bool
	// Pinned tells that it was this very call that pinned the handle, to anybody
	// or to somebody else than before.
	Pinned bool
}

// handlePins are the handles this client, or another process that shares its
// state, has resolved.
type handlePins struct {
	V       int                      `json:"v"`
	Handles map[bus.Handle]handlePin `json:"handles"`
}

type handlePin struct {
	ID       bus.ID `json:"id"`
	EntrySeq uint64 `json:"entry_seq,omitempty"` // of the newest signed entry seen; 0 is none
}

// Resolve asks who a handle is. The answer is pinned on first use: another one
// later is [bus.CodePinChanged], unless the root of the bus has signed both, the
// later one with a higher number. So where the root contradicts what a server
// said before without its word, that is an error too, and no reason to go on:
// somebody else may have been invited. An entry that has ended is
// [bus.CodeExpired], one older than an entry seen before [bus.CodeRollback].
// [Client.ForgetHandle] removes a pin.
func (c *Client) Resolve(ctx context.Context, handle bus.Handle) (Peer, error) {
	if _, err := bus.ParseHandle(string(handle)); err != nil {
		return Peer{}, err
	}
	var info api.HandleInfo
	if err := c.control.call(ctx, http.MethodGet, api.HandlePath(handle), nil, &info); err != nil {
		return Peer{}, err
	}
	entry, err := c.checkHandle(handle, info)
	if err != nil {
		c.events.raise(EventSecurity, bus.RoomID{}, err, "")
		return Peer{}, err
	}
	var moved, pinned bool
	err = c.handles.update(ctx, func(pins *handlePins) error {
		if pins.Handles == nil {
			*pins = handlePins{V: 1, Handles: map[bus.Handle]handlePin{}}
		}
		next := handlePin{ID: info.ID, EntrySeq: entry.Seq}
		old, known := pins.Handles[handle]
		switch {
		case !known:
		case !entry.ID.IsZero() && entry.Seq < old.EntrySeq:
			return bus.Errorf(bus.CodeRollback, "resolve %s: the server shows entry %d of the directory after entry %d was seen", handle, entry.Seq, old.EntrySeq)
		case old.ID == info.ID:
			next.EntrySeq = max(entry.Seq, old.EntrySeq)
		case entry.Seq > old.EntrySeq && old.EntrySeq == 0:
			return bus.Errorf(bus.CodePinChanged, "resolve %s: the root of the bus signs that it is %s (%s), and a server said without its word that it was %s (%s), which was pinned", handle, info.ID, info.ID.Fingerprint(), old.ID, old.ID.Fingerprint())
		case entry.Seq > old.EntrySeq:
			moved = true
		default:
			return bus.Errorf(bus.CodePinChanged, "resolve %s: it is now %s (%s), and was %s (%s)", handle, info.ID, info.ID.Fingerprint(), old.ID, old.ID.Fingerprint())
		}
		pinned = !known || moved
		pins.Handles[handle] = next
		return nil
	})
	if err != nil {
		if code := bus.CodeOf(err); code == bus.CodePinChanged || code == bus.CodeRollback {
			c.events.raise(EventSecurity, bus.RoomID{}, err, "")
		}
		return Peer{}, err
	}
	if moved {
		c.log.Warn("client", "handle", string(handle), "moved_to", info.ID.String())
	}
	if err := c.loadHandles(); err != nil {
		return Peer{}, err
	}
	standing, err := c.judgeStandings(ctx, []api.Standing{{ID: info.ID, Status: info.Status, Revocation: info.Revocation}})
	if err != nil {
		return Peer{}, err
	}
	if standing[0].Revoked {
		info.Status = bus.UserRevoked
	}
	return Peer{Handle: handle, ID: info.ID, SignPub: info.SignPub, Status: info.Status, Signed: !entry.ID.IsZero(), Pinned: pinned}, nil
}

// checkHandle verifies what a server says about a handle against itself and,
// where the root has signed an entry, against that.
func (c *Client) checkHandle(handle bus.Handle, info api.HandleInfo) (identity.Entry, error) {
	if err := wire.CheckPublicKey(info.SignPub[:]); err != nil {
		return identity.Entry{}, fmt.Errorf("resolve %s: %w", handle, err)
	}
	if info.Handle != handle || identity.IDOf(info.SignPub) != info.ID {
		return identity.Entry{}, bus.Errorf(bus.CodeMalformed, "resolve %s: the server's answer contradicts itself", handle)
	}
	if len(info.Entry) == 0 {
		return identity.Entry{}, nil
	}
	entry, err := identity.ParseEntry(info.Entry, c.config.BusID)
	if err != nil {
		return identity.Entry{}, fmt.Errorf("resolve %s: %w", handle, err)
	}
	if entry.Handle != handle || entry.ID != info.ID {
		return identity.Entry{}, bus.Errorf(bus.CodePinChanged, "resolve %s: the server says %s, the root of the bus says that %s is %s", handle, info.ID, entry.Handle, entry.ID)
	}
	if err := entry.CheckTime(c.config.Now()); err != nil {
		return identity.Entry{}, fmt.Errorf("resolve %s: %w", handle, err)
	}
	return entry, nil
}

// ForgetHandle removes the pin of a handle, so that the next Resolve believes
// what it is told. A pin backed by an entry of the bus's root is forgotten too.
func (c *Client) ForgetHandle(ctx context.Context, handle bus.Handle) error {
	err := c.handles.update(ctx, func(pins *handlePins) error {
		if _, known := pins.Handles[handle]; !known {
			return bus.Errorf(bus.CodeNotFound, "forget handle: %s is not pinned", handle)
		}
		delete(pins.Handles, handle)
		return nil
	})
	if err != nil {
		return err
	}
	return c.loadHandles()
}

// who reads what callers name somebody by: an id, a signing key or a handle. A
// handle is resolved; of the others only the id is known.
func (c *Client) who(ctx context.Context, text string) (Peer, error) {
	if id, err := bus.ParseID(text); err == nil {
		return Peer{ID: id}, nil
	}
	if key, err := bus.ParseSignPub(text); err == nil {
		return Peer{ID: identity.IDOf(key), SignPub: key}, nil
	}
	handle, err := bus.ParseHandle(text)
	if err != nil {
		return Peer{}, bus.Errorf(bus.CodeMalformed, "parse %.80q: want a handle, an id or a signing key", text)
	}
	return c.Resolve(ctx, handle)
}

// handleNames are the pinned handles by who they are. The zero value has none.
type handleNames struct {
	mu   sync.Mutex // while they are read and replaced
	byID atomic.Pointer[map[bus.ID]bus.Handle]
}

// loadHandles makes the pinned handles known to messages and members, as they
// are now: this or another process may have moved or forgotten some.
func (c *Client) loadHandles() error {
	c.names.mu.Lock()
	defer c.names.mu.Unlock()
	pins, err := c.handles.read()
	if err != nil {
		return err
	}
	byID := make(map[bus.ID]bus.Handle, len(pins.Handles))
	for handle, pin := range pins.Handles {
		// Of several handles of one identity it is always the same.
		if other, ok := byID[pin.ID]; !ok || handle < other {
			byID[pin.ID] = handle
		}
	}
	c.names.byID.Store(&byID)
	return nil
}

// HandleOf returns the handle that is pinned to an identity, "" where none is. It
// asks nobody.
func (c *Client) HandleOf(id bus.ID) bus.Handle { return c.handleOf(id) }

// handleOf returns the pinned handle of an identity, "" where none is known.
func (c *Client) handleOf(id bus.ID) bus.Handle {
	if byID := c.names.byID.Load(); byID != nil {
		return (*byID)[id]
	}
	return ""
}
