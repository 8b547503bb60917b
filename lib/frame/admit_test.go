package frame

import (
	"errors"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

func TestPolicyOfAnotherKindIsRefused(t *testing.T) {
	w := newWorld(t, stored)
	o := w.opener()
	for name, change := range map[string]func(*Header){
		"another suite":         func(h *Header) { h.Suite = bus.SuiteXChaCha20 },
		"plain":                 func(h *Header) { h.Suite, h.Flags = bus.SuitePlain, h.Flags&^bus.FlagEncrypt },
		"plain, suite only":     func(h *Header) { h.Suite = bus.SuitePlain },
		"live":                  func(h *Header) { h.Flags &^= bus.FlagPersist },
		"padded":                func(h *Header) { h.Flags |= bus.FlagPad },
		"a flag there is not":   func(h *Header) { h.Flags |= 0x80 },
		"encrypted, no flag":    func(h *Header) { h.Flags &^= bus.FlagEncrypt },
		"a suite there is not ": func(h *Header) { h.Suite = 3 },
	} {
		h := w.header("alice", 0, 1)
		change(&h)
		sealAs := h
		sealAs.Suite = min(h.Suite, bus.SuiteXChaCha20)
		frame, _, err := w.forger("alice", sealAs, w.key(0), w.Head().Hash()).seal(nil, 0, w.now, text("hello"))
		if err != nil {
			t.Fatal(err)
		}
		frame[4] = byte(h.Suite)
		if got, err := w.open(o, frame); bus.CodeOf(err) != bus.CodePolicy || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownEpochCanBeFetchedAndTriedAgain(t *testing.T) {
	w := newWorld(t, stored)
	w.next()
	w.next()
	full := w.epochs
	frame := w.seal(w.sealer("alice", 2, 1), 0)
	alice := w.people["alice"].ID().Token()
	o := w.opener()

	w.epochs = full[:1]
	for range 2 {
		_, err := o.Open(w.room().Token(), alice, frame)
		unknown, ok := errors.AsType[*UnknownEpochError](err)
		if !ok || !errors.Is(err, bus.ErrEpochUnknown) || unknown.Epoch != 2 || unknown.Head != 0 {
			t.Fatalf("error %v", err)
		}
	}
	w.epochs = full
	w.hidden[2] = true
	w.refuseHere(o, frame, bus.CodeEpochUnknown)
	delete(w.hidden, 2)
	w.behind = 1 // a record that is known and not yet accepted
	w.refuseHere(o, frame, bus.CodeEpochUnknown)
	w.behind = 0
	if _, err := o.Open(w.room().Token(), alice, frame); err != nil {
		t.Errorf("with the record: %v", err)
	}

	// An older epoch is judged by every record since.
	old := w.seal(w.sealer("alice", 0, 2), 0)
	w.hidden[1] = true
	_, err := w.open(o, old)
	if unknown, ok := errors.AsType[*UnknownEpochError](err); !ok || unknown.Epoch != 1 {
		t.Errorf("with a record missing between: %v", err)
	}
	delete(w.hidden, 1)
	w.accept(o, old)
}

func TestUnknownSenderCanBeFetchedAndTriedAgain(t *testing.T) {
	w := newWorld(t, stored)
	o, id := w.opener(), w.people["alice"].ID()
	frame := w.seal(w.sealer("alice", 0, 1), 0)
	pub := w.pubs[id]
	delete(w.pubs, id)
	_, err := o.Open(w.room().Token(), id.Token(), frame)
	if unknown, ok := errors.AsType[*UnknownSenderError](err); !ok || unknown.Sender != id || !errors.Is(err, bus.ErrNotFound) {
		t.Fatalf("error %v", err)
	}
	w.pubs[id] = w.people["bob"].SignPub()
	w.refuseHere(o, frame, bus.CodeInternal)
	w.pubs[id] = pub
	if _, err := o.Open(w.room().Token(), id.Token(), frame); err != nil {
		t.Errorf("with the key: %v", err)
	}
}

func TestEpochWithoutItsKeyDoesNotDecrypt(t *testing.T) {
	w := newWorld(t, stored)
	frame := w.seal(w.sealer("alice", 0, 1), 0)
	o, key := w.opener(), w.epochs[0].Key
	w.epochs[0].Key = nil
	w.refuseHere(o, frame, bus.CodeDecrypt)
	w.epochs[0].Key = key
	w.accept(o, frame)
}

func TestReadersAndStrangersAreNotHeard(t *testing.T) {
	w := newWorld(t, stored)
	o := w.opener()
	for _, name := range []string{"rita", "mallory"} {
		frame, _, err := w.forger(name, w.header(name, 0, 1), w.key(0), w.Head().Hash()).seal(nil, 0, w.now, text("hello"))
		if err != nil {
			t.Fatal(err)
		}
		w.refuseHere(o, frame, bus.CodeNotMember)
	}
}

func TestWriterOfTheHeadStaysValidInOldEpochs(t *testing.T) {
	t.Run("stored, for ever", func(t *testing.T) {
		w := newWorld(t, stored)
		s := w.sealer("alice", 0, 1)
		w.next()
		w.next()
		w.now = w.now.Add(20 * 24 * time.Hour)
		w.accept(w.opener(), w.seal(s, 5))
	})
	t.Run("live, for the grace", func(t *testing.T) {
		w := newWorld(t, live)
		s := w.sealer("alice", 0, 1)
		w.next()
		ended := w.now
		w.now = ended.Add(bus.MaxGrace / 2)
		w.next() // the grace of epoch 0 counts from its own end
		o := w.opener()
		w.now = ended.Add(bus.MaxGrace)
		w.accept(o, w.seal(s, 5))
		w.now = w.now.Add(time.Microsecond)
		w.refuseHere(o, w.seal(s, 6), bus.CodeEpochClosed)
		w.accept(o, w.seal(w.sealer("alice", 1, 1), 7))
	})
}

func TestRemovedWriterIsBoundedByTheCut(t *testing.T) {
	for name, change := range map[string]func(*world){
		"removed": func(w *world) { delete(w.roles, "alice") },
		"demoted": func(w *world) { w.roles["alice"] = bus.RoleReader },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, stored)
			old := w.sealer("alice", 0, 1)
			w.next()
			listed, unlisted := w.sealer("alice", 1, 1), w.sealer("alice", 1, 2)
			before := w.opener()
			w.accept(before, w.seal(unlisted, 0))
			w.accept(before, w.seal(listed, 1))

			change(w)
			w.next(room.Cut{ID: w.people["alice"].ID(), Session: bus.SessionID{1}, LastSeq: 9})
			w.next()
			for name, o := range map[string]*Opener{"who was there": before, "who comes later": w.opener()} {
				t.Run(name, func(t *testing.T) {
					old, listed, unlisted := w.sealer("alice", 0, 1), w.sealer("alice", 1, 1), w.sealer("alice", 1, 2)
					w.accept(o, w.seal(old, 8))
					w.accept(o, w.seal(listed, 9))
					w.refuseHere(o, w.seal(listed, 10), bus.CodeEpochClosed)
					w.refuseHere(o, w.seal(old, 10), bus.CodeEpochClosed)
					w.refuseHere(o, w.seal(unlisted, 1), bus.CodeNotMember)
				})
			}
			w.refuseHere(before, w.seal(old, 11), bus.CodeEpochClosed)

			// In epochs after it the sender is not heard at all.
			frame, _, err := w.forger("alice", w.header("alice", 2, 1), w.key(2), w.epochs[2].Record.Hash()).seal(nil, 5, w.now, text("hello"))
			if err != nil {
				t.Fatal(err)
			}
			w.refuseHere(before, frame, bus.CodeNotMember)
		})
	}
}

// Coming back does not unsay the cut: what was void stays void.
func TestCutHoldsAfterTheWriterComesBack(t *testing.T) {
	w := newWorld(t, stored)
	s, t2 := w.sealer("alice", 0, 1), w.sealer("alice", 0, 2)
	delete(w.roles, "alice")
	w.next(room.Cut{ID: w.people["alice"].ID(), Session: bus.SessionID{1}, LastSeq: 2})
	w.roles["alice"] = bus.RoleWriter
	w.next()
	o := w.opener()
	w.accept(o, w.seal(s, 2))
	w.refuseHere(o, w.seal(s, 3), bus.CodeEpochClosed)
	w.refuseHere(o, w.seal(t2, 0), bus.CodeNotMember)
	w.accept(o, w.seal(w.sealer("alice", 2, 1), 3))
}

func TestRemovedWriterOfALiveRoomHasTheGraceAtMost(t *testing.T) {
	w := newWorld(t, live)
	s := w.sealer("alice", 0, 1)
	delete(w.roles, "alice")
	w.next(room.Cut{ID: w.people["alice"].ID(), Session: bus.SessionID{1}, LastSeq: 9})
	o := w.opener()
	w.accept(o, w.seal(s, 8))
	w.now = w.now.Add(bus.MaxGrace + time.Second)
	w.refuseHere(o, w.seal(s, 9), bus.CodeEpochClosed)
}

// What a room stored must not come again as if it were live, once the room
// stores no longer: nobody reads it in the order of a stream then.
func TestFramesOfARoomThatStoppedStoringAreOfNow(t *testing.T) {
	w := newWorld(t, stored)
	late, old := w.seal(w.sealer("alice", 0, 1), 0), w.seal(w.sealer("bob", 0, 2), 0)
	w.policy = live
	w.next()
	o := w.opener()
	w.now = w.now.Add(bus.MaxGrace)
	w.accept(o, late)
	w.now = w.now.Add(25 * 24 * time.Hour)
	w.refuseHere(o, old, bus.CodeEpochClosed)
}
