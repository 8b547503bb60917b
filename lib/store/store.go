package store

import (
	"context"
	"time"
)

// Bucket is one of the separate key spaces of a store, each with an order of
// events of its own.
type Bucket string

// The buckets.
const (
	Control Bucket = "control" // what changes: users, cards, room heads, node leases
	Records Bucket = "records" // room records; written once
	Sealed  Bucket = "sealed"  // sealed epoch keys in chunks; written once
	Nonces  Bucket = "nonces"  // spent request nonces; written once, with an end
)

// Buckets returns every bucket.
func Buckets() []Bucket { return []Bucket{Control, Records, Sealed, Nonces} }

// Revision numbers the writes of a bucket, deletes and expiries included, in
// the order they took effect: a later write has a greater revision. Numbers
// may be left out and are never used twice, across restarts either. No write
// has revision 0.
type Revision uint64

// Entry is a key with its value and the revision of the write that set it.
type Entry struct {
	Key      string
	Value    []byte // belongs to whoever received the entry; may be empty
	Revision Revision
}

// Store holds entries under keys in [Buckets]. It is safe for concurrent use.
//
// Every method checks its arguments with the functions of check.go before it
// does anything, and every error has one of these codes of package bus, besides
// those its comment names:
//
//   - [bus.CodeMalformed], [bus.CodeTooLarge]: an argument that can never be
//     right; nothing was done.
//   - [bus.CodeUnavailable]: the store cannot serve now; a write did not happen.
//   - [bus.CodeTimeout]: ctx ended first, and the error wraps ctx.Err(); a
//     write did not happen.
//   - [bus.CodeUnknownOutcome]: a write was sent, and whether it happened, or
//     will, is not known. Only a later read tells.
//   - [bus.CodeClosed]: the store was closed.
//   - [bus.CodeInternal]: a fault in the driver; a write did not happen.
//
// A write that returns no error is durable: it survives the crash of every
// process and machine that the driver promises to survive. A read that begins
// after a write returned sees that write or a later one.
type Store interface {
	// Get returns the entry of a key, or [bus.CodeNotFound] when there is none,
	// when it was deleted, and when its time is over.
	Get(ctx context.Context, b Bucket, key string) (Entry, error)

	// Create makes an entry that does not exist, and fails with
	// [bus.CodeExists], changing nothing, when it does. A key that was deleted
	// or whose time is over does not exist. Of several creators at once,
	// exactly one succeeds.
	//
	// With ttl greater than 0 the entry's time is over once ttl has passed, or
	// at most a second later where a driver counts whole seconds. From then on
	// no method sees it; it is deleted some time after without being asked.
	// With ttl 0 the entry stays. The value is copied.
	Create(ctx context.Context, b Bucket, key string, value []byte, ttl time.Duration) (Revision, error)

	// Update replaces the value of an entry whose revision is exactly last,
	// and fails with [bus.CodeConflict], changing nothing, in every other case,
	// also where no entry exists. Of several updates from one revision,
	// exactly one succeeds. The entry stays until it is deleted, even if it
	// was created with a ttl. The value is copied.
	Update(ctx context.Context, b Bucket, key string, value []byte, last Revision) (Revision, error)

	// Delete removes an entry whose revision is exactly last. It fails, changing
	// nothing, with [bus.CodeNotFound] where no entry exists and with
	// [bus.CodeConflict] where its revision is another. Deleting is a write and
	// has a revision, which watchers see.
	Delete(ctx context.Context, b Bucket, key string, last Revision) error

	// List returns the entries whose keys begin with prefix, compared as text,
	// sorted by key; all of them for "". Every entry that existed, unchanged,
	// from before the call until it returned is there. List costs memory for
	// all it returns; a prefix that ends in '/' is the cheapest.
	List(ctx context.Context, b Bucket, prefix string) ([]Entry, error)

	// Watch follows the entries whose keys begin with prefix, compared as
	// text; all of them for "". It runs until its Stop, the end of ctx, or the
	// end of the store, as [Watcher] says.
	Watch(ctx context.Context, b Bucket, prefix string) (Watcher, error)

	// Close ends every watch, waits for the calls in progress and lets go of
	// the store. Calls after it fail with [bus.CodeClosed]; closing again does
	// nothing. A store that was closed can be opened again.
	Close() error
}

// Event is what a watch tells: an entry that was written, with the Key and the
// Revision of a delete where Deleted is set, or, where Synced is set and
// everything else is zero, that the watch has caught up.
type Event struct {
	Entry
	Deleted bool // deleted, or its time was over; no value
	Synced  bool // every entry that existed when the watch began was delivered
}

// Watcher follows a part of a bucket, from what is there to what changes.
//
// It delivers in revision order, each revision at most once:
//
//   - every entry that existed when the watch began and still has the same
//     revision when its turn comes,
//   - one Synced event after the last of them; later changes may come before it,
//   - every later change. A revision may be left out only when the same key
//     has a later one, which is delivered in its turn. So the last event of a
//     key always tells its present state, and whoever writes a key once is
//     certain that it is seen.
//
// A Deleted event may name a key that was never delivered, and comes some time
// after the fact for an entry whose time was over.
//
// A watcher never makes writers wait, however slow its consumer, and holds a
// bounded number of events: a driver reads on from the last revision delivered
// when the consumer asks for more. What a driver must keep for that, deletes
// above all, is bounded too: a watcher that fell too far behind ends with
// [bus.CodeGap] instead of leaving out the last event of a key. Its consumer
// begins a new watch.
type Watcher interface {
	// Events returns the channel of events, always the same. It is closed when
	// the watch has ended.
	Events() <-chan Event

	// Err tells why the watch ended: nil while it runs and after Stop,
	// [bus.CodeTimeout] wrapping ctx.Err() after the end of its context,
	// [bus.CodeClosed] after the store's Close, [bus.CodeGap] and
	// [bus.CodeUnavailable] as above. It is settled once Events is closed.
	Err() error

	// Stop ends the watch and returns when Events is closed. Events that were
	// not received are dropped. It may be called several times, from any
	// goroutine.
	Stop()
}
