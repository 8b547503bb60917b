// Package bus is the vocabulary of unibus: the identifiers, roles, policies,
// limits, subject names and error codes that every other package speaks.
//
// Read it first. It imports the standard library only, holds no state, does no
// input or output and no cryptography, and is safe for concurrent use.
//
//   - ids.go: the 32-byte identifiers ([ID], [RoomID], [RecordHash], …), [SignPub],
//     [SessionID], and their text forms.
//   - role.go: [Role], [UserRole], [Policy], [Suite] and [RoomFlags].
//   - name.go: [Handle] and [RoomName], with their grammars.
//   - limits.go: every bound of the protocol, in one place.
//   - header.go: the keys of message headers that have a meaning.
//   - subject.go: the NATS subjects, streams and consumers a bus uses.
//   - errors.go and codes.go: [Error] and the stable [Code] of each failure.
//
// What the identifiers are hashes of, and under which labels, is settled by
// packages wire, identity, room and frame; docs/protocol.md has it in one piece.
package bus
