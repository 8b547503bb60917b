package hostile_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

const (
	admitGo   = "lib/frame/admit.go"
	openGo    = "lib/frame/open.go"
	headerGo  = "lib/frame/header.go"
	innerGo   = "lib/frame/inner.go"
	windowGo  = "lib/frame/window.go"
	orderGo   = "lib/frame/order.go"
	missingGo = "lib/client/missing.go"
	seenGo    = "lib/client/seen.go"
	readerGo  = "lib/client/reader.go"
)

// hears has bob, who reads a live room of alice, given what make returns, and a
// true message after it.
func hears(s *stage, make func(d *duo) [][]byte, change ...func(*client.Config)) error {
	d := s.duo(false, change...)
	in := s.read(d.his, client.Now)
	for _, data := range make(d) {
		d.deliver(d.alice, data)
	}
	marker := s.secret("message")
	s.publish(d.hers, marker)
	return in.verdict(marker)
}

// one is a frame of alice's, changed before she signs it.
func one(s *stage, change func(d *duo, f *hostile.Frame)) func(d *duo) [][]byte {
	return func(d *duo) [][]byte {
		f := d.frame(d.alice, 1, 0, s.lieText())
		change(d, f)
		return [][]byte{f.Sign(d.alice.id)}
	}
}

// touched is a true frame of alice's, changed after she signed it.
func touched(s *stage, change func(data []byte) []byte) func(d *duo) [][]byte {
	return func(d *duo) [][]byte {
		return [][]byte{change(d.frame(d.alice, 1, 0, s.lieText()).Sign(d.alice.id))}
	}
}

// forged is what carol, a member, signs in the name of alice.
func forged(s *stage, sign func(carol *actor, hash []byte) []byte) error {
	d := s.duo(false)
	carol := s.actor("carol")
	s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleWriter))
	s.must(d.his.Refresh(s.ctx()))
	in := s.read(d.his, client.Now)
	f := d.frame(d.alice, 1, 0, s.lieText())
	d.deliver(d.alice, f.SignWith(func(hash []byte) []byte { return sign(carol, hash) }))
	marker := s.secret("message")
	s.publish(d.hers, marker)
	return in.verdict(marker)
}

// signatureGone lets every frame pass for its sender's.
var signatureGone = change{openGo, "if !st.verify(a.pub, hash) {", "if false {"}

var frameLies = []lie{
	{
		name: "frame on another's subject", who: server, told: "a true frame as if another member had sent it", want: bus.CodeMisrouted,
		check: "frame.Opener: the sender of the subject; before that in the reader",
		removed: []change{
			{admitGo, "if senderToken != h.Sender.Token() {", "if false {"},
			{missingGo, "&& h.Sender.Token() == w.sender {", "{"},
		},
		tell: func(s *stage) error {
			d := s.duo(false)
			carol := s.actor("carol")
			s.must(d.hers.Invite(s.ctx(), carol.ID().String(), bus.RoleWriter))
			s.must(d.his.Refresh(s.ctx()))
			in := s.read(d.his, client.Now)
			d.deliver(carol, d.frame(d.alice, 1, 0, s.lieText()).Sign(d.alice.id))
			marker := s.secret("message")
			s.publish(d.hers, marker)
			return in.verdict(marker)
		},
	},
	{
		name: "frame of another room", who: server, told: "a true frame of another room of the same members", want: bus.CodeMisrouted,
		check:   "frame.Opener: the room; again by its records and keys",
		removed: []change{{admitGo, "if h.Room != room || roomToken != room.Token() {", "if false {"}, {missingGo, "h.Room == rd.room.id &&", ""}},
		tell: func(s *stage) error {
			return hears(s, func(d *duo) [][]byte {
				s.name = s.secret("name of the other room")
				hers, _ := s.room(d.alice, false, d.bob)
				other := &duo{stage: s, alice: d.alice, bob: d.bob, hers: hers}
				return [][]byte{other.frame(d.alice, 1, 0, s.lieText()).Sign(d.alice.id)}
			})
		},
	},
	{
		name: "frame without encryption", who: member, told: "a signed frame in clear, in an encrypted room", want: bus.CodePolicy,
		check: "frame.Opener: the suite of the room; before that in the reader",
		removed: []change{
			{openGo, "if h.Suite != head.Policy.Suite {", "if false {"},
			{missingGo, "if h.Suite == rd.view.head.Policy.Suite && ", "if "},
		},
		tell: func(s *stage) error {
			return hears(s, one(s, func(_ *duo, f *hostile.Frame) { f.Suite = bus.SuitePlain }))
		},
	},
	{
		name: "frame with other flags", who: member, told: "a frame that says that its room is stored", want: bus.CodePolicy,
		check:   "frame.Opener: the flags of the epoch",
		removed: []change{{admitGo, "if h.Flags != policy.Flags {", "if false {"}},
		tell: func(s *stage) error {
			return hears(s, one(s, func(_ *duo, f *hostile.Frame) { f.Flags ^= bus.FlagPersist }))
		},
	},
	{
		name: "frame of another branch", who: member, told: "a frame under another record of its epoch", want: bus.CodeFork,
		check:   "frame.Opener: the tag of the epoch",
		removed: []change{{admitGo, "if h.EpochTag != a.tag {", "if false {"}},
		tell: func(s *stage) error {
			return hears(s, one(s, func(_ *duo, f *hostile.Frame) { f.EpochTag[0] ^= 1 }))
		},
	},
	{
		name: "frame of an invented epoch", who: member, told: "a frame of epoch 99, which nobody has made", want: bus.CodeEpochUnknown,
		check: "frame.Opener: the record of the epoch; before that in the reader",
		removed: []change{
			{admitGo, "if h.Epoch > head.Epoch {", "if false {"},
			{admitGo, "epoch, ok := o.view.Epoch(h.Epoch)", "epoch, ok := o.view.Epoch(min(h.Epoch, head.Epoch))"},
			{missingGo, "if v.head == nil || h.Epoch > v.head.Epoch {", "if v.head == nil {"},
			{missingGo, "rec := v.chain.At(h.Epoch)", "rec := v.chain.At(min(h.Epoch, v.head.Epoch))"},
			{missingGo, "if _, ok := v.chain.Key(h.Epoch); !ok {", "if _, ok := v.chain.Key(min(h.Epoch, v.head.Epoch)); !ok {"},
		},
		tell: func(s *stage) error {
			d := s.duo(false)
			in := s.read(d.his, client.Now)
			early := s.secret("early message") // with it bob has her signing key
			s.publish(d.hers, early)
			s.must(in.until(early))
			f := d.frame(d.alice, 1, 0, s.lieText())
			f.Epoch = 99
			d.deliver(d.alice, f.Sign(d.alice.id))
			marker := s.secret("message")
			s.publish(d.hers, marker)
			return in.verdict(marker)
		},
	},
	{
		name: "changed ciphertext", who: server, told: "a frame of which one bit was flipped", want: bus.CodeDecrypt,
		check: "frame.Opener: the AEAD; again by the signature",
		removed: []change{
			{openGo, "if err != nil {\n\t\treturn nil, bus.Errorf(bus.CodeDecrypt", "if false {\n\t\treturn nil, bus.Errorf(bus.CodeDecrypt"},
			signatureGone,
		},
		tell: func(s *stage) error {
			return hears(s, touched(s, func(data []byte) []byte {
				data[len(data)-frame.SignatureSize-1] ^= 1
				return data
			}))
		},
	},
	{
		name: "changed header", who: server, told: "a frame under another number of its session", want: bus.CodeDecrypt,
		check: "frame.Opener: the AEAD covers the header; so does the signature",
		removed: []change{
			{openGo, "aead.Open(ct[:0], h.Nonce[:], ct, frame[:HeaderSize])", "aead.Open(ct[:0], h.Nonce[:], ct, append(append(frame[:seqAt:seqAt], make([]byte, 8)...), frame[nonceAt:HeaderSize]...))"},
			signatureGone,
		},
		tell: func(s *stage) error {
			return hears(s, touched(s, func(data []byte) []byte {
				data[frame.HeaderSize-4-24-1] = 7
				return data
			}))
		},
	},
	{
		name: "changed signature", who: server, told: "a frame whose signature was touched", want: bus.CodeBadSignature,
		check:   "frame.Opener: the signature",
		removed: []change{signatureGone},
		tell: func(s *stage) error {
			return hears(s, touched(s, func(data []byte) []byte {
				data[len(data)-1] ^= 1
				return data
			}))
		},
	},
	{
		name: "frame cut short", who: server, told: "a frame without its last byte", want: bus.CodeMalformed,
		check: "frame.ParseHeader: the lengths; again by AEAD and signature",
		removed: []change{
			{headerGo, "uint64(ctLen) != uint64(have) {", "uint64(ctLen) != uint64(have) && false {"},
		},
		tell: func(s *stage) error {
			return hears(s, touched(s, func(data []byte) []byte { return data[:len(data)-1] }))
		},
	},
	{
		name: "unsigned frame", who: member, told: "a frame with zeros for a signature", want: bus.CodeBadSignature,
		check:   "frame.Opener: the signature",
		removed: []change{signatureGone},
		tell: func(s *stage) error {
			return forged(s, func(*actor, []byte) []byte { return make([]byte, frame.SignatureSize) })
		},
	},
	{
		name: "forged sender", who: member, told: "a frame in another's name, signed with the own key", want: bus.CodeBadSignature,
		check:   "frame.Opener: the signature is the sender's",
		removed: []change{signatureGone},
		tell: func(s *stage) error {
			return forged(s, func(carol *actor, hash []byte) []byte { return carol.id.Sign("unibus/1 frame", hash) })
		},
	},
	{
		name: "signature of something else", who: member, told: "a frame with a signature of its sender over another statement", want: bus.CodeBadSignature,
		check: "wire.Sign: the label is signed too",
		removed: []change{
			{"lib/wire/hash.go", "in = AppendLabel(in, l)", "in = AppendLabel(in, \"\")"},
		},
		tell: func(s *stage) error {
			return hears(s, func(d *duo) [][]byte {
				f := d.frame(d.alice, 1, 0, s.lieText())
				return [][]byte{f.SignWith(func(hash []byte) []byte { return d.alice.id.Sign("unibus/1 card", hash) })}
			})
		},
	},
	{
		name: "two frames of one number", who: member, told: "another message under a number that was used", want: bus.CodeEquivocation,
		check:   "frame.Opener: what was signed under the number",
		removed: []change{{openGo, "if before != nil {\n", "if false {\n"}},
		tell: func(s *stage) error {
			return hears(s, func(d *duo) [][]byte {
				yes, no := "yes-"+randomText(), s.lieText()
				return [][]byte{d.frame(d.alice, 1, 0, yes).Sign(d.alice.id), d.frame(d.alice, 1, 0, no).Sign(d.alice.id)}
			})
		},
	},
	{
		name: "bytes hidden behind the content", who: member, told: "a signed frame with more in it than its messages", want: bus.CodeMalformed,
		check:   "frame.parseInner: the padding",
		removed: []change{{innerGo, "len(inner) != want {", "len(inner) != want && false {"}, {innerGo, "for _, b := range inner[content:] {", "for _, b := range inner[len(inner):] {"}},
		tell: func(s *stage) error {
			return hears(s, one(s, func(_ *duo, f *hostile.Frame) { f.Inner = append(f.Inner, "hidden"...) }))
		},
	},
	{
		name: "frame held back", who: server, told: "a live frame that was held back for six minutes", want: bus.CodeStale,
		check: "frame.Opener: the time of sending in live rooms; again by when reading began",
		removed: []change{
			{openGo, "if now.Sub(sent) > bus.LiveStale {", "if false {"},
			{seenGo, "if b.at.Sub(f.Sent) > sentBefore {", "if false {"},
		},
		tell: func(s *stage) error { return hears(s, sentAt(s, -bus.LiveStale-time.Minute)) },
	},
	{
		name: "frame of the future", who: member, told: "a live frame that says that it will be sent in an hour", want: bus.CodeClockSkew,
		check:   "frame.Opener: the time of sending in live rooms",
		removed: []change{{openGo, "if sent.Sub(now) > bus.ClockSkew {", "if false {"}},
		tell:    func(s *stage) error { return hears(s, sentAt(s, time.Hour)) },
	},
	{
		name: "frames in another order", who: server, told: "the third frame before the second", want: "",
		check:   "frame.Order: by number",
		removed: []change{{orderGo, "case f.Header.Seq-r.last == 1:", "case f.Header.Seq > r.last:"}},
		tell: func(s *stage) error {
			d := s.duo(false)
			in := s.read(d.his, client.Now)
			want := []string{"0-" + randomText(), "1-" + randomText(), "2-" + randomText()}
			for _, seq := range []int{0, 2, 1} {
				d.deliver(d.alice, d.frame(d.alice, 1, bus.Seq(seq), want[seq]).Sign(d.alice.id))
			}
			have, err := in.wait(func(bodies []string, errs []error) bool { return len(bodies) == 3 || len(errs) > 0 })
			if err == nil && !slices.Equal(have, want) {
				err = fmt.Errorf("read %q, want %q", have, want)
			}
			return err
		},
	},
	{
		name: "frame withheld", who: server, told: "the first and the third frame of a session, as if there were no second", want: bus.CodeGap,
		check:   "frame.Order: the numbers have no hole",
		removed: []change{{orderGo, "seq-r.last > 1 {", "seq-r.last > 1 && false {"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			for i := range 3 {
				s.publish(d.hers, strconv.Itoa(i)+s.secret("message"))
			}
			d.bob.data.Down(withhold(d.bob, 2))
			in := s.read(d.his, client.Stored)
			bodies, err := in.wait(func([]string, []error) bool { return false })
			if len(bodies) != 2 {
				return fmt.Errorf("%d messages were read: %v", len(bodies), err)
			}
			return err
		},
	},
	{
		name: "hole in a fetch", who: server, told: "fetched frames without the second, whose number in the consumer shows", want: "",
		check:   "client.pull: the consumer's sequence; the frame is fetched again",
		removed: []change{{"lib/client/pull.go", "hole := meta.Sequence.Consumer != p.expect", "hole := false"}},
		tell: func(s *stage) error {
			d := s.duo(true)
			in := s.read(d.his, client.Now)
			lost := false
			var mu sync.Mutex
			n := 0
			d.bob.data.Down(func(m hostile.Delivery) []hostile.Delivery {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(m.Subject, "ub.d.") {
					if n++; n == 2 && !lost {
						lost = true
						d.bob.tell()
						return nil
					}
				}
				return []hostile.Delivery{m}
			})
			var want []string
			for i := range 3 {
				want = append(want, strconv.Itoa(i)+s.secret("message"))
				s.publish(d.hers, want[i])
			}
			have, err := in.wait(func(bodies []string, errs []error) bool { return len(bodies) == 3 || len(errs) > 0 })
			if err == nil && !slices.Equal(have, want) {
				err = fmt.Errorf("read %q", have)
			}
			return err
		},
	},
}

// sentAt is a frame of alice's that says that it was sent at another time.
func sentAt(s *stage, ago time.Duration) func(d *duo) [][]byte {
	return func(d *duo) [][]byte {
		rec, key := d.head()
		f := hostile.NewFrame(rec, key, d.alice.ID(), bus.SessionID{1}, 0, time.Now().Add(ago), []byte(s.lieText()))
		return [][]byte{f.Sign(d.alice.id)}
	}
}

// withhold drops the nth frame that is fetched, and counts the others as if
// there had been none.
func withhold(a *actor, nth int) func(hostile.Delivery) []hostile.Delivery {
	const consumerSeq = 6 // of the tokens of a JetStream reply subject
	var mu sync.Mutex
	return func(m hostile.Delivery) []hostile.Delivery {
		tokens := strings.Split(m.Reply, ".")
		if !strings.HasPrefix(m.Subject, "ub.d.") || len(tokens) <= consumerSeq {
			return []hostile.Delivery{m}
		}
		mu.Lock()
		defer mu.Unlock()
		at, err := strconv.Atoi(tokens[consumerSeq])
		if err != nil {
			a.stage.Error(err)
		}
		switch {
		case at == nth:
			a.tell()
			return nil
		case at > nth:
			tokens[consumerSeq] = strconv.Itoa(at - 1)
			m.Reply = strings.Join(tokens, ".")
		}
		return []hostile.Delivery{m}
	}
}
