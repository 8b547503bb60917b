package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// line is something somebody says, and where it went.
type line struct {
	from *person
	text string
	sent client.Receipt
}

func run(c *cli.Call) (err error) {
	ctx := c.Context
	began := c.Env.Now()
	dir, err := os.MkdirTemp("", "unibus-demo-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() {
		if c.Bool("keep") {
			c.Note("kept %s", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	w, err := newWorld(ctx, c, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	if err := w.meet(ctx); err != nil {
		return err
	}
	out := &shown{BusID: w.busID, Room: w.alice.room.ID(), Name: w.alice.room.Name()}
	if c.Bool("keep") {
		out.Kept = dir
	}
	tell(c, "A bus in one process, in %s\n\n", dir)
	tell(c, "  bus    %s\n", w.busID)
	tell(c, "  users  admin, alice, bob, each with an identity of their own\n")
	tell(c, "  room   %s: encrypted, and acknowledged after fsync\n\n", w.alice.room.Name())
	go w.alice.listen(ctx)
	go w.bob.listen(ctx)

	said, err := w.talk(ctx)
	if err != nil {
		return err
	}
	if err := w.show(c, said, out); err != nil {
		return err
	}
	if err := w.removeBob(ctx, c, out); err != nil {
		return err
	}
	switch {
	case c.WantsJSON():
		return c.JSON(out)
	case c.Quiet():
		c.Printf("%d lines were read by members and are in none of the node's %d files; %s, removed, can neither read nor write\n",
			len(out.Said), out.Files, out.Removed.Handle)
	}
	tell(c, "\nDone in %s.\n", c.Env.Now().Sub(began).Round(time.Millisecond))
	return nil
}

// shown is what --json prints of a demo that went as it should.
type shown struct {
	BusID     bus.BusID    `json:"bus_id"`
	Room      bus.RoomID   `json:"room"`
	Name      bus.RoomName `json:"name"`
	Said      []saidLine   `json:"said"`
	Files     int          `json:"files"`
	FileBytes int64        `json:"file_bytes"`
	Leaks     int          `json:"leaks"`
	Removed   removal      `json:"removed"`
	Kept      string       `json:"kept,omitempty"`
}

type saidLine struct {
	From        bus.Handle `json:"from"`
	Text        string     `json:"text"`
	Epoch       bus.Epoch  `json:"epoch"`
	StoredBytes int        `json:"stored_bytes"`
	Stored      string     `json:"stored"` // how the ciphertext begins, in hexadecimal
}

type removal struct {
	Handle bus.Handle `json:"handle"`
	Reads  bus.Code   `json:"reads"`
	Writes bus.Code   `json:"writes"`
}

// tell is the story, which --json and --quiet leave away.
func tell(c *cli.Call, format string, args ...any) {
	if !c.WantsJSON() && !c.Quiet() {
		c.Printf(format, args...)
	}
}

// meet has alice make a room, and bob join it.
func (w *world) meet(ctx context.Context) (err error) {
	if w.alice.room, err = w.alice.client.CreateRoom(ctx, "demo.lounge", client.RoomOptions{}); err != nil {
		return err
	}
	if err := w.alice.room.Invite(ctx, "bob", bus.RoleWriter); err != nil {
		return err
	}
	w.bob.room, err = w.bob.client.AcceptRoom(ctx, w.alice.room.ID())
	return err
}

// talk has both say lines in turn, and each time waits until both read them.
func (w *world) talk(ctx context.Context) ([]line, error) {
	said := []line{
		{from: w.alice, text: "Good morning, Bob. The deploy key is under the third stone."},
		{from: w.bob, text: "Found it. Does the landlord of this server know?"},
		{from: w.alice, text: "He may read his whole disk. Let us look at what he sees."},
	}
	for i := range said {
		if err := w.say(ctx, &said[i], w.alice, w.bob); err != nil {
			return nil, err
		}
	}
	return said, nil
}

// say publishes a line and waits until each reader has read just that.
func (w *world) say(ctx context.Context, l *line, readers ...*person) (err error) {
	if l.sent, err = l.from.room.Publish(ctx, []byte(l.text)); err != nil {
		return err
	}
	for _, p := range readers {
		m, err := p.next(ctx)
		if err != nil {
			return err
		}
		if string(m.Body) != l.text || m.Sender != l.from.client.ID() {
			return bus.Errorf(bus.CodeInternal, "read as %s: %q from %s, where %s said %q", p.handle, m.Body, m.Sender, l.from.handle, l.text)
		}
	}
	return nil
}

// show prints the lines beside the frames they became, and fails if any of
// them can be read on the node's disk.
func (w *world) show(c *cli.Call, said []line, out *shown) error {
	texts := []string{string(w.alice.room.Name())}
	for _, l := range said {
		texts = append(texts, l.text)
	}
	found, err := scanDir(w.node.DataDir(), texts)
	if err != nil {
		return err
	}
	rows := make([][]string, len(said))
	for i, l := range said {
		stored, ok := found.frameOf(l.sent.Room, l.sent.Session, l.sent.Seq)
		if !ok {
			return bus.Errorf(bus.CodeInternal, "find frame of %q: it was acknowledged and is in none of %d files", l.text, found.files)
		}
		rows[i] = []string{string(l.from.handle), l.text, stored.describe()}
		out.Said = append(out.Said, saidLine{l.from.handle, l.text, stored.header.Epoch, len(stored.ciphertext()), stored.beginning()})
	}
	out.Files, out.FileBytes = found.files, found.bytes
	if !c.WantsJSON() && !c.Quiet() {
		c.Table([]string{"from", "what the members read", "what the server stored"}, rows)
	}
	if len(found.leaks) > 0 {
		return bus.Errorf(bus.CodeInternal, "look for plaintext: found %s", strings.Join(found.leaks, ", "))
	}
	tell(c, "\nOf the lines above, and of the room's name, none is in any of the node's %d files (%d bytes).\n\n", found.files, found.bytes)
	return nil
}

// removeBob shows that what is said after a removal is closed to whoever was
// removed: the record has a new key, sealed to the others only.
func (w *world) removeBob(ctx context.Context, c *cli.Call, out *shown) error {
	before := w.alice.room.Epoch()
	if err := w.alice.room.Remove(ctx, "bob"); err != nil {
		return err
	}
	tell(c, "Alice removes bob: epoch %d to %d, with a new key, sealed to alice alone.\n\n", before, w.alice.room.Epoch())
	last := line{from: w.alice, text: "Now it is only us, and the third stone is a fourth."}
	if err := w.say(ctx, &last, w.alice); err != nil {
		return err
	}
	if err := w.show(c, []line{last}, out); err != nil {
		return err
	}
	var reads, writes error
	for reads == nil {
		var m *client.Message
		if m, reads = w.bob.next(ctx); reads == nil {
			return bus.Errorf(bus.CodeInternal, "read as bob after his removal: %q", m.Body)
		}
	}
	if !errors.Is(reads, bus.ErrNotMember) {
		return fmt.Errorf("read as bob after his removal: %w", reads)
	}
	if _, writes = w.bob.room.Publish(ctx, []byte("hello?")); writes == nil {
		return bus.Errorf(bus.CodeInternal, "write as bob after his removal: it was accepted")
	}
	out.Removed = removal{w.bob.handle, bus.CodeOf(reads), bus.CodeOf(writes)}
	tell(c, "bob reads   %s (%s)\n", reads, out.Removed.Reads)
	tell(c, "bob writes  %s (%s)\n", writes, out.Removed.Writes)
	return nil
}
