// Package frame makes and opens the messages of a room: up to 1,024 records of
// an application, encrypted once and signed once.
//
// Start with [Sealer] to send and [Opener] to receive. A client keeps a
// [Budget] while it gathers values of [Record], seals them when the frame before
// is on its way, and publishes the bytes under [MsgID]. At the other end an Opener
// holds each frame against a [View] of the room's records and a [Window] of
// what was accepted before, and an [Order] puts the frames of each session in
// a row and tells what is missing.
//
//   - header.go: [Header], [ParseHeader] and the sizes.
//   - record.go, inner.go: [Record], its limits, the form inside the ciphertext.
//   - statement.go: [Statement], what is hashed and signed; the session's key.
//   - seal.go: [Sealer].
//   - view.go, open.go, admit.go: [Opener], the checks and their order.
//   - window.go, sessions.go: [Window] and [Height].
//   - proof.go: [EquivocationProof].
//   - order.go: [Order]. fetch.go: [FetchQueue].
//
// # Format
//
// All integers are big-endian, x<n> carries a length of n bytes, and every byte
// belongs to a field. K_e is the key of the epoch and RH the hash of the room
// record it begins with; H, KDF and the signature are those of package wire.
//
//	frame:   header[138] || ct || sig[64]                               at most 262,144 bytes
//	header:  "UB", u8 1, u8 3, u8 suite, u8 flags, room_id[32], u64 epoch, epoch_tag[8],
//	         sender[32], session[16], u64 seq, nonce[24], u32 len ct
//	inner:   u64 sent_us, u16 n, n × { headers<2>{ key<1>, value<2> }, body<4> }, zeros
//
//	epoch_tag  = RH[:8]
//	K          = KDF(K_e, salt RH, "frame-key", suite || sender || session, 32 bytes)
//	ct         = AEAD(K, nonce, inner, additional data header)          suites 1 and 2
//	ct         = inner                                                  suite 0
//	frame_hash = H("frame-hash", header || SHA-256(ct))
//	sig        = Sign("frame", frame_hash)
//
// suite and flags are those of the policy in the room record of the epoch;
// suite and the encrypt flag (bit 0) are the same in all epochs of a room.
// room_id is the room's in every epoch, the first included. sender is SHA-256
// of the signing key, session 16 random bytes a process, and seq runs from 0 in
// each room and session, across epochs. nonce is 24 random bytes, in suite 0 too.
//
// sent_us is in microseconds since 1970 and at most 253402300799999999, the end
// of the year 9999. n is 1 to 1,024. The keys of a record's headers have 1 to 255
// bytes and ascend strictly, compared byte by byte; the headers of a record
// have 16,384 bytes at most, headers and body together 261,910. inner has
// 261,926 bytes at most in every suite.
//
// Without the pad flag (bit 3) there are no zeros. With it, content of n bytes,
// which is all of inner but the zeros, is followed by as many as make
// min(Padmé(n), 261,926), where with E = ⌊log2 n⌋ and S = ⌊log2 E⌋ + 1 Padmé(n)
// is n rounded up to a multiple of 2^(E−S).
//
// # What it guarantees
//
// [Opener.Open] names its checks and their order. A frame it returns was signed
// by a member who could write in its epoch, in that member's own name, for
// this room, session and seq, on the branch of the room's history that was
// accepted here; it was not opened before, and nothing in it can be encoded
// another way. A frame it refuses changes nothing and shows nothing. Two frames
// that a sender has signed under one seq come back as [EquivocationProof].
//
// An encoder here writes nothing that the decoder would refuse. Sealing
// allocates nothing a record; opening neither.
//
// # What it does not do
//
// It keeps no clock and starts no goroutine: time comes in by argument. It does
// not fetch records or cards, move heads, persist anything, or publish; it does
// not tell a sender that its epoch is over. It cannot see that the newest frames
// of a session are missing, nor those before the first it sees. None of its
// types is safe for concurrent use; what they return is the caller's.
package frame
