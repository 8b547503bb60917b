package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/durable"
	"github.com/enmanuel/unibus/lib/room"
)

// Resealed is what [Client.Reseal] found and did.
type Resealed struct {
	Rooms  int // looked at
	Epochs int // whose key needs a copy of its own; earlier ones follow from history
	Made   int // copies that were made now
}

// resealedTo is kept in the state once every key of the bus was read back under
// the newest HPKE key.
type resealedTo struct {
	V       int    `json:"v"`
	CardSeq uint64 `json:"card_seq"`
}

// RenewCard gives the identity a new HPKE key and publishes a card with it, half
// of the old one's life gone or not. What was sealed to older keys is opened with
// those, which stay until [Client.DropOldKeys]. It needs [Config.Keeper]; without
// one the error has [bus.CodeUsage].
func (c *Client) RenewCard(ctx context.Context) error {
	if c.config.Keeper == nil {
		return bus.Errorf(bus.CodeUsage, "renew card: there is nowhere to keep a new key")
	}
	unlock, err := durable.Lock(ctx, c.state.path("card.lock"))
	if err != nil {
		return fmt.Errorf("renew card: %w", err)
	}
	defer unlock()
	card, err := c.renewCard(ctx, c.config.Now())
	if err != nil {
		return err
	}
	return c.useCard(ctx, card, false)
}

// Reseal makes sure that the newest HPKE key alone opens every key of the rooms
// that the client is in, was in, or has accepted: it seals to its own newest card
// what is sealed to an older one, has the servers keep that beside the original,
// and reads it back. Doing it again costs little. Rooms that fail keep no other
// from being done; their errors come back joined.
//
// What servers keep proves itself: a key counts only if the room's record commits
// to it.
func (c *Client) Reseal(ctx context.Context) (Resealed, error) {
	done, _, err := c.reseal(ctx)
	return done, err
}

// reseal is Reseal, and tells the number of the card that it sealed to.
func (c *Client) reseal(ctx context.Context) (done Resealed, to uint64, err error) {
	// The card of the newest key, which another process may have added.
	if err := c.ensureCard(ctx); err != nil {
		return done, 0, fmt.Errorf("seal keys again: %w", err)
	}
	self := resealing{client: c, card: c.card(), latest: c.identity().OnlyLatest(), done: &done}
	ids, err := c.keyedRooms(ctx)
	if err != nil {
		return done, 0, fmt.Errorf("seal keys again: %w", err)
	}
	var failed []error
	for _, id := range ids {
		r, err := c.open(ctx, id)
		if err == nil {
			err = r.sync(ctx)
		}
		if err == nil {
			err = self.room(ctx, r)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("seal keys of room %s again: %w", id, err))
			continue
		}
		done.Rooms++
	}
	if len(failed) > 0 {
		return done, 0, errors.Join(failed...)
	}
	return done, self.card.Seq, c.resealedFile().update(ctx, func(to *resealedTo) error {
		to.V, to.CardSeq = 1, max(to.CardSeq, self.card.Seq)
		return nil
	})
}

// resealPause is how long sealing again that failed is left alone.
const resealPause = time.Hour

// resealDue reports whether the identity has older keys that something may still
// be sealed to alone. Only who keeps the identity can act on it.
func (c *Client) resealDue() bool {
	if c.config.Keeper == nil || len(c.identity().KEMs()) == 1 {
		return false
	}
	to, err := c.resealedFile().read()
	return err != nil || to.CardSeq < c.card().Seq
}

// resealUnasked is Reseal in the background, after a card was renewed. Older keys
// are dropped by those who are asked to only: the identity may have rooms on a
// bus that this client knows nothing of.
func (c *Client) resealUnasked() {
	limited, cancel := context.WithTimeout(c.ctx, upkeepLimit)
	defer cancel()
	done, err := c.Reseal(limited)
	switch {
	case c.ctx.Err() != nil:
	case err != nil:
		c.events.raise(EventUpkeep, bus.RoomID{}, err, "")
	default:
		c.log.Info("client", "sealed_again", done.Made, "rooms", done.Rooms)
	}
}

func (c *Client) resealedFile() stateFile[resealedTo] {
	return stateFile[resealedTo]{c.state.path(resealedFile)}
}

// keyedRooms are the rooms of whose keys this member may have copies.
func (c *Client) keyedRooms(ctx context.Context) ([]bus.RoomID, error) {
	heads, err := c.heads(ctx)
	if err != nil {
		return nil, err
	}
	accepted, err := c.accepted.read()
	if err != nil {
		return nil, err
	}
	var ids []bus.RoomID
	for _, h := range heads {
		ids = append(ids, h.Room)
	}
	for _, a := range accepted.Rooms { // also those it was removed from
		if !slices.Contains(ids, a.Room) {
			ids = append(ids, a.Room)
		}
	}
	return ids, nil
}

// resealing is one round over the rooms.
type resealing struct {
	client *Client
	card   *identity.Card
	latest *identity.Identity // with the newest HPKE key only
	done   *Resealed
}

// room goes from the head to the first record. An epoch whose successor's key is
// safe, and opens its key as history, needs no copy of its own.
func (s resealing) room(ctx context.Context, r *Room) error {
	var after *room.Record // whose key is safe; nil where it is not this member's
	head, _, _ := r.model.current()
	for n := uint64(head.Epoch) + 1; n > 0; n-- {
		rec := r.model.at(bus.Epoch(n - 1))
		_, member := rec.Member(s.client.ID())
		leads, err := s.leads(ctx, r, after, rec)
		switch {
		case err != nil:
			return err
		case !rec.Policy.Encrypted():
			return nil
		case leads:
			after = rec
			continue
		case !member:
			after = nil
			continue
		}
		if err := s.epoch(ctx, r, rec); err != nil {
			return err
		}
		s.done.Epochs++
		after = rec
	}
	return nil
}

// leads reports whether the key of the record after rec, nil for none, opens that
// of rec: an authority can write anything as history.
func (s resealing) leads(ctx context.Context, r *Room, after, rec *room.Record) (bool, error) {
	if after == nil || len(after.HistoryCT) == 0 {
		return false, nil
	}
	if err := r.openEarlier(ctx, after.Epoch); err != nil {
		return false, err
	}
	r.model.mu.RLock()
	key, known := r.model.chain.Key(after.Epoch)
	r.model.mu.RUnlock()
	if !known {
		return false, nil
	}
	_, err := after.OpenHistory(key, rec)
	return err == nil, nil
}

// epoch makes sure that the newest key opens a copy that the servers have.
func (s resealing) epoch(ctx context.Context, r *Room, rec *room.Record) error {
	sealed, err := r.fetchCopy(ctx, rec.Epoch)
	if err != nil {
		return err
	}
	if _, err := openCopy(s.latest, rec, sealed); err == nil {
		return nil
	}
	if err := r.openEarlier(ctx, rec.Epoch); err != nil {
		return err
	}
	r.model.mu.RLock()
	key, known := r.model.chain.Key(rec.Epoch)
	r.model.mu.RUnlock()
	if !known {
		return bus.Errorf(bus.CodeDecrypt, "the key of epoch %d is not known", rec.Epoch)
	}
	blob, err := rec.Reseal(s.card, key)
	if err != nil {
		return err
	}
	path := api.KeyPath(r.id, rec.Epoch)
	if err := s.client.control.call(ctx, http.MethodPut, path, api.Resealed{Card: s.card.Hash(), Blob: blob}, nil); err != nil {
		return err
	}
	s.done.Made++
	if sealed, err = r.fetchCopy(ctx, rec.Epoch); err == nil {
		_, err = openCopy(s.latest, rec, sealed)
	}
	return err
}

// fetchCopy returns the newest copy of a key that the servers have for this
// member.
func (r *Room) fetchCopy(ctx context.Context, e bus.Epoch) (sealed api.SealedKey, err error) {
	return sealed, r.client.control.call(ctx, http.MethodGet, api.KeyPath(r.id, e), nil, &sealed)
}

// openCopy opens a copy of a record's key, the record's own or one that was
// sealed again.
func openCopy(id *identity.Identity, rec *room.Record, sealed api.SealedKey) (room.Key, error) {
	if sealed.Card != nil {
		return rec.OpenResealed(id, *sealed.Card, sealed.Blob)
	}
	return rec.OpenKey(id, sealed.Blob)
}

// DropOldKeys seals again what needs it ([Client.Reseal]) and then takes every
// HPKE key but the newest out of the stored identity, and returns how many those
// were. From then on whoever steals the identity opens less: only what servers
// still keep for the newest key. Nothing is dropped if any room failed, or if the
// identity was used on another bus, as far as [Config.StateDir] remembers, whose
// keys were not sealed again to the newest ([bus.CodeConflict]). Buses that this
// state knows nothing of, and records that somebody is sealing to an older card
// at this moment, are for the caller to know of.
func (c *Client) DropOldKeys(ctx context.Context) (dropped int, done Resealed, err error) {
	if c.config.Keeper == nil {
		return 0, done, bus.Errorf(bus.CodeUsage, "drop old keys: the identity is not this client's to change")
	}
	// The own card may be a newer one by now, to which nothing was sealed again.
	done, newest, err := c.reseal(ctx)
	if err != nil {
		return 0, done, err
	}
	if err := c.checkOtherBuses(newest); err != nil {
		return 0, done, err
	}
	err = c.updateIdentity(ctx, func(id *identity.Identity) error {
		dropped = id.DropKEMs(newest)
		return nil
	})
	if err != nil {
		return 0, done, fmt.Errorf("drop old keys: %w", err)
	}
	return dropped, done, nil
}

// checkOtherBuses refuses where the identity has a state on another bus that was
// not sealed again to the key of this card number.
func (c *Client) checkOtherBuses(newest uint64) error {
	if c.state.temp {
		return nil
	}
	dirs, err := filepath.Glob(filepath.Join(escapeGlob(c.config.StateDir), "*", c.id.Token()))
	if err != nil {
		return fmt.Errorf("drop old keys: look for other buses: %w", err)
	}
	for _, dir := range dirs {
		if dir == filepath.Clean(c.state.dir) {
			continue
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		to, err := stateFile[resealedTo]{filepath.Join(dir, resealedFile)}.read()
		if err != nil {
			return fmt.Errorf("drop old keys: %w", err)
		}
		if to.CardSeq < newest {
			return bus.Errorf(bus.CodeConflict, "drop old keys: the identity is used on another bus too, whose keys are not yet sealed again to card %d; its state is in %s", newest, dir)
		}
	}
	return nil
}

// escapeGlob makes a path a pattern that only matches itself.
func escapeGlob(path string) string {
	var out []rune
	for _, r := range path {
		if r == '*' || r == '?' || r == '[' || r == '\\' {
			out = append(out, '\\')
		}
		out = append(out, r)
	}
	return string(out)
}
