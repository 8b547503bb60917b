package client

import (
	"context"

	"github.com/enmanuel/unibus/lib/identity"
)

// Report has the client report now what it otherwise reports in a while.
func (c *Client) Report(ctx context.Context) error { return c.report(ctx) }

// Upkeep is what a running client does for its rooms every now and then.
func (r *Room) Upkeep(ctx context.Context) { r.upkeep(ctx) }

// PublishCard shows the servers a card that was made elsewhere.
func (c *Client) PublishCard(ctx context.Context, card *identity.Card) error {
	return c.publishCard(ctx, card)
}
