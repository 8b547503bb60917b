package room

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// changeKind says what kind of thing a record changed.
type changeKind string

// The kinds of changes, as --json prints them.
const (
	changeCreated changeKind = "created" // the room
	changeAdded   changeKind = "added"   // a member
	changeRemoved changeKind = "removed" // a member
	changeRole    changeKind = "role"    // of a member
	changeCard    changeKind = "card"    // a member has a new one
	changePolicy  changeKind = "policy"
	changeResolve changeKind = "resolved" // a fork: another branch is declared lost
	changeRenewed changeKind = "renewed"  // nothing but the key and the time
)

// change is one thing that a record changed.
type change struct {
	Kind   changeKind      `json:"kind"`
	ID     *bus.ID         `json:"id,omitempty"` // of the member
	Handle bus.Handle      `json:"handle,omitempty"`
	From   string          `json:"from,omitempty"` // role or policy
	To     string          `json:"to,omitempty"`
	Record *bus.RecordHash `json:"record,omitempty"` // that was declared lost
}

func (c change) String() string {
	who := ""
	if c.ID != nil {
		who = nameOf(*c.ID, c.Handle)
	}
	switch c.Kind {
	case changeAdded:
		return "added " + who + " as " + c.To
	case changeRemoved:
		return "removed " + who
	case changeRole:
		return "made " + who + " " + c.To + " instead of " + c.From
	case changeCard:
		return "took over the new card of " + who
	case changePolicy:
		return "changed the policy to: " + c.To
	case changeResolve:
		return "declared record " + c.Record.String() + " lost"
	case changeCreated:
		return "created the room: " + c.To
	}
	return "new key and time"
}

// you stands for the handle of whoever reads, who knows it; no handle is like it.
const you = "(you)"

// nameOf is how people recognise somebody.
func nameOf(id bus.ID, handle bus.Handle) string {
	if handle != "" {
		return string(handle)
	}
	return id.Fingerprint()
}

// changesOf tells a record from the one before, which is nil for the first.
// handles are the ones that are known.
func changesOf(before, rec *room.Record, handles map[bus.ID]bus.Handle) []change {
	about := func(k changeKind, id bus.ID) change { return change{Kind: k, ID: &id, Handle: handles[id]} }
	var changes []change
	if before == nil {
		changes = append(changes, change{Kind: changeCreated, To: describePolicy(rec.Policy)})
		for _, m := range rec.Members() {
			c := about(changeAdded, m.ID)
			c.To = m.Role.String()
			changes = append(changes, c)
		}
		return changes
	}
	for _, m := range rec.Members() {
		old, was := before.Member(m.ID)
		c := about(changeAdded, m.ID)
		c.To = m.Role.String()
		switch {
		case was && old.Role != m.Role:
			c.Kind, c.From = changeRole, old.Role.String()
		case was && old.CardHash != m.CardHash:
			c = about(changeCard, m.ID)
		case was:
			continue
		}
		changes = append(changes, c)
	}
	for _, m := range before.Members() {
		if _, is := rec.Member(m.ID); !is {
			changes = append(changes, about(changeRemoved, m.ID))
		}
	}
	if before.Policy != rec.Policy {
		changes = append(changes, change{Kind: changePolicy, From: describePolicy(before.Policy), To: describePolicy(rec.Policy)})
	}
	for _, lost := range rec.Resolves {
		changes = append(changes, change{Kind: changeResolve, Record: &lost})
	}
	if len(changes) == 0 {
		changes = append(changes, change{Kind: changeRenewed})
	}
	return changes
}

// entry is one record of the history, as --json prints it.
type entry struct {
	Epoch        bus.Epoch      `json:"epoch"`
	Hash         bus.RecordHash `json:"hash"`
	Prev         bus.RecordHash `json:"prev,omitzero"`
	Created      time.Time      `json:"created"`
	NotAfter     time.Time      `json:"not_after"`
	Signer       bus.SignPub    `json:"signer"`
	SignerID     bus.ID         `json:"signer_id"`
	SignerHandle bus.Handle     `json:"signer_handle,omitempty"`
	Changes      []change       `json:"changes"`
}

// log is the history of a room, as --json prints it.
type log struct {
	head
	Records []entry `json:"records"`
	proofs
	// Error says that these are the records that servers show and not, or not all,
	// those that were accepted here.
	Error string   `json:"error,omitempty"`
	Code  bus.Code `json:"code,omitempty"`
}

func history(c *cli.Call) error {
	return with(c, func(ctx context.Context, cl *client.Client) error {
		id, err := connect.RoomID(cl, c.Arg(0))
		if err != nil {
			return err
		}
		kept, err := cl.Proofs(id)
		if err != nil {
			c.Warn("%s", err)
		}
		var of head
		records, failed := busy(c, "reading the room", func() (records []*room.Record, err error) {
			r, err := cl.Room(ctx, id.String())
			if err == nil {
				records, err = r.Log(ctx)
			}
			if err == nil {
				of = headOf(r)
			}
			return records, err
		})
		if failed != nil {
			if !connect.Forked(failed) {
				return fmt.Errorf("read history: %w", failed)
			}
			f, err := busy(c, "reviewing the room", func() (*client.Fork, error) { return cl.ReviewFork(ctx, id) })
			if err != nil {
				return errors.Join(failed, err)
			}
			records, of = f.Shown, head{Room: id, Name: f.Name, Epoch: f.Head().Epoch}
			c.Warn("these are the records that the servers show; others were accepted here")
			failed = cli.WithHint(fmt.Errorf("read history: %w", failed), "see both ways: unibus room resolve %s --dry-run", connect.RoomArg(id))
		}
		return errors.Join(printHistory(c, cl, of, records, kept, failed), failed)
	})
}

func printHistory(c *cli.Call, cl *client.Client, of head, records []*room.Record, kept []client.Proof, failed error) error {
	names := map[bus.ID]bus.Handle{}
	for _, rec := range records {
		for id, handle := range handlesIn(cl, c.WantsJSON(), rec) {
			names[id] = handle
		}
	}
	out := log{head: of, Records: entriesOf(records, names), proofs: proofsOf(kept, records, func(id bus.ID) bus.Handle {
		if handle, ok := names[id]; ok {
			return handle
		}
		return cl.HandleOf(id)
	})}
	c.Note("%d records, each verified against the one before", len(out.Records))
	if c.WantsJSON() {
		if failed != nil {
			out.Error, out.Code = failed.Error(), bus.CodeOf(failed)
		}
		return c.JSON(out)
	}
	rows := make([][]string, len(out.Records))
	for i, e := range out.Records {
		what := make([]string, len(e.Changes))
		for j, done := range e.Changes {
			what[j] = done.String()
		}
		rows[i] = []string{
			strconv.FormatUint(uint64(e.Epoch), 10), e.Hash.String(), c.Time(e.Created),
			nameOf(e.SignerID, e.SignerHandle), strings.Join(what, "; "),
		}
	}
	c.Table([]string{"epoch", "record", "created", "signed by", "what changed"}, rows)
	out.proofs.print(c)
	for _, f := range out.Forks {
		if f.GivenUp == nil {
			c.Note("the fork at epoch %d is not resolved; an owner does: unibus room resolve %s", f.Epoch, connect.RoomArg(of.Room))
		}
	}
	for _, e := range out.Equivocations {
		c.Note("%s is dishonest, or their identity was copied; an admin takes them out: unibus room remove %s %s", nameOf(e.Sender, e.Handle), connect.RoomArg(of.Room), whoArg(e.Sender))
	}
	return nil
}

func entriesOf(records []*room.Record, handles map[bus.ID]bus.Handle) []entry {
	entries := make([]entry, len(records))
	var before *room.Record
	for i, rec := range records {
		signer := identity.IDOf(rec.Signer)
		entries[i] = entry{
			Epoch: rec.Epoch, Hash: rec.Hash(), Prev: rec.Prev, Created: rec.Created.UTC(), NotAfter: rec.NotAfter.UTC(),
			Signer: rec.Signer, SignerID: signer, SignerHandle: handles[signer], Changes: changesOf(before, rec, handles),
		}
		before = rec
	}
	return entries
}
