// Package sqlite is the store of a single node: one SQLite file (pure Go, no
// cgo) that one process at a time opens.
//
// Start with [Open]; [ParseURL] reads the "sqlite:///path" that names a store
// on a command line.
//
// It guarantees what package store asks, against kill -9 and power loss: the
// write-ahead log is flushed before a write returns (WAL, synchronous=FULL).
// Every write is one transaction, and one writer at a time makes them; reads
// do not wait for it. A disk that fails leaves its last write with an unknown
// outcome and ends the store, since nothing that such a disk says later can be
// trusted; a full disk only refuses writes. The files are readable by their
// owner alone, and with [Options.Key] opaque to whoever takes the disk.
//
// It does not replicate, and it is not for file systems shared between
// machines, whose locks cannot be trusted.
//
// # Layout
//
// Each bucket is a table. A row's number is its revision, so that a table read
// in the order of its rows is the history that a watch tells, without what was
// overwritten. A delete leaves a row without a value, a tombstone, until every
// watch has passed it, or for an hour at most; see watch.go and sweep.go.
//
// Beside "x.db" lie "x.db-wal" and "x.db-shm" while the store is open, SQLite's
// own, and "x.db.lock", whose lock keeps other processes out and which must
// not be deleted.
package sqlite
