package blob

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// described is a file as --json prints it. It has no key in it.
type described struct {
	Hash       bus.BlobHash `json:"hash"` // SHA-256 of the sealed bytes, its name on the servers
	Name       string       `json:"name"` // as its sender says, "" for none
	Media      string       `json:"media"`
	Size       int64        `json:"size"`
	SealedSize int64        `json:"sealed_size"`
	SHA256     string       `json:"sha256"` // of the content, in hexadecimal as sha256sum has it
}

func describe(ref client.BlobRef) described {
	return described{ref.Hash, ref.Name, ref.Media, ref.Size, ref.SealedSize, hex.EncodeToString(ref.Digest[:])}
}

// sentFile is a file that put has sent.
type sentFile struct {
	Room bus.RoomID `json:"room"`
	described
	Session bus.SessionID `json:"session"` // of the message
	Seq     bus.Seq       `json:"seq"`
}

// gotFile is a file that get has fetched.
type gotFile struct {
	Room bus.RoomID `json:"room"`
	described
	Path string `json:"path"`
}

// told is a file that a message tells of.
type told struct {
	described
	Sender bus.ID     `json:"sender"`
	Handle bus.Handle `json:"handle,omitempty"` // as pinned here
	Sent   time.Time  `json:"sent"`             // as the sender says
}

// listing is what ls prints.
type listing struct {
	Room  bus.RoomID `json:"room"`
	Blobs []told     `json:"blobs"` // the last one last
}

// state is what stat prints.
type state struct {
	Room bus.RoomID `json:"room"`
	told
	Offset   int64 `json:"offset"` // bytes that the node has, sealed
	Complete bool  `json:"complete"`
}

// removed is what rm prints.
type removed struct {
	Room bus.RoomID   `json:"room"`
	Hash bus.BlobHash `json:"hash"`
}

// size writes a number of bytes for people.
func size(n int64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, unitName := float64(n)/unit, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if value < unit {
			break
		}
		value, unitName = value/unit, next
	}
	return fmt.Sprintf("%.1f %s", value, unitName)
}
