// Package control is the control plane of a node over HTTP: users, cards,
// handles, rooms, records, sealed keys and cursors, and the local socket beside
// it.
//
// Start with [New] and its [Config], then [Server.Handler] for the routes of
// package api that clients sign their requests to, and [Server.LocalHandler]
// for the user routes that root and the daemon's own user may call without a
// signature through [ListenLocal].
//
//   - server.go: configuration, the table of routes, HTTP servers with deadlines.
//   - request.go: one request from its first header to its reply.
//   - signer.go: who signed a request.
//   - limits.go, throttle.go, conns.go, quota.go: how much one address and one
//     identity may ask for, and how many rooms one may have.
//   - audit.go: what is written down before and after a change.
//   - blobs.go: requests whose content streams.
//   - users.go, cards.go, rooms.go, health.go: what the routes do.
//   - local.go, peer_linux.go: the Unix socket and who is at its other end.
//
// What it guarantees: a request is denied unless everything about its signer
// is known and allows it; an admin is looked up in the store on every call; a
// request that changes something takes effect once, however often it is sent, and
// not before the audit log has it;
// no body is read before its length is bounded; what one address or one
// identity sends is bounded in number, and a refusal says when to come again;
// nothing is written for somebody
// who is no user; and what went wrong inside reaches the log under the request's
// id and not the client. A reply to a change comes once this node's view shows
// it, and once [Config].Settle says that the node acts by it, or after a few
// seconds of waiting for that.
//
// What it does not do: it decides about storage and routing only. What members
// believe comes from the records they verify themselves.
package control
