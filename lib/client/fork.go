package client

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// Fork is a room as the servers show it, beside what else is known of it here: for
// an owner to look at, and to decide ([Fork.Resolve]). It is made by
// [Client.ReviewFork] and does not follow the room.
//
// What the servers show is the branch that can be kept, since it is the one they
// take records for. Whoever wants another one's members takes them over.
type Fork struct {
	Room  bus.RoomID
	Name  bus.RoomName   // on the branch shown
	Role  bus.Role       // of this client there
	Shown []*room.Record // what the servers show, verified from the first record on
	Lost  []LostBranch   // other branches, in the order of their first epochs

	room  *Room // whose pin and records may be those of a lost branch
	shown *Room // looks at what the servers show
}

// LostBranch is a branch that the servers do not show. Of some of it only hashes,
// or nothing, may be known.
type LostBranch struct {
	First bus.RecordHash // its first record, which a resolving one names
	At    bus.Epoch      // of First
	Last  bus.Epoch      // the latest of it that is known of
	Head  *room.Record   // the latest of it that is at hand, nil where none is
	// Owners are those in the latest record known.
	Owners []bus.ID
	// Behind tells that the servers show no other record in the place of First, only
	// fewer: they may have been restored from a backup.
	Behind bool
	// ResolvedBy is the epoch of the record shown that gives the branch up, 0 where
	// none does.
	ResolvedBy bus.Epoch
}

// open reports whether anything is left to be done about the branch where servers
// show records up to head.
func (b *LostBranch) open(head bus.Epoch) bool { return b.ResolvedBy == 0 || b.Last >= head }

// Resolved reports whether nothing is left to be done: every branch was given up, by
// a branch that has become longer.
func (f *Fork) Resolved() bool {
	return !slices.ContainsFunc(f.Lost, func(b LostBranch) bool { return b.open(f.Head().Epoch) })
}

// Head returns the newest record that the servers show.
func (f *Fork) Head() *room.Record { return f.Shown[len(f.Shown)-1] }

// Blames returns who has signed two records after one, as far as the branches at
// hand show it.
func (f *Fork) Blames() []bus.ID {
	var to []bus.ID
	for _, b := range f.Lost {
		if b.Head == nil || b.Head.Epoch != b.At || b.Behind {
			continue
		}
		proof := room.Fork{Before: f.Shown[b.At-1], Known: b.Head, Other: f.Shown[b.At]}
		if id := identity.IDOf(b.Head.Signer); proof.Equivocation() && !slices.Contains(to, id) {
			to = append(to, id)
		}
	}
	return to
}

// ReviewFork reads a room from the first record on, whatever this client has
// accepted of it, and compares it with all that is known here of other branches: what
// it had accepted, the proofs it has kept, and those that others have handed over. A
// proof that is of another room, or of a history that the servers do not show, is
// [bus.CodeMisrouted]. Nothing is changed.
func (c *Client) ReviewFork(ctx context.Context, id bus.RoomID, proofs ...*room.Fork) (*Fork, error) {
	f, err := c.reviewFork(ctx, id, proofs)
	if err != nil {
		return nil, fmt.Errorf("review room %s: %w", id, err)
	}
	return f, nil
}

func (c *Client) reviewFork(ctx context.Context, id bus.RoomID, given []*room.Fork) (*Fork, error) {
	r, letGo, err := c.hold(id)
	if err != nil {
		return nil, err
	}
	defer letGo()
	shown := &Room{client: c, id: id, model: newModel(id), of: r}
	if err := shown.sync(ctx); err != nil {
		return nil, err
	}
	name, err := shown.name()
	if err != nil {
		return nil, err
	}
	head, _, _ := shown.model.current()
	f := &Fork{Room: id, Name: name, Role: head.Role(c.id), shown: shown, room: r}
	for e := bus.Epoch(0); e <= head.Epoch; e++ {
		f.Shown = append(f.Shown, shown.model.at(e))
	}
	for _, p := range given {
		if err := f.addProof(p); err != nil {
			return nil, err
		}
	}
	if err := f.addKnown(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(f.Lost, func(a, b LostBranch) int {
		return cmp.Or(cmp.Compare(a.At, b.At), bytes.Compare(a.First[:], b.First[:]))
	})
	return f, nil
}

// addKnown adds what this client has accepted and kept.
func (f *Fork) addKnown(ctx context.Context) error {
	c, r := f.room.client, f.room
	proofs, err := c.Proofs(f.Room)
	if err != nil {
		c.log.Warn("client", "room", f.Room.String(), "proofs", err)
	}
	for _, p := range proofs {
		if p.Fork != nil {
			if err := f.addProof(p.Fork); err != nil {
				c.log.Debug("client", "room", f.Room.String(), "proof", p.File, "err", err)
			}
		}
	}
	way, err := r.lineageFile().read()
	if err != nil {
		return err
	}
	chain := f.shown.model.chain
	pin, pinned, err := c.pins.Get(ctx, f.Room)
	if err != nil {
		return err
	}
	if at, ok := way.leaves(chain); ok && pinned && way.has(pin) {
		f.add(LostBranch{First: at.Hash, At: at.Epoch, Last: max(way.Epoch, pin.Epoch), Owners: way.Owners})
	} else if pinned && !contains(chain, pin) {
		return bus.Errorf(bus.CodeFork, "record %d was accepted as %s, and which way led there is not known any more", pin.Epoch, pin.Hash)
	}
	r.model.mu.RLock()
	defer r.model.mu.RUnlock()
	if r.model.head == nil {
		return nil
	}
	mine := lineageOf(r.model.chain)
	if at, ok := mine.leaves(chain); ok {
		f.add(LostBranch{First: at.Hash, At: at.Epoch, Last: mine.Epoch, Owners: mine.Owners, Head: r.model.head})
	}
	return nil
}

// addProof adds the branches of a fork that are not the one shown.
func (f *Fork) addProof(p *room.Fork) error {
	if at := p.Before.Epoch; p.Before.Room != f.Room || at >= bus.Epoch(len(f.Shown)) || f.Shown[at].Hash() != p.Before.Hash() {
		return bus.Errorf(bus.CodeMisrouted, "the proof is of a fork after record %s, which is not in what the servers show", p.Before.Hash())
	}
	for _, rec := range []*room.Record{p.Known, p.Other} {
		if rec.Epoch >= bus.Epoch(len(f.Shown)) || f.Shown[rec.Epoch].Hash() != rec.Hash() {
			f.add(LostBranch{First: rec.Hash(), At: rec.Epoch, Last: rec.Epoch, Owners: ownersOf(rec), Head: rec})
		}
	}
	return nil
}

// add adds a branch, or to what is known of it.
func (f *Fork) add(b LostBranch) {
	b.Behind = b.At >= bus.Epoch(len(f.Shown))
	for _, rec := range f.Shown[min(b.At, bus.Epoch(len(f.Shown))):] {
		if b.ResolvedBy == 0 && slices.Contains(rec.Resolves, b.First) {
			b.ResolvedBy = rec.Epoch
		}
	}
	i := slices.IndexFunc(f.Lost, func(known LostBranch) bool { return known.First == b.First })
	if i < 0 {
		f.Lost = append(f.Lost, b)
		return
	}
	known := &f.Lost[i]
	if b.Last >= known.Last {
		known.Last, known.Owners = b.Last, b.Owners
	}
	if b.Head != nil && (known.Head == nil || b.Head.Epoch > known.Head.Epoch) {
		known.Head = b.Head
	}
}

// Resolution says how a fork is to end.
type Resolution struct {
	// TakeMembers has the next record have the members and roles of the branch that
	// is given up, as far as it is known, in the place of those on the branch shown.
	TakeMembers bool
	// Past is the epoch that the kept branch is to go beyond, where others have
	// accepted more of the lost one than is known here.
	Past bus.Epoch
	// Rewind gives up records in the place of which the servers show no others.
	Rewind bool
}

// maxCatchUp is how many records a resolution may make.
const maxCatchUp = 256

// Resolve ends the fork: this client, an owner, signs a record on the branch that the
// servers show which gives up the others, and further ones until it is longer than
// they are. Whoever holds one of them then goes over to it by themselves. Messages
// that were sent under its epochs are not readable on the branch kept.
//
// Errors: [bus.CodeNotAuthority] where this client is no owner on the branch shown, or
// on one that is given up, so that nobody who holds that one would follow;
// [bus.CodeConflict] where the room has moved since it was reviewed; [bus.CodeUsage]
// for a choice that does not fit; and those of [Room.Rotate]. After an error the fork
// may be half resolved: reviewing it again shows what is left.
func (f *Fork) Resolve(ctx context.Context, how Resolution) error {
	if err := f.resolve(ctx, how); err != nil {
		return fmt.Errorf("resolve fork of room %s: %w", f.Room, err)
	}
	return nil
}

func (f *Fork) resolve(ctx context.Context, how Resolution) error {
	names, target, roles, err := f.plan(how)
	if err != nil {
		return err
	}
	r, letGo, err := f.room.client.hold(f.Room)
	if err != nil {
		return err
	}
	defer letGo()
	for first := true; len(names) > 0 || target > 0 && f.Head().Epoch <= target || first && roles != nil; first = false {
		before, batch := f.Head(), names[:min(len(names), bus.MaxResolves)]
		moved := false
		err := f.shown.change(ctx, "resolve", asked, func(d *change) error {
			if moved = d.head.Hash() != before.Hash(); moved {
				d.done = true
				return nil
			}
			d.resolves = batch
			if first && roles != nil {
				d.roles = maps.Clone(roles)
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case moved:
			return bus.Errorf(bus.CodeConflict, "it has moved from epoch %d since it was reviewed", before.Epoch)
		}
		head, _, _ := f.shown.model.current()
		f.Shown = append(f.Shown, head)
		names = names[len(batch):]
	}
	// What others do when they hear of it: leave the lost branch for the kept one.
	return r.sync(ctx)
}

// plan checks a resolution and returns which records to name, beyond which epoch to
// go, and whom the next record is to have as members, nil for those of before.
func (f *Fork) plan(how Resolution) (names []bus.RecordHash, target bus.Epoch, roles map[bus.ID]bus.Role, err error) {
	me, head := f.room.client.id, f.Head()
	if f.Role != bus.RoleOwner {
		return nil, 0, nil, bus.Errorf(bus.CodeNotAuthority, "%s may not give up a branch, only owners may", describeRole(f.Role))
	}
	target = how.Past
	var from *room.Record
	for _, b := range f.Lost {
		switch {
		case !b.open(head.Epoch):
			continue
		case !slices.Contains(b.Owners, me):
			return nil, 0, nil, bus.Errorf(bus.CodeNotAuthority, "you are no owner on the branch of %s: those who hold it would not follow you", b.First)
		case b.Behind && !how.Rewind:
			return nil, 0, nil, bus.Errorf(bus.CodeUsage, "the servers show nothing after epoch %d, and record %d was accepted: they may only be behind", head.Epoch, b.Last)
		}
		target = max(target, b.Last)
		if b.ResolvedBy == 0 {
			names = append(names, b.First)
		}
		if how.TakeMembers && b.Head != nil {
			if from != nil {
				return nil, 0, nil, bus.Errorf(bus.CodeUsage, "there are several branches to take the members of")
			}
			from = b.Head
		}
	}
	if target >= head.Epoch+maxCatchUp {
		return nil, 0, nil, bus.Errorf(bus.CodeTooLarge, "the branch to give up is at epoch %d, the one that is kept at %d: more than %d records behind", target, head.Epoch, maxCatchUp)
	}
	if !how.TakeMembers {
		return names, target, nil, nil
	}
	if from == nil {
		return nil, 0, nil, bus.Errorf(bus.CodeUsage, "no record of the branch that is given up is at hand, so its members are not known")
	}
	roles = map[bus.ID]bus.Role{}
	for _, m := range from.Members() {
		roles[m.ID] = m.Role
	}
	return names, target, roles, nil
}

// announceSwitch tells that the room went over to the branch that an owner chose, and
// what that costs: messages which were acknowledged under the one that was left.
func (r *Room) announceSwitch(at bus.Epoch, to *room.Chain) {
	detail := fmt.Sprintf("an owner gave up the branch that was accepted here from epoch %d on; the room is at epoch %d of the other", at, to.Head().Epoch)
	if n := r.pub.sentSince(at); n > 0 {
		detail += fmt.Sprintf("; %d messages that this process had sent on it are void", n)
	}
	r.client.events.raise(EventResolved, r.id, nil, detail)
}
