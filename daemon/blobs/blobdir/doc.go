// Package blobdir keeps blobs in a directory of the node's disk. It implements
// [blobs.Store].
//
// Start with [Open]. The directory, which one process may use at a time:
//
//	<2 hex>/<hash>-<user>                  complete; the first two digits of the hash
//	uploads/<user>-<hash>-<size>-<done>    begun: done bytes of size are checked and durable
//	damaged/<hash>-<user>                  found to have other bytes than its hash
//
// Hashes and users are 64 hexadecimal digits. Names hold all there is to know,
// so that there is no index that could contradict the files: Open reads the
// names. A rename is what makes a part count and a blob complete, after its
// bytes were brought to the disk, and the call returns after the directory was.
// What a crash leaves behind the last part that counts is cut off when the next
// one comes. Bytes are checked against the hash before a blob is complete and
// again whenever it is read.
package blobdir
