package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

const (
	// cardFetchers is how many cards are fetched at once.
	cardFetchers = 8
	// cardFresh is how long a fetched card counts as its owner's latest.
	cardFresh = 10 * time.Minute
)

// cardBook remembers cards of others that were fetched and verified.
type cardBook struct {
	mu     sync.Mutex
	latest map[bus.ID]fetchedCard
}

type fetchedCard struct {
	card *identity.Card
	at   time.Time
}

// fetchCard gets and checks one card. Its errors have
// [bus.CodeCardMismatch] or [bus.CodeWrongBus] for another card than asked for.
func (c *Client) fetchCard(ctx context.Context, path string, id bus.ID) (*identity.Card, error) {
	var reply api.Card
	if err := c.control.call(ctx, http.MethodGet, path, nil, &reply); err != nil {
		return nil, err
	}
	card, err := identity.ParseCard(reply.Card)
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch card of %s: %w", id, err)
	case card.ID() != id:
		return nil, bus.Errorf(bus.CodeCardMismatch, "fetch card of %s: the server sent that of %s", id, card.ID())
	case card.BusID != c.config.BusID:
		return nil, bus.Errorf(bus.CodeWrongBus, "fetch card of %s: it is of bus %s", id, card.BusID)
	}
	return card, nil
}

// latestCards returns the newest cards of identities, checked against the
// newest ones ever seen: [bus.CodeRollback], [bus.CodeCardFork].
func (c *Client) latestCards(ctx context.Context, ids []bus.ID) (map[bus.ID]*identity.Card, error) {
	now := time.Now()
	cards := make(map[bus.ID]*identity.Card, len(ids))
	var fetch []bus.ID
	c.book.mu.Lock()
	for _, id := range ids {
		if have, ok := c.book.latest[id]; ok && now.Sub(have.at) < cardFresh {
			cards[id] = have.card
		} else if id == c.ID() {
			cards[id] = c.card()
		} else {
			fetch = append(fetch, id)
		}
	}
	c.book.mu.Unlock()
	if len(fetch) == 0 {
		return cards, nil
	}
	fetched := make([]*identity.Card, len(fetch))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(cardFetchers)
	for i, id := range fetch {
		group.Go(func() (err error) {
			fetched[i], err = c.fetchCard(groupCtx, api.CardPath(id), id)
			return err
		})
	}
	err := group.Wait()
	if err == nil {
		err = c.cardPins.Observe(ctx, fetched...)
	}
	if err != nil {
		c.reportCard(err)
		return nil, err
	}
	c.book.mu.Lock()
	defer c.book.mu.Unlock()
	for i, id := range fetch {
		cards[id] = fetched[i]
		c.signers.Store(id, fetched[i].SignPub)
		c.book.latest[id] = fetchedCard{fetched[i], now}
	}
	return cards, nil
}

// learnSigner fetches the signing key of a member from the card its record
// names.
func (c *Client) learnSigner(ctx context.Context, id bus.ID, hash bus.CardHash) error {
	if _, ok := c.signers.Load(id); ok {
		return nil
	}
	card, err := c.fetchCard(ctx, api.CardByHashPath(id, hash), id)
	if err == nil && card.Hash() != hash {
		err = bus.Errorf(bus.CodeCardMismatch, "fetch card of %s: the server sent %s for %s", id, card.Hash(), hash)
	}
	if err == nil {
		c.signers.Store(id, card.SignPub)
	}
	c.reportCard(err)
	return err
}

// reportCard raises an event for a card that is a lie.
func (c *Client) reportCard(err error) {
	switch bus.CodeOf(err) {
	case bus.CodeCardMismatch, bus.CodeWrongBus, bus.CodeRollback, bus.CodeCardFork, bus.CodeMalformed, bus.CodeWeakKey, bus.CodeBadSignature:
		c.events.raise(EventSecurity, bus.RoomID{}, err, "")
	}
}

// card returns the client's own card.
func (c *Client) card() *identity.Card { return c.ownCard.Load() }

// identity returns the client's identity, with its newest keys.
func (c *Client) identity() *identity.Identity { return c.self.Load() }

// reloadIdentity takes over keys that another process has added, and reports
// whether there were any.
func (c *Client) reloadIdentity() bool {
	if c.config.Keeper == nil {
		return false
	}
	id, err := c.config.Keeper.Load()
	if err != nil || id.ID() != c.ID() {
		c.log.Warn("client", "reload_identity", c.ID().String(), "err", err)
		return false
	}
	for {
		old := c.self.Load()
		if id.LatestKEM().CardSeq <= old.LatestKEM().CardSeq {
			return false
		}
		if c.self.CompareAndSwap(old, id) {
			return true
		}
	}
}

// halfLife reports whether a card that is still valid is to be renewed.
func halfLife(card *identity.Card, now time.Time) bool {
	return now.Sub(card.NotBefore) > card.NotAfter.Sub(card.NotBefore)/2
}

// ensureCard makes sure that the servers have a valid card of this identity:
// the one they have, the one kept in the state, or a new one. It makes a new
// key and card past half-life, where there is a Keeper to store the key.
func (c *Client) ensureCard(ctx context.Context) error {
	unlock, err := durable.Lock(ctx, c.state.path("card.lock"))
	if err != nil {
		return fmt.Errorf("check own card: %w", err)
	}
	defer unlock()
	c.reloadIdentity()
	card, shown, err := c.findCard(ctx)
	if err != nil {
		return err
	}
	now := c.config.Now()
	switch {
	case card == nil:
		card, err = c.newCard(now)
	case !halfLife(card, now):
	case c.config.Keeper != nil:
		card, err = c.renewCard(ctx, now)
		shown = false
	case now.After(card.NotAfter):
		err = bus.Errorf(bus.CodeExpired, "check own card: it expired at %s; its renewal needs a new key, which this client cannot store", card.NotAfter.Format(time.RFC3339))
	default:
		c.events.raise(EventCard, bus.RoomID{}, bus.Errorf(bus.CodeExpired, "own card expires at %s and is not renewed", card.NotAfter.Format(time.RFC3339)), "")
	}
	if err != nil {
		return err
	}
	return c.useCard(ctx, card, shown)
}

// useCard makes a card the own one, and publishes it unless the servers have it.
func (c *Client) useCard(ctx context.Context, card *identity.Card, shown bool) error {
	if !shown {
		if err := c.publishCard(ctx, card); err != nil {
			return err
		}
	}
	if old := c.ownCard.Swap(card); old != nil && old.Seq < card.Seq {
		c.events.raise(EventCard, bus.RoomID{}, nil, fmt.Sprintf("renewed, card %d is valid until %s", card.Seq, card.NotAfter.Format(time.RFC3339)))
	}
	c.signers.Store(c.ID(), card.SignPub)
	return nil
}

// findCard returns the card of the identity's latest key, and whether the
// servers have it: theirs, or else the one in the state, nil where there is none
// yet. A card of one number is made once, so what another machine made counts.
func (c *Client) findCard(ctx context.Context) (card *identity.Card, shown bool, err error) {
	latest := c.identity().LatestKEM()
	theirs, err := c.fetchCard(ctx, api.CardPath(c.ID()), c.ID())
	switch code := bus.CodeOf(err); {
	case err == nil && theirs.Seq > latest.CardSeq:
		return nil, false, bus.Errorf(bus.CodeRollback, "check own card: the servers have card %d, and the identity has no key later than %d; it was restored from an older copy", theirs.Seq, latest.CardSeq)
	case err == nil && theirs.Seq == latest.CardSeq && !bytes.Equal(theirs.KEMPub, latest.Pub()):
		return nil, false, bus.Errorf(bus.CodeCardFork, "check own card: card %d on the servers is for another key; the identity was copied, and both copies were renewed", theirs.Seq)
	case err == nil && theirs.Seq == latest.CardSeq:
		return theirs, true, nil
	case err == nil || code == bus.CodeNotFound || code == bus.CodeUnauthenticated || code == bus.CodeForbidden:
		// No card, or an old one: servers know who somebody is from its card.
	default:
		return nil, false, err
	}
	raw, err := os.ReadFile(c.state.path("card"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read own card: %w", err)
	}
	kept, err := identity.ParseCard(raw)
	if err != nil {
		return nil, false, fmt.Errorf("read own card: %w", err)
	}
	if kept.ID() != c.ID() || kept.BusID != c.config.BusID || !bytes.Equal(kept.KEMPub, latest.Pub()) {
		return nil, false, nil
	}
	return kept, false, nil
}

func (c *Client) newCard(now time.Time) (*identity.Card, error) {
	// A little in the past, for servers whose clocks are behind.
	from := now.Truncate(time.Second).Add(-time.Minute)
	return identity.NewCard(c.identity(), c.config.BusID, from, from.Add(bus.MaxCardLife))
}

// renewCard adds a key to the identity, stores it, and makes its card.
func (c *Client) renewCard(ctx context.Context, now time.Time) (*identity.Card, error) {
	err := c.updateIdentity(ctx, func(id *identity.Identity) error {
		_, err := id.AddKEM(rand.Reader)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("renew card: %w", err)
	}
	return c.newCard(now)
}

// updateIdentity changes the stored identity, and uses it from then on.
func (c *Client) updateIdentity(ctx context.Context, change func(*identity.Identity) error) error {
	id, err := c.config.Keeper.Update(ctx, func(id *identity.Identity) error {
		if id.ID() != c.ID() {
			return bus.Errorf(bus.CodePinChanged, "the stored identity is %s, not %s", id.ID(), c.ID())
		}
		return change(id)
	})
	if err != nil {
		return err
	}
	c.self.Store(id)
	return nil
}

// publishCard keeps the card and hands it to the servers.
func (c *Client) publishCard(ctx context.Context, card *identity.Card) error {
	// First kept, then shown: a card that was shown must never be made again.
	if err := durable.WriteFile(c.state.path("card"), card.Bytes(), stateFileMode); err != nil {
		return fmt.Errorf("keep own card: %w", err)
	}
	if err := c.control.call(ctx, http.MethodPut, api.CardPath(c.ID()), api.Card{Card: card.Bytes()}, nil); err != nil {
		return fmt.Errorf("publish own card: %w", err)
	}
	return nil
}
