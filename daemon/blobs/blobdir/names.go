package blobdir

import (
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
)

// The directories below the root that are not named by two hexadecimal digits.
const (
	uploadsDir = "uploads"
	damagedDir = "damaged"
)

// key names an upload.
type key struct {
	user bus.ID
	hash bus.BlobHash
}

func hexOf(b [32]byte) string { return hex.EncodeToString(b[:]) }

func parseHex(s string) (b [32]byte, ok bool) {
	if len(s) != hex.EncodedLen(len(b)) || strings.ToLower(s) != s {
		return b, false
	}
	_, err := hex.Decode(b[:], []byte(s))
	return b, err == nil
}

func (d *Dir) blobDir(hash bus.BlobHash) string {
	return filepath.Join(d.root, hexOf(hash)[:2])
}

func blobName(hash bus.BlobHash, owner bus.ID) string { return hexOf(hash) + "-" + hexOf(owner) }

func parseBlobName(name string) (hash bus.BlobHash, owner bus.ID, ok bool) {
	first, second, _ := strings.Cut(name, "-")
	h, ok1 := parseHex(first)
	o, ok2 := parseHex(second)
	return h, o, ok1 && ok2
}

func (d *Dir) uploadPath(k key, size, done int64) string {
	name := hexOf(k.user) + "-" + hexOf(k.hash) + "-" + strconv.FormatInt(size, 10) + "-" + strconv.FormatInt(done, 10)
	return filepath.Join(d.root, uploadsDir, name)
}

func parseUploadName(name string) (k key, size, done int64, ok bool) {
	fields := strings.Split(name, "-")
	if len(fields) != 4 {
		return key{}, 0, 0, false
	}
	user, ok1 := parseHex(fields[0])
	hash, ok2 := parseHex(fields[1])
	size, err1 := strconv.ParseInt(fields[2], 10, 64)
	done, err2 := strconv.ParseInt(fields[3], 10, 64)
	ok = ok1 && ok2 && err1 == nil && err2 == nil && size > 0 && done >= 0 && done < size
	return key{user, hash}, size, done, ok
}
