// Package client is the public Go API of unibus: an end-to-end encrypted
// message bus whose servers route and store frames and never hold a key that
// opens one.
//
// Start with [Dial]. A [Client] makes, finds and accepts rooms; a [Room]
// publishes ([Room.Publish], [Room.PublishAsync]), reads ([Room.Messages]), asks
// and answers ([Room.Request], [Room.Serve]), hands out work ([Room.Work]) and
// changes its membership ([Room.Invite], [Room.Remove], [Room.Rotate]). The
// examples run against a node in the same process and are the shortest way in.
//
//   - config.go, dial.go, link.go: [Config] and connecting. control.go: requests.
//   - rooms.go, chain.go, branch.go, model.go: rooms and their verified chains of
//     records. fork.go, lineage.go: rooms with two branches. members.go,
//     unsettled.go, notices.go: new records, until they count, and who hears of them.
//   - publish.go, batch.go, publisher.go, flight.go, ack.go: messages on their
//     way out, from a queue into frames to the answers for those.
//   - messages.go, reader.go, missing.go, seen.go: [Room.Messages], order, waiting
//     for records and keys, and what was read before. heights.go: what a sender
//     who is removed has sent. proofs.go: what proves that one equivocates.
//   - request.go, work.go: [Room.Request] and who answers: [Room.Serve], and
//     [Room.Work] for messages of any kind.
//   - feed.go, follow.go, catchup.go, pull.go: the frames of persisted rooms.
//     live.go: those of rooms that are not stored.
//   - cursor.go, settle.go: [Cursor], a place in a room that survives restarts, and
//     which messages it counts as done.
//   - users.go, resolve.go, cards.go: accounts, handles and cards.
//   - blob.go, blobput.go, blobget.go, blobhttp.go: files beside messages.
//   - event.go: [Event]. state.go: what is kept on disk.
//
// # What it guarantees
//
// Nothing is delivered, and no key is used or sealed to, before every check of
// the protocol has passed; what fails one is reported with the code of its
// failure, in the iteration it concerns or to [Config.OnEvent], and never
// skipped in silence. Nothing is sent under a head that is on one of two branches,
// or that another process of the same state has left behind, from the next look
// for records on, which is [bus.HeadPoll] away at most. While a record of its own
// may still become the head a client sends that one again and signs no other,
// unless a server has refused it outright.
//
// A publish has three outcomes: acknowledged (nil), refused
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
