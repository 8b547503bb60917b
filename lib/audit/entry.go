package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// maxLine bounds a line of the log, its newline left out, in bytes.
const maxLine = 4 << 10

// version is what entries and files begin with.
const version = 1

type digestKind struct{}

// Digest is a SHA-256 of a request.
type Digest = bus.Bytes32[digestKind]

// Kind says which half of a change an entry is.
type Kind string

// The kinds of entries.
const (
	KindBegin Kind = "begin" // before a change
	KindEnd   Kind = "end"   // after it
)

// Via says how it is known who made a change.
type Via string

// The ways to be known.
const (
	ViaSignature Via = "signature" // the request was signed with the key of the user's card
	ViaCard      Via = "card"      // self-authenticated: by the card that is published
	ViaProof     Via = "proof"     // nobody is known: what was handed in is signed itself
	ViaSocket    Via = "socket"    // the kernel said who is at the local socket
	ViaOffline   Via = "offline"   // a command on the files of a stopped node
	ViaStart     Via = "start"     // the command line of the node
)

// OK is the [Outcome].Code of a change that was made.
const OK = "ok"

// Entry is one line of the log: a [Change] or its [Outcome].
type Entry struct {
	V       int       `json:"v"`
	Seq     uint64    `json:"seq"` // counts entries from 1
	Time    time.Time `json:"time"`
	Kind    Kind      `json:"kind"`
	Request string    `json:"request,omitempty"` // id, as in the node's log and in problem documents
	*Change
	*Outcome

	// Hash is this entry's; what the next one stands on.
	Hash bus.AuditHash `json:"-"`
}

// Change is what somebody is about to do.
type Change struct {
	Via    Via        `json:"via"`
	ID     *bus.ID    `json:"id,omitempty"` // of the user
	Handle bus.Handle `json:"handle,omitempty"`
	UID    *int       `json:"uid,omitempty"` // of the user of the machine
	Method string     `json:"method"`
	Path   string     `json:"path"`
	// Subject is what is changed: the handle of a user, the id of a room.
	Subject string `json:"subject,omitempty"`
	// Digest is that of the signature base of the request (RFC 9421 section
	// 2.5), which names all that was signed; where nothing is, of the body;
	// left out where there is no request.
	Digest Digest `json:"digest,omitzero"`
}

// Local returns a change by whoever runs this process, told in the words of the
// request that would ask a node for it.
func Local(via Via, method, path, subject string) Change {
	uid := os.Getuid()
	return Change{Via: via, UID: &uid, Method: method, Path: path, Subject: subject}
}

// Outcome is what came of a change.
type Outcome struct {
	Begin uint64 `json:"begin"` // Seq of the change
	Code  string `json:"code"`  // [OK] or a [bus.Code]
	// Revision is one of the control bucket by which the change shows.
	Revision uint64          `json:"revision,omitempty"`
	Epoch    *bus.Epoch      `json:"epoch,omitempty"` // of the room's new head
	Head     *bus.RecordHash `json:"head,omitempty"`  // its hash
}

// check refuses what no node writes.
func (e Entry) check() error {
	begins, ends := e.Change != nil, e.Outcome != nil
	switch {
	case e.V != version:
		return bus.Errorf(bus.CodeMalformed, "entry has version %d, want %d", e.V, version)
	case e.Kind == KindBegin && begins && !ends, e.Kind == KindEnd && ends && !begins && e.Outcome.Begin < e.Seq:
		return nil
	}
	return bus.Errorf(bus.CodeMalformed, "entry of kind %.20q has the fields of another", e.Kind)
}

// hashOf returns the hash of an entry, by its JSON and the hash before it.
func hashOf(prev bus.AuditHash, text []byte) bus.AuditHash {
	return bus.AuditHash(wire.Hash(wire.LabelAudit, prev[:], text))
}

// encode returns the JSON of an entry.
func encode(e Entry) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "encode audit entry: %w", err)
	}
	if len(text)+hashLen+1 > maxLine {
		return nil, bus.Errorf(bus.CodeTooLarge, "encode audit entry: %d bytes", len(text))
	}
	return text, nil
}

// hashLen is the length of a hash in text form.
const hashLen = 43

// decode reads the JSON of an entry, in exactly the form encode writes.
func decode(text []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return e, bus.Errorf(bus.CodeMalformed, "decode audit entry: %w", err)
	}
	if err := e.check(); err != nil {
		return e, err
	}
	again, err := encode(e)
	if err != nil {
		return e, err
	}
	if !bytes.Equal(again, text) {
		return e, bus.Errorf(bus.CodeMalformed, "decode audit entry: it is not in canonical form")
	}
	return e, nil
}

// Chain checks entries one after the other. Its zero value is of no use; see
// [NewChain].
type Chain struct {
	next uint64
	prev bus.AuditHash
}

// NewChain returns a chain whose next entry is number next and stands on prev.
func NewChain(next uint64, prev bus.AuditHash) *Chain { return &Chain{next, prev} }

// Next returns the number of the entry that comes next.
func (c *Chain) Next() uint64 { return c.next }

// Head returns the hash of the last entry.
func (c *Chain) Head() bus.AuditHash { return c.prev }

// Add checks that a line, its newline left out, is the next entry, and returns
// it. The error has [bus.CodeAuditBroken] and names the entry; the chain is then
// where it was.
func (c *Chain) Add(line []byte) (Entry, error) {
	e, err := c.check(line)
	if err != nil {
		return Entry{}, bus.Errorf(bus.CodeAuditBroken, "check audit entry %d: %w", c.next, err)
	}
	c.next, c.prev = c.next+1, e.Hash
	return e, nil
}

func (c *Chain) check(line []byte) (Entry, error) {
	hash, text, ok := strings.Cut(string(line), " ")
	if !ok || len(line) > maxLine {
		return Entry{}, bus.Errorf(bus.CodeMalformed, "it is no line of an audit log")
	}
	claimed, err := bus.ParseAuditHash(hash)
	if err != nil {
		return Entry{}, err
	}
	if hashOf(c.prev, []byte(text)) != claimed {
		return Entry{}, bus.Errorf(bus.CodeMalformed, "its hash does not fit it and the entry before")
	}
	e, err := decode([]byte(text))
	if err != nil {
		return Entry{}, err
	}
	if e.Seq != c.next {
		return Entry{}, bus.Errorf(bus.CodeMalformed, "it calls itself entry %d", e.Seq)
	}
	e.Hash = claimed
	return e, nil
}
