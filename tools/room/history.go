package room

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
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

func history(c *cli.Call) error {
	return withRoom(c, func(ctx context.Context, cl *client.Client, r *client.Room) error {
		records, err := busy(c, "reading the room", func() ([]*room.Record, error) { return r.Log(ctx) })
		if err != nil {
			return fmt.Errorf("read history: %w", err)
		}
		handles := map[bus.ID]bus.Handle{}
		for _, m := range r.Members() {
			handles[m.ID] = m.Handle
		}
		if handles[cl.ID()] == "" && !c.WantsJSON() {
			handles[cl.ID()] = you
		}
		entries := entriesOf(records, handles)
		c.Note("%d records, each verified against the one before", len(entries))
		if c.WantsJSON() {
			return c.JSON(struct {
				head
				Records []entry `json:"records"`
			}{headOf(r), entries})
		}
		rows := make([][]string, len(entries))
		for i, e := range entries {
			what := make([]string, len(e.Changes))
			for j, done := range e.Changes {
				what[j] = done.String()
			}
			rows[i] = []string{
				strconv.FormatUint(uint64(e.Epoch), 10), e.Hash.String(), stamp(e.Created),
				nameOf(e.SignerID, e.SignerHandle), strings.Join(what, "; "),
			}
		}
		c.Table([]string{"epoch", "record", "created", "signed by", "what changed"}, rows)
		return nil
	})
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
