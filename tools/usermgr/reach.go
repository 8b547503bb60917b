package usermgr

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// reach is how far a write got.
type reach struct {
	Store            string `json:"store"` // "sqlite" or "jetstream"
	Node             string `json:"node,omitempty"`
	Offline          bool   `json:"offline,omitempty"` // no node was asked
	Replicas         int    `json:"replicas"`
	Leader           string `json:"leader,omitempty"`
	FollowersCurrent int    `json:"followers_current"`
}

// String says it in a line.
func (r reach) String() string {
	switch {
	case r.Offline:
		return "stored; the node sees it when it starts"
	case r.Replicas <= 1:
		return "stored on this node"
	}
	return fmt.Sprintf("stored: leader=%s followers_current=%d/%d", r.Leader, r.FollowersCurrent, r.Replicas-1)
}

// note tells people, where it is known.
func (r *reach) note(c *cli.Call) {
	if r != nil {
		c.Note("%s", *r)
	}
}

// measure asks a node how its store is doing. base is its control plane.
func measure(ctx context.Context, hc *http.Client, base string) (reach, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+api.HealthPath(), nil)
	if err != nil {
		return reach{}, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return reach{}, bus.Errorf(bus.CodeUnavailable, "ask for health: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return reach{}, api.ReadProblem(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return reach{}, bus.Errorf(bus.CodeUnavailable, "read health: %w", err)
	}
	var h api.Health
	if err := json.Unmarshal(body, &h); err != nil {
		return reach{}, bus.Errorf(bus.CodeMalformed, "read health: %w", err)
	}
	return reach{Store: h.Store, Node: h.Node, Replicas: h.Replicas, Leader: h.Leader, FollowersCurrent: h.FollowersCurrent}, nil
}
