package room

import (
	"bytes"
	"fmt"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
)

// CheckGenesis refuses a record that cannot begin a room: one that is not the
// first ([bus.CodeGap]) or whose signer is not an owner in it
// ([bus.CodeNotAuthority]).
func CheckGenesis(r *Record) error {
	if !r.IsGenesis() {
		return bus.Errorf(bus.CodeGap, "check first record: it is of epoch %d", r.Epoch)
	}
	if r.Authority(r.Signer) != bus.RoleOwner {
		return bus.Errorf(bus.CodeNotAuthority, "check first record: its signer is not an owner in it")
	}
	return nil
}

// Follows refuses a record that may not come right after head: one of another
// room ([bus.CodeMisrouted]); not of the next epoch ([bus.CodeGap],
// [bus.CodeRollback]), or of another branch ([bus.CodeFork]); signed by somebody
// without authority in head ([bus.CodeNotAuthority]); or changing what its
// signer may not ([bus.CodeTransition]), as the package comment has it. It checks
// what anybody can, a server too, without a key.
func (r *Record) Follows(head *Record) error {
	if err := r.links(head); err != nil {
		return fmt.Errorf("follow record %d: %w", head.Epoch, err)
	}
	if err := r.permitted(head); err != nil {
		return fmt.Errorf("follow record %d: %w", head.Epoch, err)
	}
	return nil
}

// links checks the place of a record in the chain.
func (r *Record) links(head *Record) error {
	switch {
	case r.Room != head.Room:
		return bus.Errorf(bus.CodeMisrouted, "record of room %s, not %s", r.Room, head.Room)
	case r.Epoch < head.Epoch, r.Epoch == head.Epoch && r.hash == head.hash:
		return bus.Errorf(bus.CodeRollback, "record of epoch %d is no later one", r.Epoch)
	case r.Epoch > head.Epoch && r.Epoch-head.Epoch > 1:
		return bus.Errorf(bus.CodeGap, "record of epoch %d does not come next", r.Epoch)
	case r.Epoch == head.Epoch:
		return bus.Errorf(bus.CodeFork, "another record of epoch %d", r.Epoch)
	case r.Prev != head.hash:
		return bus.Errorf(bus.CodeFork, "record of epoch %d follows %s, not %s", r.Epoch, r.Prev, head.hash)
	}
	return nil
}

// permitted checks the signer's authority in head and what the record changes.
func (r *Record) permitted(head *Record) error {
	role := head.Authority(r.Signer)
	if !role.IsAuthority() {
		return bus.Errorf(bus.CodeNotAuthority, "signed by %s, who is no authority there", r.Signer)
	}
	if r.Policy.Suite != head.Policy.Suite || r.Policy.Encrypted() != head.Policy.Encrypted() {
		return bus.Errorf(bus.CodeTransition, "changes the encryption, which the first record fixed")
	}
	if !r.hasOwner() {
		return bus.Errorf(bus.CodeTransition, "leaves the room without an owner")
	}
	if err := r.checkCuts(head); err != nil {
		return err
	}
	if role == bus.RoleOwner {
		return nil
	}
	return r.permittedToAdmin(head)
}

func (r *Record) hasOwner() bool {
	for _, a := range r.Authorities {
		if a.Role == bus.RoleOwner {
			return true
		}
	}
	return false
}

// checkCuts lets a record cut only those whom it stops from writing: a cut of
// anybody else would be a way to unsay what members in good standing said.
func (r *Record) checkCuts(head *Record) error {
	for _, c := range r.Cuts {
		if !head.Role(c.ID).CanWrite() || r.Role(c.ID).CanWrite() {
			return bus.Errorf(bus.CodeTransition, "cuts a session of %s without taking its right to write", c.ID)
		}
	}
	return nil
}

// permittedToAdmin checks what only owners may change. Authorities ascend in
// both records, so equal sets are equal lists.
func (r *Record) permittedToAdmin(head *Record) error {
	if r.Policy != head.Policy {
		return bus.Errorf(bus.CodeTransition, "an admin changes the policy")
	}
	if !r.Policy.Encrypted() && !bytes.Equal(r.NameCT, head.NameCT) {
		return bus.Errorf(bus.CodeTransition, "an admin changes the name")
	}
	if len(r.Resolves) > 0 {
		return bus.Errorf(bus.CodeTransition, "an admin resolves a fork")
	}
	if len(r.Authorities) != len(head.Authorities) {
		return bus.Errorf(bus.CodeTransition, "an admin changes who has authority")
	}
	for i, a := range r.Authorities {
		if a != head.Authorities[i] {
			return bus.Errorf(bus.CodeTransition, "an admin changes the authority of %s", identity.IDOf(a.SignPub))
		}
	}
	return nil
}
