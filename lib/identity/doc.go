// Package identity holds who somebody is on a bus: the secret keys, the cards
// that publish the public halves, and the bus root that vouches for handles.
//
// Start with [Generate] and [Load] for an [Identity], [NewCard] and [ParseCard]
// for a [Card]. An identity has one Ed25519 key that signs what it says, one or
// more HPKE keys that others seal to, and for every bus a [Transport] key
// derived from the first, which is all that servers ever see in use. A card
// binds the three together for one bus and for at most 90 days.
//
//   - identity.go, kem.go: [Identity], its keys, [Seal] and OpenSealed.
//   - transport.go: [Transport] and the text form of its key.
//   - file.go, update.go: identity and root files, with or without a passphrase,
//     and [Update], which changes one while nobody else does.
//   - card.go, pins.go: [Card], and [CardPins], which notices an older card or a
//     second one of the same number.
//   - root.go, entries.go: [Root] and the directory entries it signs.
//   - revocation.go: [Revocation], by which a key or the root ends an account.
//
// # Formats
//
// All integers are big-endian, x<n> carries a length of n bytes, trailing bytes
// are an error, and signatures are those of package wire under the label named.
//
//	card:    u8 1, u8 1, sign_pub[32], bus_id[32], transport_pub[32], u16 kem, kem_pub<2>,
//	         u64 seq, u64 not_before, u64 not_after || sig[64]                       label "card"
//	entry:   u8 1, u8 4, bus_id[32], root_pub[32], handle<1>, id[32], u64 seq,
//	         u64 not_after || sig[64]                                                label "dir"
//	revoke:  u8 1, u8 5, bus_id[32], sign_pub[32], signer[32] || sig[64]             label "revoke"
//	secret:  sign_seed[32], n × { u16 kem, u64 card_seq, seed<2> }, card_seq ascending, n from 1
//	pins:    n × { id[32], u64 seq, card_hash[32] }, id ascending
//
// A secret is kept in a file of text: the line "unibus-identity-1", any number
// of lines that begin with "#", and one line of unpadded base64url. The file of
// a bus root says "unibus-root-1" and holds the 32 bytes of its seed, that of a
// revocation "unibus-revocation-1". With a
// passphrase the whole file is wrapped by age (scrypt), armored.
//
// # What it guarantees
//
// Every card and entry that a Parse function returns is signed by the key it
// names, within its limits, and free of keys under which signatures or seals
// would mean nothing. Bytes, hashes and signatures are those that arrived;
// nothing is encoded again. Values that hold secrets print as their public
// halves under every verb of package fmt.
//
// # What it does not do
//
// It does not decide whether somebody may use a bus, and does not look at the
// clock: [Card.CheckTime] is the caller's to call. A card proves possession of
// the signing key only, not of the transport and HPKE keys it names. Secrets are
// not wiped from memory, which Go does not let a program do reliably.
package identity
