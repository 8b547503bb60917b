// Package blob seals files, of any size and streamed, that go beside messages:
// the servers keep the sealed bytes under their SHA-256, and a [Ref], which
// holds the key, travels in a message.
//
// Start with [Seal] and [Open]; [Ref.Encode] and [Parse] are for the message,
// whose header [bus.HeaderBlob] holds the reference.
//
// Sealed bytes are an age file (age-encryption.org/v1) for one recipient of the
// hybrid post-quantum kind, whose identity was made for this blob alone:
//
//	sealed  = header[1627] || nonce[16] || content and padding in chunks of 64 KiB, each with a tag[16]
//	Ref     = u8 1, identity<1>, u64 size, u64 sealed_size, sha256[32], sealed_sha256[32], name<1>, media<1>
//
// What it guarantees: memory does not grow with the size of a blob. Whatever
// [Open] gives up to io.EOF is what the maker of the reference sealed, whole;
// anything else ends in an error with [bus.CodeBlobMismatch] instead. Because
// what comes before that error is real content cut short at worst, callers that
// must not show a part read twice, or to a place that they can discard.
//
// What it does not do: it says nothing about who made a reference, which is what
// the signature of the message around it is for, and it stores and sends nothing.
package blob
