package client

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

// Bounds of what is kept to prove that members equivocate, which they can do
// with every frame and in as many sessions as they like: one proof a session,
// and so many of a sender in a room, and of all. One is enough to convince.
const (
	maxSenderProofs = 8
	maxProofs       = 1024
)

const equivocationPrefix = "equivocation-"

// equivocations knows which proofs of equivocation are stored. Its zero value
// has not looked yet.
type equivocations struct {
	mu   sync.Mutex
	kept map[string]bool // names of files, and of those that could not be written
}

// admit reports whether the proof of this name is to be stored in dir, and from
// then on says no. All proofs of a sender in a room share the prefix.
func (e *equivocations) admit(dir, prefix, name string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.kept == nil {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		e.kept = map[string]bool{}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), equivocationPrefix) {
				e.kept[entry.Name()] = true
			}
		}
	}
	if e.kept[name] || len(e.kept) >= maxProofs {
		return false, nil
	}
	same := 0
	for other := range e.kept {
		if strings.HasPrefix(other, prefix) {
			same++
		}
	}
	if same >= maxSenderProofs {
		return false, nil
	}
	e.kept[name] = true
	return true, nil
}

// keepEquivocation stores the proof that a sender has signed two frames of one
// seq, unless there are enough of its kind.
func (c *Client) keepEquivocation(h *frame.Header, proof *frame.EquivocationProof) {
	prefix := equivocationPrefix + h.Room.Token() + "-" + h.Sender.Token() + "-"
	name := prefix + hex.EncodeToString(h.Session[:])
	wanted, err := c.equivocations.admit(c.state.path("proofs"), prefix, name)
	if wanted {
		if err = os.MkdirAll(c.state.path("proofs"), stateDirMode); err == nil {
			err = durable.WriteFile(c.state.path("proofs", name), proof.Bytes(), stateFileMode)
		}
	}
	if err != nil {
		c.log.Error("client", "keep_proof", name, "err", err)
	}
}
