// Package blobs says how a node keeps blobs: sealed files under their SHA-256,
// uploaded in parts that add up over as many requests, and as many days, as it
// takes.
//
// Start with [Store], which package blobdir implements over a directory and
// package blobtest checks any implementation against. [NewReader] is for those
// who write another: it is how content is checked on its way out.
//
// What a store guarantees: a blob that is complete has the bytes of its hash, a
// part counts once it is durable and whole, and what is read to io.EOF is
// whole and right. It keeps within its [Limits]; each user pays for what they
// put. What it does not do: it looks at no signature and knows no roles but
// "who put it", and cannot read what it keeps.
package blobs

import (
	"context"
	"io"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// UploadLife is how long an upload is kept to which nothing is added.
const UploadLife = 24 * time.Hour

// MaxUploads is how many uploads a user may have begun and not ended.
const MaxUploads = 64

// DefaultUser is how many bytes a user may put unless it is said otherwise.
const DefaultUser = 4 << 30

// Limits bounds what a store takes, in bytes. A field that is zero has the
// default named; a negative one is no limit.
type Limits struct {
	Blob  int64 // one blob; default [bus.MaxBlobBody]
	User  int64 // all that one user has put and begun to put; default [DefaultUser]
	Total int64 // everything; default none, which leaves it to the disk
}

// WithDefaults fills in what was left out.
func (l Limits) WithDefaults() Limits {
	if l.Blob == 0 {
		l.Blob = bus.MaxBlobBody
	}
	if l.User == 0 {
		l.User = DefaultUser
	}
	if l.Total == 0 {
		l.Total = -1
	}
	return l
}

// Allow says whether a user may put a blob of size bytes, where userOther and
// allOther bytes are kept of this user and of everybody beside it. Errors have
// [bus.CodeTooLarge] or [bus.CodeQuota].
func (l Limits) Allow(size, userOther, allOther int64) error {
	switch {
	case over(size, l.Blob):
		return bus.Errorf(bus.CodeTooLarge, "put blob: %d bytes, at most %d", size, l.Blob)
	case over(userOther+size, l.User):
		return bus.Errorf(bus.CodeQuota, "put blob: %d bytes on top of %d, and %d is all a user may have", size, userOther, l.User)
	case over(allOther+size, l.Total):
		return bus.Errorf(bus.CodeQuota, "put blob: %d bytes on top of %d, and %d is all this node keeps", size, allOther, l.Total)
	}
	return nil
}

func over(n, limit int64) bool { return limit >= 0 && n > limit }

// Part is a piece of a blob that a user uploads.
type Part struct {
	User   bus.ID
	Hash   bus.BlobHash
	Size   int64 // of the whole blob
	Offset int64 // of the piece: what the store has already
}

// Status is how far a blob is.
type Status struct {
	Offset   int64 // bytes that are kept durably
	Size     int64 // of the whole
	Complete bool
}

// Usage is how much a store keeps.
type Usage struct {
	Blobs, Bytes               int64 // that are complete
	Uploads, UploadBytes       int64 // that are not
	BytesReceived, BytesServed int64 // since the start
	Damaged                    int64 // blobs found damaged since the start
}

// Store keeps blobs. Its methods are safe for concurrent use. Errors have
// [bus.CodeUnavailable] where the disk or what is behind the store fails, beside
// those named.
type Store interface {
	// Stat says how far a blob is: complete, whoever put it, or what the user
	// has uploaded of it. Neither is [bus.CodeNotFound].
	Stat(ctx context.Context, user bus.ID, hash bus.BlobHash) (Status, error)

	// Put adds a piece, which is all that body gives, and returns once that is
	// durable. It waits for another Put of the same user and hash. When the last
	// piece is there and the hash is right the blob is complete; a Put of what is
	// complete takes nothing and says so.
	//
	// A piece of which body fails to give the end, or gives more than fits, leaves
	// the upload as it was; the error is that of body, or [bus.CodeMalformed].
	// An offset or size other than that of the upload is [bus.CodeConflict]. What
	// turns out to have another hash is [bus.CodeBlobMismatch], and the upload is
	// gone. [bus.CodeTooLarge] and [bus.CodeQuota] are for the [Limits].
	Put(ctx context.Context, p Part, body io.Reader) (Status, error)

	// Open returns the bytes of a complete blob from offset on, and its whole
	// size. The reader ends with [bus.CodeBlobMismatch] instead of giving out the
	// last bytes of a blob that is damaged, which then is no longer there. An
	// offset beyond the end is [bus.CodeMalformed].
	Open(ctx context.Context, hash bus.BlobHash, offset int64) (r io.ReadCloser, size int64, err error)

	// Remove deletes a complete blob, and what the user has uploaded of one that
	// is not. A blob that another user put is [bus.CodeForbidden], unless anybodys
	// is set.
	Remove(ctx context.Context, user bus.ID, hash bus.BlobHash, anybodys bool) error

	// UserBytes returns how many bytes a user pays for.
	UserBytes(ctx context.Context, user bus.ID) (int64, error)

	// Usage measures the store.
	Usage() Usage

	// Sweep deletes uploads to which nothing was added for [UploadLife], and
	// blobs that are older than they are to be kept. It returns how many.
	Sweep(ctx context.Context) (int, error)

	// Close ends the store. Nothing else may be under way.
	Close() error
}
