// Package store is the key-value interface under the control plane: what a
// bus must not lose (users, cards, records, sealed keys, spent nonces) behind
// reads, compare-and-swap writes and watches that miss nothing.
//
// Start with [Store] and [Watcher]: their comments are the obligations of
// every driver, and package storetest checks each of them. Packages sqlite
// (one node) and jetstream (a cluster) are the drivers. [CheckKey] and its
// siblings in check.go are the arguments every driver refuses in the same way.
//
// A store guarantees that a write that returned without an error survives a
// crash, that a read sees every write that returned before it began, and that
// the writes of one bucket have one order, which revisions and watches tell.
// There are no transactions over several keys, and no order between buckets.
// It knows nothing of what it stores: rules about users and rooms are package
// directory's.
package store
