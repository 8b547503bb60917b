package client

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/internal/durable"
	"github.com/enmanuel/unibus/lib/room"
)

// Proof shows to anybody who believes only signatures that a room has two
// branches, or that a member has signed two frames of one seq. One of Fork and
// Equivocation is set. It is verified, and tells nothing about what was said.
type Proof struct {
	Fork         *room.Fork
	Equivocation *frame.EquivocationProof

	File string    // where it is kept
	Seen time.Time // when it was kept
}

// Room returns the room it is about.
func (p Proof) Room() bus.RoomID {
	if p.Fork != nil {
		return p.Fork.Known.Room
	}
	return p.Equivocation.Frame().Room
}

// maxProofFile is how large the file of a proof may be.
const maxProofFile = room.MaxForkProof

// ParseProof reads a proof of either kind, which differ in their length, and
// verifies it. The errors are those of [room.ParseFork] and
// [frame.EquivocationProof.Verify].
func ParseProof(raw []byte) (Proof, error) {
	if len(raw) == frame.ProofSize {
		e, err := frame.ParseEquivocationProof(raw)
		if err == nil {
			err = e.Verify()
		}
		if err != nil {
			return Proof{}, err
		}
		return Proof{Equivocation: e}, nil
	}
	f, err := room.ParseFork(raw)
	if err != nil {
		return Proof{}, err
	}
	return Proof{Fork: f}, nil
}

// ReadProof reads a proof from a file, as [ParseProof] does.
func ReadProof(name string) (Proof, error) {
	f, err := os.Open(name)
	if err != nil {
		return Proof{}, fmt.Errorf("read proof: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxProofFile+1))
	if err != nil {
		return Proof{}, fmt.Errorf("read proof: %w", err)
	}
	p, err := ParseProof(raw)
	if err != nil {
		return Proof{}, fmt.Errorf("read proof %s: %w", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return Proof{}, fmt.Errorf("read proof: %w", err)
	}
	p.File, p.Seen = name, info.ModTime()
	return p, nil
}

// Proofs returns what is kept of a room's forks and of members who equivocated in
// it, the oldest first. The error tells of files that are no proof; the others are
// returned all the same.
func (c *Client) Proofs(id bus.RoomID) ([]Proof, error) {
	entries, err := os.ReadDir(c.state.path("proofs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list proofs: %w", err)
	}
	var proofs []Proof
	var failed []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), forkPrefix+id.Token()) && !strings.HasPrefix(e.Name(), equivocationPrefix+id.Token()) {
			continue
		}
		p, err := ReadProof(c.state.path("proofs", e.Name()))
		switch {
		case err != nil:
			failed = append(failed, err)
		case p.Room() == id:
			proofs = append(proofs, p)
		}
	}
	slices.SortStableFunc(proofs, func(a, b Proof) int { return cmp.Or(a.Seen.Compare(b.Seen), cmp.Compare(a.File, b.File)) })
	return proofs, errors.Join(failed...)
}

const forkPrefix = "fork-"

// maxForkProofs is how many forks of one room are kept. One is enough to
// convince, and an authority can sign as many as it likes.
const maxForkProofs = 8

// keepFork stores the proof of a fork. Only what authorities have signed comes
// here: a server alone can make no proof.
func (r *Room) keepFork(f *room.Fork) {
	k, o := f.Known.Hash(), f.Other.Hash()
	dir, prefix := r.client.state.path("proofs"), forkPrefix+r.id.Token()+"-"
	name := prefix + hex.EncodeToString(k[:8]) + "-" + hex.EncodeToString(o[:8])
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	kept := 0
	for _, e := range entries {
		if e.Name() == name {
			return
		}
		if strings.HasPrefix(e.Name(), prefix) {
			kept++
		}
	}
	if kept >= maxForkProofs {
		return
	}
	if err == nil {
		err = durable.MkdirAll(dir)
	}
	if err == nil {
		err = durable.WriteFile(r.client.state.path("proofs", name), f.Bytes(), stateFileMode)
	}
	if err != nil {
		r.client.log.Error("client", "keep_proof", name, "err", err)
	}
}

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
