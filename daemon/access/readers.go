package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// consumerIdle is how long the server keeps a consumer that nobody
	// fetches from.
	consumerIdle = 5 * time.Minute
	// maxSessions is how many sessions of one identity may have consumers.
	maxSessions = 64
)

// reader is what access knows of the consumers of an identity: it made all of
// them. Consumers outlive connections, and a session may come back to them.
type reader struct {
	// mu is held while consumers are made and deleted, so that a change of the
	// view is handled before or after a request for consumers, not within.
	mu       sync.Mutex
	gone     bool // no longer in Access.readers
	sessions map[bus.SessionID]*cursors
}

// cursors are the consumers of a session and the rooms each may deliver.
type cursors struct {
	seen      time.Time // last asked for, or connected
	consumers map[consumer][]bus.RoomID
}

// consumer names a consumer of a shard's stream.
type consumer struct {
	shard int
	name  string
}

// lockReader returns the reader of an identity, locked.
func (a *Access) lockReader(id bus.ID) *reader {
	for {
		a.readersMu.Lock()
		r := a.readers[id]
		if r == nil {
			r = &reader{sessions: make(map[bus.SessionID]*cursors)}
			a.readers[id] = r
		}
		a.readersMu.Unlock()
		r.mu.Lock()
		if !r.gone {
			return r
		}
		r.mu.Unlock()
	}
}

// unlockReader ends what lockReader began, and forgets a reader without
// consumers.
func (a *Access) unlockReader(id bus.ID, r *reader) {
	if len(r.sessions) == 0 {
		r.gone = true
		a.readersMu.Lock()
		delete(a.readers, id)
		a.readersMu.Unlock()
	}
	r.mu.Unlock()
}

// reads reports whether an identity may have consumers.
func (a *Access) reads(id bus.ID) bool {
	a.readersMu.Lock()
	defer a.readersMu.Unlock()
	return a.readers[id] != nil
}

// fetches reports whether an identity has consumers over any of the rooms, given
// by their subjects, or may have: it does not wait where consumers are being
// made.
func (a *Access) fetches(id bus.ID, subjects []string) bool {
	a.readersMu.Lock()
	r := a.readers[id]
	a.readersMu.Unlock()
	if r == nil || len(subjects) == 0 {
		return false
	}
	if !r.mu.TryLock() {
		return true
	}
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		for _, rooms := range s.consumers {
			for _, room := range rooms {
				if slices.Contains(subjects, bus.RoomSubject(room, true)) {
					return true
				}
			}
		}
	}
	return false
}

// hasLost reports whether an identity has consumers that dropLost would delete.
func (a *Access) hasLost(id bus.ID) bool {
	r := a.lockReader(id)
	defer a.unlockReader(id, r)
	readable := a.readable(id)
	for _, s := range r.sessions {
		for _, rooms := range s.consumers {
			if lost(rooms, readable) {
				return true
			}
		}
	}
	return false
}

// lost reports whether a consumer over rooms may deliver more than is readable.
func lost(rooms []bus.RoomID, readable map[bus.RoomID]bool) bool {
	return slices.ContainsFunc(rooms, func(room bus.RoomID) bool { return !readable[room] })
}

// dropLost deletes the consumers of an identity that can deliver rooms it may
// no longer read.
func (a *Access) dropLost(ctx context.Context, id bus.ID) error {
	if !a.reads(id) {
		return nil
	}
	r := a.lockReader(id)
	defer a.unlockReader(id, r)
	readable := a.readable(id)
	var errs []error
	for session, s := range r.sessions {
		for c, rooms := range s.consumers {
			if lost(rooms, readable) {
				errs = append(errs, a.drop(ctx, s, c))
			}
		}
		if len(s.consumers) == 0 {
			delete(r.sessions, session)
		}
	}
	return errors.Join(errs...)
}

// readable returns the persisted rooms an identity may read, by the view.
func (a *Access) readable(id bus.ID) map[bus.RoomID]bool {
	rooms := make(map[bus.RoomID]bool)
	if user, ok := a.view.UserByID(id); !ok || !user.Active() {
		return rooms
	}
	for _, m := range a.view.RoomsOf(id) {
		if m.Role.Valid() && m.Persisted {
			rooms[m.Room] = true
		}
	}
	return rooms
}

// drop deletes one consumer and forgets it once it is gone.
func (a *Access) drop(ctx context.Context, s *cursors, c consumer) error {
	err := a.streams.DeleteConsumer(ctx, bus.Stream(c.shard), c.name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return storeError("delete consumer", err)
	}
	delete(s.consumers, c)
	return nil
}

// storeError gives an error of JetStream a code: what the server said is a
// failure inside, everything else means that it cannot be reached now.
func storeError(what string, err error) error {
	if _, ok := errors.AsType[*jetstream.APIError](err); ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	return bus.Errorf(bus.CodeUnavailable, "%s: %w", what, err)
}

// dropIdle deletes the consumers of sessions of an identity that nobody asked
// for in a while and that are not connected.
func (a *Access) dropIdle(ctx context.Context, id bus.ID, now time.Time) error {
	r := a.lockReader(id)
	defer a.unlockReader(id, r)
	connected := a.connectedSessions(id)
	var errs []error
	for session, s := range r.sessions {
		if connected[session] {
			s.seen = now
		} else if now.Sub(s.seen) > consumerIdle {
			errs = append(errs, a.dropSession(ctx, r, session))
		}
	}
	return errors.Join(errs...)
}

func (a *Access) dropSession(ctx context.Context, r *reader, session bus.SessionID) error {
	s := r.sessions[session]
	var errs []error
	for c := range s.consumers {
		errs = append(errs, a.drop(ctx, s, c))
	}
	if len(s.consumers) == 0 {
		delete(r.sessions, session)
	}
	return errors.Join(errs...)
}

func (a *Access) connectedSessions(id bus.ID) map[bus.SessionID]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	sessions := make(map[bus.SessionID]bool)
	for _, c := range a.conns[id] {
		sessions[c.session] = true
	}
	return sessions
}

// session returns the cursors of a session, for which it makes room if the
// identity has too many.
func (a *Access) session(ctx context.Context, id bus.ID, r *reader, session bus.SessionID) (*cursors, error) {
	s := r.sessions[session]
	if s == nil && len(r.sessions) >= maxSessions {
		connected := a.connectedSessions(id)
		var oldest bus.SessionID
		found := false
		for other, c := range r.sessions {
			if !connected[other] && (!found || c.seen.Before(r.sessions[oldest].seen)) {
				oldest, found = other, true
			}
		}
		if !found {
			return nil, bus.Errorf(bus.CodeQuota, "make consumers: %d sessions have some", len(r.sessions))
		}
		if err := a.dropSession(ctx, r, oldest); err != nil {
			return nil, err
		}
	}
	if s == nil {
		s = &cursors{consumers: make(map[consumer][]bus.RoomID)}
		r.sessions[session] = s
	}
	s.seen = a.now()
	return s, nil
}
