package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
)

// Header fields of the answer to HEAD on a blob.
const (
	HeaderUploadOffset = "Upload-Offset" // bytes that the node keeps durably
	HeaderUploadLength = "Upload-Length" // bytes of the whole
)

// MediaBlob is the media type of the bytes of a blob, in both directions.
const MediaBlob = "application/octet-stream"

// BlobPath is, for active users,
//   - HEAD → 200 with [HeaderUploadOffset] and [HeaderUploadLength]: equal for a
//     blob that is complete, else how far the signer's own upload is;
//   - GET → the bytes of a blob that is complete;
//   - DELETE → 204, for who put the blob and for admins of the bus.
func BlobPath(hash bus.BlobHash) string { return "/blobs/" + hash.String() }

// BlobFromPath is GET → the bytes of a blob from offset on, with status 200.
func BlobFromPath(hash bus.BlobHash, offset int64) string {
	return BlobPath(hash) + "?" + QueryFrom + "=" + strconv.FormatInt(offset, 10)
}

// BlobPartPath is PUT of 1 to [bus.MaxBlobPart] bytes, a piece that begins at
// offset of a blob of size bytes → 200 [BlobStatus], 201 once it is complete.
// Offset and size are in the query because the signature covers that.
func BlobPartPath(hash bus.BlobHash, offset, size int64) string {
	return BlobPath(hash) + "?" + QueryPart + "=" + strconv.FormatInt(offset, 10) + "-" + strconv.FormatInt(size, 10)
}

// BlobStatus is how far a blob is on a node.
type BlobStatus struct {
	Offset   int64 `json:"offset"` // bytes that the node keeps durably
	Size     int64 `json:"size"`   // of the whole
	Complete bool  `json:"complete"`
}

// SetHeaders writes the status as the answer to HEAD has it.
func (b BlobStatus) SetHeaders(h http.Header) {
	h.Set(HeaderUploadOffset, strconv.FormatInt(b.Offset, 10))
	h.Set(HeaderUploadLength, strconv.FormatInt(b.Size, 10))
}

// ReadBlobStatus reads the answer to HEAD. Errors have [bus.CodeMalformed].
func ReadBlobStatus(h http.Header) (BlobStatus, error) {
	offset, err := ParseOffset(h.Get(HeaderUploadOffset))
	if err != nil {
		return BlobStatus{}, err
	}
	size, err := ParseOffset(h.Get(HeaderUploadLength))
	if err != nil {
		return BlobStatus{}, err
	}
	if offset > size {
		return BlobStatus{}, bus.Errorf(bus.CodeMalformed, "read blob status: %d of %d bytes", offset, size)
	}
	return BlobStatus{Offset: offset, Size: size, Complete: offset == size}, nil
}

// ParsePart reads the query of [BlobPartPath].
func ParsePart(s string) (offset, size int64, err error) {
	first, second, _ := strings.Cut(s, "-")
	if offset, err = ParseOffset(first); err != nil {
		return 0, 0, err
	}
	size, err = ParseOffset(second)
	return offset, size, err
}

// ParseOffset reads a number of bytes: decimal digits without sign or leading
// zeros.
func ParseOffset(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, bus.Errorf(bus.CodeMalformed, "parse offset %.40q: want decimal digits", s)
	}
	return n, nil
}
