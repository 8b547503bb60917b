// Package broker runs the NATS server inside the daemon: its accounts, its
// streams, the way into it for the daemon itself and the door for members.
//
// Start with [Start], which returns once JetStream serves and the streams are
// there, and with [Broker.Open], which lets members in through an
// authenticator (package access has it). [Broker.Conn] is the daemon's own way
// in. [Broker.Failed] tells when the process should end.
//
// There are two accounts, because NATS checks whether a connection may publish
// to a subject but not to which subject it has the answer sent. Members are in
// account BUS, which has no JetStream and reaches the streams, in account
// STORE, through three services only: publishing to "ub.d.>", asking about a
// consumer and fetching from one. An answer is always delivered in BUS, so no
// reply subject gets anything done in STORE.
//
// A message that was acknowledged has been synced to disk. What does not fit
// the quota of a shard is refused, never stored at the expense of older ones.
//
// The package does not know users, rooms or records, and decides nothing about
// who may do what.
package broker
