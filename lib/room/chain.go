package room

import (
	"fmt"
	"maps"
	"slices"

	"github.com/enmanuel/unibus/lib/bus"
)

// Chain is the history of one room as somebody has accepted it: every record
// from the first, each allowed by the one before, and the keys that are known.
// Records are fed to it in order; one that fails changes nothing. It must not be
// used from several goroutines at once.
//
// A member of an encrypted room feeds it each record that has an entry of its
// own by [Chain.AcceptWithKey], with the key that entry opened to, and the others
// by [Chain.Accept].
type Chain struct {
	room    bus.RoomID
	records []*Record // by epoch
	keys    map[bus.Epoch]Key
}

// NewChain returns the history of a room with no record yet.
func NewChain(room bus.RoomID) *Chain {
	return &Chain{room: room, keys: make(map[bus.Epoch]Key)}
}

// Clone returns a chain of the same records and keys that changes by itself: to
// see how far records lead before anything relies on them.
func (c *Chain) Clone() *Chain {
	return &Chain{room: c.room, records: slices.Clone(c.records), keys: maps.Clone(c.keys)}
}

// Room returns the id of the room.
func (c *Chain) Room() bus.RoomID { return c.room }

// Head returns the newest record that was accepted, or nil before the first.
func (c *Chain) Head() *Record {
	if len(c.records) == 0 {
		return nil
	}
	return c.records[len(c.records)-1]
}

// At returns the record of an epoch, or nil.
func (c *Chain) At(e bus.Epoch) *Record {
	if e >= bus.Epoch(len(c.records)) {
		return nil
	}
	return c.records[e]
}

// Key returns the key of an epoch and whether it is known.
func (c *Chain) Key(e bus.Epoch) (Key, bool) {
	k, ok := c.keys[e]
	return k, ok
}

// SetKey adds the key of an epoch. It refuses an epoch without a record
// ([bus.CodeEpochUnknown]) and a key that the record does not commit to
// ([bus.CodeKeyMismatch]).
func (c *Chain) SetKey(e bus.Epoch, k Key) error {
	r := c.At(e)
	if r == nil {
		return bus.Errorf(bus.CodeEpochUnknown, "set key: no record of epoch %d", e)
	}
	if err := r.CheckKey(k); err != nil {
		return fmt.Errorf("set key: %w", err)
	}
	c.keys[e] = k
	return nil
}

// OpenHistory walks back from an epoch whose key is known, adding the key of
// the epoch before to the chain for as long as records carry it, and stops at
// the epoch oldest at the latest. It returns the first epoch whose key is now
// known. The errors are those of [Record.OpenHistory] but for
// [bus.CodeNotFound], which is where history begins, and [bus.CodeEpochUnknown]
// when the key to start from is missing.
func (c *Chain) OpenHistory(from, oldest bus.Epoch) (bus.Epoch, error) {
	key, ok := c.keys[from]
	if !ok {
		return from, bus.Errorf(bus.CodeEpochUnknown, "open history: the key of epoch %d is not known", from)
	}
	for from > oldest && len(c.records[from].HistoryCT) > 0 {
		earlier, err := c.records[from].OpenHistory(key, c.records[from-1])
		if err != nil {
			return from, err
		}
		from, key = from-1, earlier
		c.keys[from] = key
	}
	return from, nil
}

// Accept makes a record the head if it may come next. The first record must be
// the one the room is named after; the others are held to [Record.Follows]. The
// head again is no change, an older record of the chain is [bus.CodeRollback].
//
// A record of another branch is a [*ForkError], with the code
// [bus.CodeEquivocation] or [bus.CodeFork], unless its signer could not have
// made it there: that is [bus.CodeNotAuthority] or [bus.CodeTransition].
func (c *Chain) Accept(r *Record) error { return c.accept(r, nil) }

// AcceptWithKey accepts a record whose key was opened by [Record.OpenKey]. In
// addition to [Chain.Accept] the key must be the record's
// ([bus.CodeKeyMismatch]), the name must open under it ([bus.CodeDecrypt],
// [bus.CodeMalformed]), and an admin must not have changed the name, which shows
// once the key before is known too ([bus.CodeTransition]).
func (c *Chain) AcceptWithKey(r *Record, k Key) error { return c.accept(r, &k) }

func (c *Chain) accept(r *Record, k *Key) error {
	again, err := c.place(r)
	if err == nil && k != nil {
		err = c.checkKey(r, *k)
	}
	if err != nil {
		return fmt.Errorf("accept record %d: %w", r.Epoch, err)
	}
	if !again {
		c.records = append(c.records, r)
	}
	if k != nil {
		c.keys[r.Epoch] = *k
	}
	return nil
}

// place checks that a record comes next, or, again, that it is the head.
func (c *Chain) place(r *Record) (again bool, err error) {
	head := c.Head()
	switch {
	case r.Room != c.room:
		return false, bus.Errorf(bus.CodeMisrouted, "it is of room %s, not %s", r.Room, c.room)
	case head == nil:
		return false, CheckGenesis(r)
	case r.hash == head.hash:
		return true, nil
	case r.Epoch > head.Epoch:
		if r.Epoch == head.Epoch+1 && r.Prev != head.hash {
			return false, newForkError(bus.CodeFork, head, r)
		}
		return false, r.Follows(head)
	}
	known := c.records[r.Epoch]
	switch {
	case known.hash == r.hash:
		return false, bus.Errorf(bus.CodeRollback, "epoch %d was accepted since", head.Epoch)
	case known.Prev != r.Prev:
		return false, newForkError(bus.CodeFork, known, r)
	}
	return false, compareSiblings(c.records[r.Epoch-1], known, r)
}

func (c *Chain) checkKey(r *Record, k Key) error {
	if err := r.CheckKey(k); err != nil {
		return err
	}
	if _, err := r.OpenName(k); err != nil {
		return err
	}
	if r.IsGenesis() {
		return nil
	}
	before, ok := c.keys[r.Epoch-1]
	if !ok {
		return nil
	}
	return checkNameChange(c.records[r.Epoch-1], before, r, k)
}

// checkNameChange refuses a record in which an admin changed the name.
func checkNameChange(head *Record, headKey Key, next *Record, nextKey Key) error {
	if head.Authority(next.Signer) == bus.RoleOwner {
		return nil
	}
	old, err := head.OpenName(headKey)
	if err != nil {
		return err
	}
	name, err := next.OpenName(nextKey)
	if err != nil {
		return err
	}
	if name != old {
		return bus.Errorf(bus.CodeTransition, "an admin changes the name from %q to %q", old, name)
	}
	return nil
}

// Switch changes over to another branch, which an owner chose. branch holds its
// records in order, from any epoch up to the first that differs. Everything is
// verified again from the last record that both have. Keys of records that are
// left are forgotten.
//
// A record of the branch must name in Resolves the first record that is left,
// and its signer must be an owner both there and in the head that is left: an
// owner that one of the branches removed cannot undo that by choosing the other.
// Without such a record the error is the [*ForkError] of the two branches;
// with one by an owner who was removed, [bus.CodeNotAuthority]. The branch must
// have become longer than what is left, so that pins only ever move forward:
// else [bus.CodeRollback], until the owner renews the room often enough. Other
// errors are those of [Chain.Accept]. After an error nothing has changed.
func (c *Chain) Switch(branch []*Record) error { return c.switchTo(branch, nil) }

// SwitchWithKey is [Chain.Switch] with the key of the branch's last record, as
// [Chain.AcceptWithKey] is Accept with it.
func (c *Chain) SwitchWithKey(branch []*Record, k Key) error { return c.switchTo(branch, &k) }

func (c *Chain) switchTo(branch []*Record, k *Key) error {
	for len(branch) > 0 && c.At(branch[0].Epoch) != nil && c.At(branch[0].Epoch).hash == branch[0].hash {
		branch = branch[1:]
	}
	if len(branch) == 0 {
		return bus.Errorf(bus.CodeRollback, "switch branch: it has nothing new")
	}
	at := branch[0].Epoch
	if at == 0 || at > bus.Epoch(len(c.records)) {
		return bus.Errorf(bus.CodeGap, "switch branch: epoch %d does not join what is known", at)
	}
	next := &Chain{room: c.room, records: slices.Clone(c.records[:at]), keys: maps.Clone(c.keys)}
	maps.DeleteFunc(next.keys, func(e bus.Epoch, _ Key) bool { return e >= at })
	for i, r := range branch {
		var key *Key
		if i == len(branch)-1 {
			key = k
		}
		if err := next.accept(r, key); err != nil {
			return fmt.Errorf("switch branch: %w", err)
		}
	}
	if err := c.resolved(branch); err != nil {
		return fmt.Errorf("switch branch: %w", err)
	}
	*c = *next
	return nil
}

// resolved checks that a verified branch, beginning with the first record that
// differs, may replace what the chain has from there on.
func (c *Chain) resolved(branch []*Record) error {
	left := c.At(branch[0].Epoch)
	if left == nil {
		return nil // the branch only goes on where the chain ends
	}
	head := c.Head()
	err := compareSiblings(c.records[left.Epoch-1], left, branch[0])
	for _, r := range branch {
		if !slices.Contains(r.Resolves, left.hash) {
			continue
		}
		if head.Authority(r.Signer) == bus.RoleOwner {
			err = nil
			break
		}
		err = bus.Errorf(bus.CodeNotAuthority, "record %d chooses it, but its signer is no owner in the head that is left", r.Epoch)
	}
	if err != nil {
		return err
	}
	if last := branch[len(branch)-1]; last.Epoch <= head.Epoch {
		return bus.Errorf(bus.CodeRollback, "it ends at epoch %d, and epoch %d was accepted of the other", last.Epoch, head.Epoch)
	}
	return nil
}
