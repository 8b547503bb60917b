// Package durable writes small files so that a crash at any instant leaves the
// old content or the new, never something between, and locks them against
// other processes. Identity files, head pins and contexts are kept with it.
//
// Start with [WriteFile] for a file that is replaced, [CreateFile] for one that
// must never be, [CopyFile] for one that is too large to hold, [Lock] around reading a file and replacing it, and
// [CheckPrivate] before trusting a file that holds a secret. [Adopt] is for what
// root makes for the daemon. [MkdirAll] makes the directory they go into.
//
// When WriteFile or CreateFile returns nil, the content has reached the disk,
// as far as the operating system can tell, and so has its name. A crash may
// leave a file behind in the same directory whose name begins with a dot and
// ends in ".tmp"; nothing ever reads it and it may be deleted.
//
// The package does not encrypt, does not read files and does not follow a
// symbolic link at the path that is written: the link itself is replaced. It
// needs a file system with fsync, rename and, for CreateFile, hard links.
package durable
