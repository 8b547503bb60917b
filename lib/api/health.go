package api

// Health is the posture of a node as it measured it, not as it was configured.
// A field that was not or cannot be measured has its zero value, or is left
// out where zero would say something.
type Health struct {
	Status           string `json:"status"` // "ok" as soon as the process serves
	Version          string `json:"version"`
	Node             string `json:"node"`
	UptimeS          int64  `json:"uptime_s"`
	Auth             string `json:"auth"`              // "enforce"
	TLS              bool   `json:"tls"`               // clients can only come over TLS
	RouteTLS         bool   `json:"route_tls"`         // nodes talk over mutual TLS
	ACL              bool   `json:"acl"`               // strangers are asked for proof of identity, as seen at the own listener
	AtRest           bool   `json:"at_rest"`           // the store's files were read back and are opaque
	Sync             string `json:"sync"`              // "always" if every write reaches the disk before it is acknowledged
	Store            string `json:"store"`             // "sqlite" or "jetstream"
	Replicas         int    `json:"replicas"`          // copies of each write
	Quorum           bool   `json:"quorum"`            // own writes come back
	Leader           string `json:"leader,omitempty"`  // node that leads the store
	FollowersCurrent int    `json:"followers_current"` // followers that have everything, of Replicas-1
	Routes           int    `json:"routes"`            // other nodes connected
	CertDaysLeft     *int   `json:"cert_days_left,omitempty"`
	ClockSkewMS      *int64 `json:"clock_skew_ms,omitempty"` // largest difference to another node
	Rooms            int    `json:"rooms"`
	Users            int    `json:"users"`
}

// Ready says whether a node can serve and, if not, why.
type Ready struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
	Notes   []string `json:"notes,omitempty"` // what needs attention although it can serve
}
