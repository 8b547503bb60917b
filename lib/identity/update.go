package identity

import (
	"context"
	"fmt"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

// Update changes an identity file while nobody else does: it takes the lock file
// beside it (its name and ".lock"), reads the file, which another process may
// have changed since the caller last did, lets change work on it and replaces
// the file in one step. A passphrase stays: it is asked for as in [Load], and the
// new file is wrapped with it again. Where change returns an error nothing is
// written. Whenever the process is killed, the file is the old or the new one.
// The identity returned is the one in the file.
func Update(ctx context.Context, path string, passphrase func() (string, error), change func(*Identity) error) (*Identity, error) {
	return update(ctx, path, passphrase, nil, change, workFactor)
}

// ChangePassphrase is [Update] of nothing but the passphrase; an empty one leaves
// the file unwrapped.
func ChangePassphrase(ctx context.Context, path string, passphrase func() (string, error), next string) error {
	_, err := update(ctx, path, passphrase, &next, func(*Identity) error { return nil }, workFactor)
	return err
}

// update wraps the file with the passphrase next, or with the same as before
// where that is nil.
func update(ctx context.Context, path string, passphrase func() (string, error), next *string, change func(*Identity) error, factor int) (*Identity, error) {
	if err := durable.CheckPrivate(path); err != nil { // before a lock is made beside nothing
		return nil, fmt.Errorf("update identity: %w", err)
	}
	unlock, err := durable.Lock(ctx, path+".lock")
	if err != nil {
		return nil, fmt.Errorf("update identity: %w", err)
	}
	defer unlock()
	used := ""
	id, err := Load(path, func() (p string, err error) {
		if passphrase == nil {
			return "", bus.Errorf(bus.CodePassphrase, "it is protected by a passphrase and none was given")
		}
		used, err = passphrase()
		return used, err
	})
	if err != nil {
		return nil, err
	}
	if err := change(id); err != nil {
		return nil, err
	}
	if next != nil {
		used = *next
	}
	if err := id.rewrite(path, used, factor); err != nil {
		return nil, err
	}
	return id, nil
}

// KEMs returns the HPKE keys in ascending order of their card numbers.
func (id *Identity) KEMs() []KEM {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return append([]KEM(nil), id.kems...)
}

// OnlyLatest returns the identity as it would be without its older HPKE keys:
// for finding out what it could still open.
func (id *Identity) OnlyLatest() *Identity {
	return &Identity{sign: id.sign, pub: id.pub, id: id.id, kems: []KEM{id.LatestKEM()}}
}

// DropKEMs forgets the HPKE keys of cards before the one with this number, but
// never the latest, and returns how many it forgot. What was sealed to them, and
// to nothing else, cannot be opened any more once the identity is written.
func (id *Identity) DropKEMs(before uint64) int {
	id.mu.Lock()
	defer id.mu.Unlock()
	n := 0
	for n < len(id.kems)-1 && id.kems[n].CardSeq < before {
		n++
	}
	id.kems = append([]KEM(nil), id.kems[n:]...) // readers hold the old list
	return n
}
