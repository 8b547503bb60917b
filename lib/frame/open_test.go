package frame

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
)

// refuse checks that a frame is refused with a code, that nothing comes out or
// is left in its memory, and that the opener is as before: what it accepted
// and what it would accept.
func (w *world) refuse(o *Opener, roomToken, senderToken string, frame []byte, want bus.Code) {
	w.t.Helper()
	before := o.window.Heights()
	frame = slices.Clone(frame)
	opened, err := o.Open(roomToken, senderToken, frame)
	if bus.CodeOf(err) != want || errors.Is(err, ErrDuplicate) {
		w.t.Errorf("error %v, want code %s", err, want)
	}
	if opened != nil {
		w.t.Errorf("released %v", opened.Records)
	}
	if w.policy.Encrypted() && bytes.Contains(frame, []byte("hello")) {
		w.t.Error("the memory of the frame shows its content")
	}
	if diff := cmp.Diff(before, o.window.Heights()); diff != "" {
		w.t.Errorf("the window moved:\n%s", diff)
	}
}

// refuseHere is refuse for a frame that comes by the subject it names.
func (w *world) refuseHere(o *Opener, frame []byte, want bus.Code) {
	w.t.Helper()
	h, err := ParseHeader(frame)
	if err != nil {
		w.t.Fatal(err)
	}
	w.refuse(o, h.Room.Token(), h.Sender.Token(), frame, want)
}

func (w *world) accept(o *Opener, frame []byte) *Opened {
	w.t.Helper()
	opened, err := w.open(o, frame)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	return opened
}

func TestEveryFlippedBitIsRefusedWithItsClass(t *testing.T) {
	for name, policy := range suites {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy)
			w.next()
			frame := w.seal(w.sealer("alice", 1, 1), 1)
			tampered := bus.CodeDecrypt
			if !policy.Encrypted() {
				tampered = bus.CodeBadSignature
			}
			class := func(i, bit int) bus.Code {
				switch {
				case i < 4: // magic, version, type
					return bus.CodeMalformed
				case i < 6: // suite, flags
					return bus.CodePolicy
				case i < 38: // room
					return bus.CodeMisrouted
				case i == 45 && bit == 0: // epoch 0, which exists
					return bus.CodeFork
				case i < 46: // epoch
					return bus.CodeEpochUnknown
				case i < 54: // tag
					return bus.CodeFork
				case i < 54+16: // sender, as far as the subject has it
					return bus.CodeMisrouted
				case i < 86:
					return bus.CodeNotMember
				case i < 134: // session, seq, nonce
					return tampered
				case i < HeaderSize: // length of the ciphertext
					return bus.CodeMalformed
				case i < len(frame)-SignatureSize:
					return tampered
				}
				return bus.CodeBadSignature
			}
			o := w.opener()
			roomToken, senderToken := w.room().Token(), w.people["alice"].ID().Token()
			for i := range frame {
				for bit := range 8 {
					flipped := slices.Clone(frame)
					flipped[i] ^= 1 << bit
					w.refuse(o, roomToken, senderToken, flipped, class(i, bit))
					if t.Failed() {
						t.Fatalf("byte %d, bit %d", i, bit)
					}
				}
			}
			for n := range frame {
				w.refuse(o, roomToken, senderToken, frame[:n], bus.CodeMalformed)
			}
			w.refuse(o, roomToken, senderToken, append(slices.Clone(frame), 0), bus.CodeMalformed)
			w.refuse(o, roomToken, senderToken, make([]byte, bus.MaxFrameSize+1), bus.CodeMalformed)
			w.accept(o, frame)
		})
	}
}

func TestFrameLongerThanAnyIsMalformed(t *testing.T) {
	h := Header{}
	for size, want := range map[int]bus.Code{bus.MaxFrameSize: "", bus.MaxFrameSize + 1: bus.CodeMalformed} {
		ct := size - HeaderSize - SignatureSize
		if _, err := ParseHeader(append(h.append(nil, ct), make([]byte, ct+SignatureSize)...)); bus.CodeOf(err) != want {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestReplayedFrame(t *testing.T) {
	w := newWorld(t, stored)
	s, o := w.sealer("alice", 0, 1), w.opener()
	first := w.seal(s, 0)
	w.accept(o, first)
	if opened, err := w.open(o, first); !errors.Is(err, ErrDuplicate) || opened != nil {
		t.Errorf("the same frame again: %v, %v", opened, err)
	}
	spoiled := slices.Clone(first)
	spoiled[len(spoiled)-1] ^= 1 // the hash leaves the signature out
	if _, err := w.open(o, spoiled); !errors.Is(err, ErrDuplicate) {
		t.Errorf("the same frame again, with another signature: %v", err)
	}
	for seq := bus.Seq(1); seq <= bus.WindowSize; seq++ {
		w.accept(o, w.seal(s, seq))
	}
	w.refuseHere(o, first, bus.CodeReplay)

	t.Run("after a restart with heights", func(t *testing.T) {
		again := NewOpener(w, NewWindow(o.window.Heights()), w.time)
		w.refuseHere(again, first, bus.CodeReplay)
		w.refuseHere(again, w.seal(w.sealer("alice", 0, 1), bus.WindowSize), bus.CodeReplay)
		w.accept(again, w.seal(s, bus.WindowSize+1))
	})
}

func TestDuplicateLeavesTheFrameAsItIs(t *testing.T) {
	w := newWorld(t, stored)
	frame, o := w.seal(w.sealer("alice", 0, 1), 0), w.opener()
	w.accept(o, frame)
	again := slices.Clone(frame)
	if _, err := o.Open(w.room().Token(), w.people["alice"].ID().Token(), again); !errors.Is(err, ErrDuplicate) {
		t.Fatal(err)
	}
	if !bytes.Equal(again, frame) {
		t.Error("the frame was changed")
	}
}

func TestFrameUnderAnotherSendersName(t *testing.T) {
	w := newWorld(t, stored)
	o := w.opener()
	alice, bob := w.people["alice"].ID(), w.people["bob"].ID()
	honest := w.seal(w.sealer("bob", 0, 1), 0)

	// Bob's own frame on Alice's subject.
	w.refuse(o, w.room().Token(), alice.Token(), honest, bus.CodeMisrouted)

	// A frame that says it is Alice's, which Bob can encrypt but not sign.
	forged, _, err := w.forger("bob", w.header("alice", 0, 1), w.key(0), w.Head().Hash()).seal(nil, 0, w.now, text("hello"))
	if err != nil {
		t.Fatal(err)
	}
	w.refuse(o, w.room().Token(), alice.Token(), forged, bus.CodeBadSignature)
	w.refuse(o, w.room().Token(), bob.Token(), forged, bus.CodeMisrouted)

	// It has not taken the seq from Alice.
	w.accept(o, w.seal(w.sealer("alice", 0, 1), 0))
	w.accept(o, honest)
}

func TestFrameOfAnotherRoom(t *testing.T) {
	w, other := newWorld(t, stored), newWorld(t, stored)
	other.move(w)
	o := w.opener()
	frame := other.seal(other.sealer("alice", 0, 1), 0)
	alice := w.people["alice"].ID().Token()
	w.refuse(o, other.room().Token(), alice, frame, bus.CodeMisrouted)
	w.refuse(o, w.room().Token(), alice, frame, bus.CodeMisrouted)
	w.refuse(o, other.room().Token(), alice, w.seal(w.sealer("alice", 0, 1), 0), bus.CodeMisrouted)
	// The same with the room's name written over it.
	id := w.room()
	copy(frame[6:], id[:])
	w.refuse(o, w.room().Token(), alice, frame, bus.CodeFork)
	tag := TagOf(w.Head().Hash())
	copy(frame[46:], tag[:])
	w.refuse(o, w.room().Token(), alice, frame, bus.CodeDecrypt)
}

func TestFrameOfAnotherBranch(t *testing.T) {
	w := newWorld(t, stored)
	ours, theirs := *w, *w
	ours.epochs, theirs.epochs = slices.Clone(w.epochs), slices.Clone(w.epochs)
	ours.next()
	theirs.next()
	o := ours.opener()
	frame := theirs.seal(theirs.sealer("alice", 1, 1), 0)
	ours.refuseHere(o, frame, bus.CodeFork)
	// A member can write the right tag, but the keys are of the branch.
	h := ours.header("alice", 1, 1)
	forged, _, err := w.forger("alice", h, theirs.key(1), theirs.Head().Hash()).seal(nil, 0, w.now, text("hello"))
	if err != nil {
		t.Fatal(err)
	}
	ours.refuseHere(o, forged, bus.CodeDecrypt)
}

func TestUnsignedFrame(t *testing.T) {
	for name, policy := range suites {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy)
			o := w.opener()
			frame := w.seal(w.sealer("alice", 0, 1), 0)
			unsigned := slices.Clone(frame)
			clear(unsigned[len(unsigned)-SignatureSize:])
			w.refuseHere(o, unsigned, bus.CodeBadSignature)
			w.refuse(o, w.room().Token(), w.people["alice"].ID().Token(), frame[:len(frame)-SignatureSize], bus.CodeMalformed)
			w.accept(o, frame)
		})
	}
}

func TestSignatureOfAnotherFrameDoesNotFit(t *testing.T) {
	w := newWorld(t, policyOf(bus.SuitePlain, bus.FlagPersist))
	s, o := w.sealer("alice", 0, 1), w.opener()
	a, b := w.seal(s, 0, text("hello")...), w.seal(s, 1, text("hullo")...)
	swapped := append(slices.Clone(a[:len(a)-SignatureSize]), b[len(b)-SignatureSize:]...)
	w.refuseHere(o, swapped, bus.CodeBadSignature)
}

func TestEquivocationComesWithItsProof(t *testing.T) {
	for name, policy := range suites {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy)
			o := w.opener()
			first, second := w.seal(w.sealer("alice", 0, 1), 3), w.seal(w.sealer("alice", 0, 1), 3)
			w.accept(o, first)
			opened, err := w.open(o, second)
			if !errors.Is(err, bus.ErrEquivocation) || opened != nil {
				t.Fatalf("released %v, %v", opened, err)
			}
			equivocation, ok := errors.AsType[*EquivocationError](err)
			if !ok {
				t.Fatal("no proof")
			}
			proof := equivocation.Proof
			if err := proof.Verify(); err != nil {
				t.Error(err)
			}
			if proof.First != statementOf(first) || proof.Second != statementOf(second) {
				t.Error("the proof is about other frames")
			}
			w.refuseHere(o, second, bus.CodeEquivocation)
			if _, err := w.open(o, first); !errors.Is(err, ErrDuplicate) {
				t.Errorf("the first frame is no longer known: %v", err)
			}
		})
	}
}

// A second frame of a seq accuses its sender only if the sender signed it.
func TestForgedSecondFrameIsNoEquivocation(t *testing.T) {
	w := newWorld(t, stored)
	o := w.opener()
	w.accept(o, w.seal(w.sealer("alice", 0, 1), 3))
	forged, _, err := w.forger("bob", w.header("alice", 0, 1), w.key(0), w.Head().Hash()).seal(nil, 3, w.now, text("hello"))
	if err != nil {
		t.Fatal(err)
	}
	w.refuseHere(o, forged, bus.CodeBadSignature)
	forged[HeaderSize] ^= 1
	w.refuseHere(o, forged, bus.CodeDecrypt)
}

func TestSeqsOfAnotherSessionOrSenderAreTheirOwn(t *testing.T) {
	w := newWorld(t, stored)
	o := w.opener()
	for _, name := range []string{"alice", "bob", "olga"} {
		for session := range byte(3) {
			w.accept(o, w.seal(w.sealer(name, 0, session), 0))
		}
	}
}

func TestTimeOfSendingCountsInLiveRooms(t *testing.T) {
	for _, v := range []struct {
		name         string
		age          time.Duration
		live, stored bus.Code
	}{
		{"just now", 0, "", ""},
		{"five minutes ago", bus.LiveStale, "", ""},
		{"more than five minutes ago", bus.LiveStale + time.Microsecond, bus.CodeStale, ""},
		{"two minutes ahead", -bus.ClockSkew, "", ""},
		{"more than two minutes ahead", -bus.ClockSkew - time.Microsecond, bus.CodeClockSkew, ""},
		{"ten days ago", 10 * 24 * time.Hour, bus.CodeStale, ""},
	} {
		t.Run(v.name, func(t *testing.T) {
			for policy, want := range map[*bus.Policy]bus.Code{&live: v.live, &stored: v.stored} {
				w := newWorld(t, *policy)
				frame := w.seal(w.sealer("alice", 0, 1), 0)
				w.now = w.now.Add(v.age)
				o := w.opener()
				if want != "" {
					w.refuseHere(o, frame, want)
					w.now = start
				}
				w.accept(o, frame)
			}
		})
	}
}

// A member can sign anything; what does not parse is refused and forgotten.
func TestMalformedContentUnderAGoodSignature(t *testing.T) {
	for _, v := range malformedContents {
		if len(v.inner) < minInner || len(v.inner) > MaxInner {
			continue // no frame can carry it
		}
		t.Run(v.name, func(t *testing.T) {
			w := newWorld(t, policyOf(bus.SuiteXAESGCM, bus.FlagPersist|v.flags))
			o := w.opener()
			w.refuseHere(o, w.sealContent("alice", 0, v.inner), bus.CodeMalformed)
			w.accept(o, w.seal(w.sealer("alice", 0, 1), 0))
		})
	}
}

// sealContent makes an otherwise honest frame around any bytes.
func (w *world) sealContent(name string, seq bus.Seq, inner []byte) []byte {
	h := w.header(name, 0, 1)
	h.Seq = seq
	frame := h.append(nil, len(inner)+16)
	aead, err := newAEAD(h.Suite, w.key(0), w.Head().Hash(), h.Sender, h.Session)
	if err != nil {
		w.t.Fatal(err)
	}
	frame = aead.Seal(frame, h.Nonce[:], inner, frame[:HeaderSize])
	st := statementOf(append(frame, make([]byte, SignatureSize)...))
	hash := st.Hash()
	return append(frame, w.people[name].Sign("unibus/1 frame", hash[:])...)
}

func TestOpenerFollowsTheHead(t *testing.T) {
	w := newWorld(t, stored)
	o := w.opener()
	for e := range bus.Epoch(5) {
		w.accept(o, w.seal(w.sealer("alice", e, 1), bus.Seq(e)))
		w.next()
	}
}

func TestManySessionsOverflowNothing(t *testing.T) {
	w := newWorld(t, stored)
	o := w.opener()
	for i := range 2 * maxAdmissions {
		h := w.header("alice", 0, 0)
		h.Session = bus.SessionID{byte(i), byte(i >> 8), 1}
		frame, _, err := w.forger("alice", h, w.key(0), w.Head().Hash()).seal(nil, 0, w.now, text("hello"))
		if err != nil {
			t.Fatal(err)
		}
		w.accept(o, frame)
	}
	if len(o.admitted) > maxAdmissions {
		t.Errorf("%d admissions are kept, more than %d", len(o.admitted), maxAdmissions)
	}
}

func TestOpeningAllocatesNothingARecord(t *testing.T) {
	for name, policy := range suites {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy)
			s, o := w.sealer("alice", 0, 1), w.opener()
			roomToken, senderToken := w.room().Token(), w.people["alice"].ID().Token()
			seq := bus.Seq(0)
			const runs = 20
			measure := func(n int) float64 {
				recs := make([]Record, n)
				for i := range recs {
					recs[i] = Record{Headers: []HeaderField{{"a", "1"}, {"b", "2"}}, Body: make([]byte, 128)}
				}
				frames := make([][]byte, 0, runs+1)
				for range runs + 1 {
					frames = append(frames, w.seal(s, seq, recs...))
					seq++
				}
				return testing.AllocsPerRun(runs, func() {
					if _, err := o.Open(roomToken, senderToken, frames[0]); err != nil {
						t.Fatal(err)
					}
					frames = frames[1:]
				})
			}
			measure(1) // the session's first frame makes its window and keys
			one, many := measure(1), measure(bus.MaxRecords)
			t.Logf("%.0f allocations a frame", one)
			if many > one || one > 14 {
				t.Errorf("%.0f allocations for a record, %.0f for %d", one, many, bus.MaxRecords)
			}
		})
	}
}

// The input says how a genuine frame is changed, since its bytes differ from
// one process to the next: what is laid over it, bit by bit, and its length.
func FuzzOpen(f *testing.F) {
	w := newWorld(f, live)
	genuine := w.seal(w.sealer("alice", 0, 1), 0, text("hello", "there")...)
	roomToken, senderToken := w.room().Token(), w.people["alice"].ID().Token()
	f.Add(make([]byte, len(genuine)))
	f.Add(make([]byte, len(genuine)-1))
	for _, i := range []int{0, 4, 5, 6, 45, 46, 54, 86, 102, 110, 137, HeaderSize, len(genuine) - 1} {
		mask := make([]byte, len(genuine))
		mask[i] = 1
		f.Add(mask)
	}
	f.Fuzz(func(t *testing.T, mask []byte) {
		frame := slices.Clone(mask)
		for i := range min(len(frame), len(genuine)) {
			frame[i] ^= genuine[i]
		}
		same := bytes.Equal(frame, genuine)
		opened, err := w.opener().Open(roomToken, senderToken, frame)
		if same != (err == nil) || same != (opened != nil) {
			t.Fatalf("genuine %t, opened %t, %v", same, opened != nil, err)
		}
	})
}

func FuzzOpenContent(f *testing.F) {
	w := newWorld(f, stored)
	for _, v := range malformedContents {
		f.Add(v.inner)
	}
	f.Add(raw(1, "\x00\x05\x01k\x00\x01v\x00\x00\x00\x02hi"))
	roomToken, senderToken := w.room().Token(), w.people["alice"].ID().Token()
	f.Fuzz(func(t *testing.T, inner []byte) {
		if len(inner) < minInner || len(inner) > MaxInner {
			return
		}
		frame := w.sealContent("alice", 0, inner)
		opened, err := w.opener().Open(roomToken, senderToken, slices.Clone(frame))
		if err != nil {
			if bus.CodeOf(err) != bus.CodeMalformed {
				t.Fatal(err)
			}
			return
		}
		content, err := encode(opened.Sent, opened.Records, 0)
		if err != nil {
			t.Fatal(err)
		}
		if again := w.sealContent("alice", 0, content); !bytes.Equal(again, frame) {
			t.Fatalf("%x is sealed again as %x", frame, again)
		}
	})
}
