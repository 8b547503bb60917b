package directory

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/sync/errgroup"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/store"
)

// parallelReads is how many reads one operation has under way at once.
const parallelReads = 16

// Head points at the latest record of a room.
type Head struct {
	Epoch bus.Epoch
	Hash  bus.RecordHash
}

// HeadConflict is that a record does not come next in its room. Its code is
// [bus.CodeConflict] for a lost race, or [bus.CodeGap] or [bus.CodeFork]
// where the record belongs after something the room does not have.
type HeadConflict struct {
	Room bus.RoomID
	Head Head // what the room has
	err  error
}

// Error implements error.
func (c *HeadConflict) Error() string { return c.err.Error() }

// Unwrap returns the error with the code.
func (c *HeadConflict) Unwrap() error { return c.err }

// CreateRoom makes a room with its first record, which its owner signed,
// and the sealed keys of its members in the order of the member list. Doing
// it again changes nothing: the room's id is the hash of that record.
//
// Errors have the codes of [room.CheckGenesis], [room.Record.CheckTime] and
// [room.Record.CheckSealed]; [bus.CodeNotAuthority] where signer is not who
// signed the record; [bus.CodeCardMismatch] where a member's card is not known
// here and [bus.CodePolicy] where a member is no active user.
func (d *Directory) CreateRoom(ctx context.Context, signer bus.ID, rec *room.Record, sealed []room.Sealed) error {
	if err := d.createRoom(ctx, signer, rec, sealed); err != nil {
		return fmt.Errorf("create room %s: %w", rec.Room, err)
	}
	return nil
}

func (d *Directory) createRoom(ctx context.Context, signer bus.ID, rec *room.Record, sealed []room.Sealed) error {
	if identity.IDOf(rec.Signer) != signer {
		return bus.Errorf(bus.CodeNotAuthority, "the record is signed by somebody else")
	}
	if err := room.CheckGenesis(rec); err != nil {
		return err
	}
	if err := d.checkRecord(ctx, rec, nil, sealed); err != nil {
		return err
	}
	if err := d.writeRecord(ctx, rec, nil, sealed); err != nil {
		return err
	}
	value, err := encodeHead(Head{rec.Epoch, rec.Hash()})
	if err != nil {
		return err
	}
	_, err = d.create(ctx, store.Control, headKey(rec.Room), value, 0)
	if l, exists := errors.AsType[*lost](err); exists {
		// Only this very record can have made the room.
		d.rest(store.Control, l.current.Revision)
		return nil
	}
	return err
}

// AppendRecord makes rec the head of its room, with the sealed keys of its
// members in the order of the member list. A record that is in the chain
// already changes nothing.
//
// Errors have [bus.CodeNotAuthority] where there is no such room or the signer
// has no authority in its head, and learns no more; the codes of
// [room.Record.Follows], [room.Record.CheckTime] and [room.Record.CheckSealed],
// of which those about the place in the chain are a [*HeadConflict];
// [bus.CodeCardMismatch] and [bus.CodePolicy] as in [Directory.CreateRoom].
func (d *Directory) AppendRecord(ctx context.Context, rec *room.Record, sealed []room.Sealed) error {
	if err := d.appendRecord(ctx, rec, sealed); err != nil {
		return fmt.Errorf("append record %d to room %s: %w", rec.Epoch, rec.Room, err)
	}
	return nil
}

func (d *Directory) appendRecord(ctx context.Context, rec *room.Record, sealed []room.Sealed) error {
	value, err := encodeHead(Head{rec.Epoch, rec.Hash()})
	if err != nil {
		return err
	}
	written := false
	for range attempts {
		head, rev, err := d.readHead(ctx, rec.Room)
		if errors.Is(err, bus.ErrNotFound) {
			return errNoAuthority
		}
		if err != nil {
			return err
		}
		before, err := d.place(ctx, rec, head)
		if err != nil {
			return err
		}
		if before == nil {
			d.rest(store.Control, rev)
			return nil
		}
		if !written {
			if err := d.checkRecord(ctx, rec, before, sealed); err != nil {
				return err
			}
			if err := d.writeRecord(ctx, rec, before, sealed); err != nil {
				return err
			}
			written = true
		}
		_, err = d.update(ctx, store.Control, headKey(rec.Room), value, rev)
		if _, raced := errors.AsType[*lost](err); !raced {
			return err
		}
	}
	return busy("append record")
}

// errNoAuthority is all that somebody without authority in a room is told.
var errNoAuthority = bus.Errorf(bus.CodeNotAuthority, "no such room, or no authority in it")

// place returns the record that rec may follow, or nil if rec is in the chain
// that leads to head.
func (d *Directory) place(ctx context.Context, rec *room.Record, head Head) (*room.Record, error) {
	if rec.Epoch <= head.Epoch {
		c, err := d.chain(ctx, rec.Room, head)
		if err != nil {
			return nil, err
		}
		if c.has(Head{rec.Epoch, rec.Hash()}) {
			return nil, nil
		}
	}
	before, err := d.loadRecord(ctx, rec.Room, head.Hash)
	if err != nil {
		return nil, err
	}
	if !before.Authority(rec.Signer).IsAuthority() {
		return nil, errNoAuthority
	}
	if rec.Epoch <= head.Epoch {
		return nil, &HeadConflict{rec.Room, head, bus.Errorf(bus.CodeConflict, "the room is at epoch %d", head.Epoch)}
	}
	err = rec.Follows(before)
	if errors.Is(err, bus.ErrGap) || errors.Is(err, bus.ErrFork) {
		return nil, &HeadConflict{rec.Room, head, err}
	}
	return before, err
}

// checkRecord checks what [room.Record.Follows] does not: time, sealed keys, and
// that the members are users here. before is the head, nil for a first record.
func (d *Directory) checkRecord(ctx context.Context, rec, before *room.Record, sealed []room.Sealed) error {
	if err := rec.CheckTime(d.now()); err != nil {
		return err
	}
	if err := rec.CheckSealed(sealed); err != nil {
		return err
	}
	for _, s := range sealed {
		if len(s.Blob) > bus.MaxSealedSize {
			return bus.Errorf(bus.CodeTooLarge, "sealed key of %s has %d bytes, at most %d", s.ID, len(s.Blob), bus.MaxSealedSize)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelReads)
	for _, m := range rec.Members() {
		group.Go(func() error { return d.checkMember(ctx, m, before) })
	}
	return group.Wait()
}

// checkMember refuses a member whose card is not known here, and makes nobody a
// member, or more than they were, who is no active user. Who was revoked as a
// member may stay until an authority removes them: a room that nobody could
// renew or rotate any more would punish the others.
func (d *Directory) checkMember(ctx context.Context, m room.Member, before *room.Record) error {
	sign, _, err := d.readCard(ctx, m.ID, m.CardHash)
	if errors.Is(err, bus.ErrNotFound) {
		return bus.Errorf(bus.CodeCardMismatch, "check member %s: card %s is not known here", m.ID, m.CardHash)
	}
	if err != nil {
		return fmt.Errorf("check member: %w", err)
	}
	u, err := d.User(ctx, sign)
	if err != nil {
		return fmt.Errorf("check member: %w", err)
	}
	if !u.Active() && (before == nil || before.Role(m.ID) < m.Role) {
		return bus.Errorf(bus.CodePolicy, "check member %s: user %s was revoked", m.ID, u.Handle)
	}
	return nil
}

// Head returns the latest record of a room. The error has [bus.CodeNotFound]
// where there is no such room.
func (d *Directory) Head(ctx context.Context, r bus.RoomID) (Head, error) {
	h, _, err := d.readHead(ctx, r)
	return h, err
}

func (d *Directory) readHead(ctx context.Context, r bus.RoomID) (Head, store.Revision, error) {
	entry, err := d.store.Get(ctx, store.Control, headKey(r))
	if err != nil {
		return Head{}, 0, fmt.Errorf("read head of room %s: %w", r, err)
	}
	h, err := decodeHead(entry.Value)
	if err != nil {
		return Head{}, 0, fmt.Errorf("read head of room %s: %w", r, err)
	}
	return h, entry.Revision, nil
}

// RawRecord is a record with its signature and its encoded member list.
type RawRecord struct {
	Record, Members []byte
}

// Page is a part of a room's chain.
type Page struct {
	Records []RawRecord
	Last    Head // up to where the reader may read
	More    bool // there is more up to Last
}

// Records returns a room's chain from an epoch on, as far as somebody may read
// it: to the end for a member, and for a removed one to the record that removed
// it. It returns at least one record and stops before maxBytes of them are
// passed. From beyond the end there are none.
//
// The error has [bus.CodeForbidden] where the reader never was a member or
// there is no such room.
func (d *Directory) Records(ctx context.Context, r bus.RoomID, reader bus.ID, from bus.Epoch, maxBytes int) (Page, error) {
	c, last, err := d.readable(ctx, r, reader)
	if err != nil {
		return Page{}, fmt.Errorf("read records: %w", err)
	}
	page := Page{Last: Head{last, c.hashes[last]}}
	size := 0
	for e := from; e <= last; e++ {
		s, err := d.readStored(ctx, r, c.hashes[e])
		if err != nil {
			return Page{}, fmt.Errorf("read records: %w", err)
		}
		size += len(s.Record) + len(s.Members)
		if size > maxBytes && len(page.Records) > 0 {
			page.More = true
			break
		}
		page.Records = append(page.Records, RawRecord{s.Record, s.Members})
	}
	return page, nil
}

// readSealed returns the copy that the record names.
func (d *Directory) readSealed(ctx context.Context, rec *room.Record, reader bus.ID) ([]byte, error) {
	if !rec.Policy.Encrypted() {
		return nil, bus.Errorf(bus.CodeNotFound, "the room is not encrypted")
	}
	i, m, ok := position(rec, reader)
	if !ok {
		return nil, bus.Errorf(bus.CodeNotFound, "%s was no member", reader)
	}
	entry, err := d.store.Get(ctx, store.Sealed, sealedKey(rec.Room, rec.Hash(), i/bus.SealedChunk))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, bus.Errorf(bus.CodeInternal, "the sealed keys are gone")
	}
	if err != nil {
		return nil, err
	}
	k, err := decodeSealedChunk(entry.Value)
	if err != nil {
		return nil, err
	}
	if i %= bus.SealedChunk; i >= len(k.Blobs) || room.HashSealed(k.Blobs[i]) != m.SealedHash {
		return nil, corrupt("sealed keys")
	}
	return k.Blobs[i], nil
}

// position returns a member's place in the member list.
func position(rec *room.Record, id bus.ID) (int, room.Member, bool) {
	for i, m := range rec.Members() {
		if m.ID == id {
			return i, m, true
		}
	}
	return 0, room.Member{}, false
}

// readable returns a room's chain and up to which epoch somebody may read it.
// Nobody learns from it whether a room exists that it was never in.
func (d *Directory) readable(ctx context.Context, r bus.RoomID, reader bus.ID) (*chain, bus.Epoch, error) {
	denied := bus.Errorf(bus.CodeForbidden, "no such room %s, or never a member of it", r)
	head, _, err := d.readHead(ctx, r)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, 0, denied
	}
	if err != nil {
		return nil, 0, err
	}
	c, err := d.chain(ctx, r, head)
	if err != nil {
		return nil, 0, err
	}
	rec, err := d.loadRecord(ctx, r, head.Hash)
	if err != nil {
		return nil, 0, err
	}
	if _, member := rec.Member(reader); member {
		return c, head.Epoch, nil
	}
	if left, was := c.left[reader]; was {
		return c, min(left, head.Epoch), nil
	}
	return nil, 0, denied
}

func encodeHead(h Head) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(bus.Version)
	b.AddUint64(uint64(h.Epoch))
	b.AddBytes(h.Hash[:])
	return built("head", &b)
}

func decodeHead(value []byte) (Head, error) {
	var h Head
	var version uint8
	s := cryptobyte.String(value)
	if !s.ReadUint8(&version) || version != bus.Version || !s.ReadUint64((*uint64)(&h.Epoch)) ||
		!s.CopyBytes(h.Hash[:]) || !s.Empty() {
		return Head{}, corrupt("head")
	}
	return h, nil
}
