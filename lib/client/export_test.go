package client

import "context"

// Report has the client report now what it otherwise reports in a while.
func (c *Client) Report(ctx context.Context) error { return c.report(ctx) }
