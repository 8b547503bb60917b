// Package directory keeps who uses a bus and which records its rooms have: the
// domain rules of the control plane, written once over any [store.Store].
//
// Start with [New] and [Directory], which read and write the store, and with
// [Directory.Follow], which gives a [View]: users, cards and room heads in
// memory, as live as the store's watch. Decisions that must not be late (is
// this an admin, is this the head) ask the Directory; decisions that must be
// cheap (whose key is this, which rooms has it) ask the View and the View's
// [View.Err], which says whether it is current.
//
// What it guarantees, whatever crashes and whoever races:
//
//   - a signing key and a handle belong to one user, and a user is never
//     deleted, only revoked;
//   - the cards of an identity only go forward, and none is lost;
//   - a room has one chain of records. A record and its sealed keys are stored
//     first and the head is moved last, by compare-and-swap: the head is the
//     commit point. What was stored without a head ever reaching it is swept
//     after [OrphanAge];
//   - an operation whose write had an unknown outcome reads again before it
//     says that it lost, and is safe to repeat.
//
// Who may ask for what is decided by package control; a Directory does what it
// is told within the rules. It holds no secret and checks no content of rooms.
//
// Keys, by bucket:
//
//	control   users/<signing key, hex>      account
//	          handles/<handle>              claim: signing key
//	          entries/<handle>              directory entry signed by the bus root
//	          revocations/<signing key>     signed revocation, if there is one
//	          cards/<id>/<card hash>        every card
//	          cards/<id>/latest             which one is the latest
//	          heads/<room>                  epoch and hash of the latest record
//	          nodes/<name>                  lease of a node
//	          bootstrap                     claim: the first admin's signing key
//	records   <room>/<record hash>          record and member list
//	sealed    <room>/<record hash>/<chunk>  sealed keys of 256 members
//	          <room>/<record hash>/<id>     a member's own, sealed again by itself
//	nonces    <transport key>-<nonce>       spent request nonces, for 180 s
package directory
