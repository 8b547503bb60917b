// Package room is the signed history of a room: who its members are, what they
// may do, and the key of each epoch.
//
// Start with [Record]. A room is a chain of records, one an epoch, each signed
// by somebody to whom the record before it gave authority. The first names the
// room: its hash is the room's id. [Create] makes it, [Next] makes every later
// one; inviting, removing, rotating and renewing are the same act, because each
// record brings a new key. [ParseRecord] reads one, [Chain] accepts them in
// order, [Pins] keep how far a client has come.
//
//   - record.go: [Record], its form and what can be checked of it alone.
//   - rules.go: what the record before allows ([Record.Follows], [CheckGenesis]).
//   - make.go: [Create] and [Next].
//   - key.go: [Key], sealed copies, the name, the key of the epoch before.
//   - chain.go, fork.go: [Chain], [ForkError].
//   - pins.go: [Pins].
//
// # Format
//
// All integers are big-endian, x<n> carries a length of n bytes, trailing bytes
// are an error. In the first record room_id, epoch and prev are zero, also where
// they are hashed, sealed or derived from.
//
//	record:  u8 1, u8 2, room_id[32], u64 epoch, prev[32], u64 created, u64 not_after,
//	         salt[16], u8 suite, u8 flags, u32 rotate_s, u32 max_age_s, u32 grace_s,
//	         name_ct<2>, history_ct<1>, authorities<2>{ sign_pub[32], u8 role },
//	         members_hash[32], cut<2>{ id[32], session[16], u64 last_seq },
//	         resolves<1>{ RH[32] }, key_commitment[32], signer[32] || sig[64]   label "record"
//	members: members<4>{ id[32], card_hash[32], u8 role, sealed_hash[32] }
//
//	RH             = H("record-hash", record || sig)
//	members_hash   = H("members", members with their length)
//	sealed_hash    = H("sealed-hash", sealed)
//	key_commitment = KDF(K_e, salt, "commit", room_id || epoch)
//	name_ct        = nonce[24] || AEAD(KDF(K_e, salt, "name", room_id || epoch), nonce, name, AAD prev)
//	history_ct     = nonce[24] || AEAD(KDF(K_e, salt, "history", room_id || epoch), nonce, K_{e-1}, AAD prev)
//	sealed         = HPKE seal to the card's key, info LP("seal") || room_id || epoch || prev ||
//	                 salt || id || card_hash || key_commitment, plaintext K_e
//
// Authorities ascend by sign_pub, members by id, cuts by id and session,
// resolves by value, all strictly. The AEAD is that of the room's suite. A room
// without encryption has its name in the clear, a zero commitment, zero sealed
// hashes, and no history. history_ct is there exactly when the history flag is
// set and the record is not the first.
//
// # Order of checks
//
// What can be told of a record alone comes first ([ParseRecord]: form, limits,
// policy, member list, keys, signature), then its place in the chain, the
// signer's authority in the head, the change ([Record.Follows]), and last the key
// that the own entry opens to and the name under it ([Chain.AcceptWithKey]). The
// first failure is the one reported, and nothing has changed.
//
// # Forks
//
// Two lawful records that follow the same one are a fork; if one key signed
// both, an equivocation. Either stops the room for whoever sees it ([ForkError]).
// An owner ends it with a record that names in resolves the first record of the
// branch that is lost. Those on the lost branch change over ([Chain.Switch]) when
// that owner is an owner in the head they leave too, so that nobody undoes the own
// removal, and when the chosen branch has become the longer one, so that head
// pins never move back.
//
// # Who may change what
//
// The role that counts is the signer's role in the head, the record before.
//
//	                                                       admin   owner
//	times (created, not_after), salt, key, cards            yes     yes
//	add or remove readers and writers, move between them    yes     yes
//	cut the sessions of whom this record stops from writing yes     yes
//	add, remove, promote or demote admins and owners        no      yes
//	name                                                    no      yes
//	flags persist, history, pad; rotate, max_age, grace     no      yes
//	resolve a fork                                          no      yes
//	flag encrypt, suite                                     no      no
//
// A room always has an owner. A server sees the name of rooms without
// encryption only, so in the others the members hold an admin to this rule, by
// [Chain.AcceptWithKey].
//
// # What it guarantees
//
// A [Record] is signed, within its limits, and consistent in itself. A [Chain]
// holds only records each of which was allowed by the one before, from the room's
// id on; a failure changes nothing. Bytes, hashes and signatures are those that
// arrived; nothing is encoded again. Keys print as nothing under package fmt.
//
// # What it does not do
//
// It does not look at the clock ([Record.CheckTime] is the caller's to call), does
// not fetch cards or keys, does not know which users are active, and does not
// move a pin when a chain moves. It cannot stop an authority from sealing a
// useless key to a member, only that member from accepting it.
package room
