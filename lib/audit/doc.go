// Package audit keeps the audit log of a node: what was changed in its
// directory, by whom, and what came of it, as one chain of entries each of
// which hashes the one before it.
//
// Start with [Open] and [Log.Begin], which a node calls before it changes
// anything, and [Pending.End] after it. [Scan] reads and checks the log of a
// directory, also while a node writes it; [Chain] checks lines that came from
// somewhere else.
//
// What it guarantees: an entry has reached the disk when Begin or End returns,
// and Begin's error means that the change must not be made. No bit of a
// complete entry can change without Scan noticing, no entry can be left out and
// none moved. What a crash left of an entry at the very end is cut off when the
// log is opened again, and said.
//
// What it does not: whoever can write the files can write another chain from
// any entry on, or leave away the latest entries. A head hash that was noted
// elsewhere proves that nothing up to it was changed; see [Summary]. The log
// holds no content of rooms and no secret.
//
// The format is described in docs/operations.md.
package audit
