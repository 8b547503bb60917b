// Package client is the public Go API of unibus: an end-to-end encrypted
// message bus whose servers route and store frames and never hold a key that
// opens one.
//
// Start with [Dial]. A [Client] makes, finds and accepts rooms; a [Room]
// publishes ([Room.Publish], [Room.PublishAsync]), reads ([Room.Messages]) and
// changes its membership ([Room.Invite], [Room.Remove], [Room.Rotate]). The
// examples run against a node in the same process and are the shortest way in.
//
//   - config.go, dial.go: [Config] and connecting.
//   - rooms.go, chain.go, members.go: rooms, their verified chains of records,
//     and new records.
//   - publish.go, flight.go, ack.go: batching, what is on its way, and answers.
//   - messages.go, reader.go: [Room.Messages], its order and its events.
//   - tail.go, catchup.go, pull.go: how persisted rooms are followed and read
//     from the past. live.go: rooms that are not stored.
//   - cursor.go: [Cursor], a place in a room that survives restarts.
//   - users.go, resolve.go, cards.go: accounts, handles and cards.
//   - state.go: what is kept on disk.
//
// # What it guarantees
//
// Nothing is delivered, and no key is used or sealed to, before every check of
// the protocol has passed; what fails one is reported with the code of its
// failure, in the iteration it concerns or to [Config.OnEvent], and never
// skipped in silence. A publish has three outcomes: acknowledged (nil), refused
// (an error with the reason's code: [bus.CodeRefused], [bus.CodeForbidden],
// [bus.CodeQuota], …) and unknown ([bus.CodeUnknownOutcome]). Retries send the
// same bytes under the same id, so that nothing is stored twice. Within a
// session messages arrive in the order they were sent; a missing one is a
// [GapError]. Readers of persisted rooms lose nothing and see nothing twice
// when servers restart or connections break, and need to do nothing for it.
//
// # What it does not do
//
// It prints nothing, reads no environment and no files but those below
// [Config.StateDir]. It does not retry what was refused, and does not make up
// for a full disk or a revoked account. Live rooms are at most once.
package client
