package directory

import (
	"bytes"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// What is read from the store is what would be written there; anything else is
// refused, whoever may have put it there.
func FuzzStoredValues(f *testing.F) {
	at := time.Unix(1_800_000_000, 0).UTC()
	user := User{SignPub: bus.SignPub{1}, Handle: "alice", Role: bus.UserAdmin, Status: bus.UserActive, CreatedAt: at}
	revoked := user
	revoked.Status, revoked.RevokedAt = bus.UserRevoked, at
	seed := func(value []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	seed(encodeUser(user, mark{7}))
	seed(encodeUser(revoked, mark{7}))
	seed(encodeClaim(claim{bus.SignPub{1}, at}, mark{7}))
	seed(encodeLatest(CardRef{Hash: bus.CardHash{1}, Seq: 2, TransportPub: bus.TransportPub{3}, NotBefore: at, NotAfter: at}))
	seed(encodeCard(bus.SignPub{1}, []byte("card")))
	seed(resealed{seq: 7, card: bus.CardHash{1}, blob: []byte("sealed")}.encode())
	seed(encodeHead(Head{3, bus.RecordHash{4}}))
	seed(encodeLease(mark{5}))
	seed(stored{Stamp: at, Epoch: 1, Prev: bus.RecordHash{1}, Left: []bus.ID{{2}, {3}}, Record: []byte("record"), Members: []byte("members")}.encode())
	seed(sealedChunk{Stamp: at, Blobs: [][]byte{[]byte("one"), {}, []byte("three")}}.encode())

	f.Fuzz(func(t *testing.T, value []byte) {
		check := func(what string, again []byte, err error) {
			if err != nil || !bytes.Equal(again, value) {
				t.Errorf("%s %x becomes %x, %v", what, value, again, err)
			}
		}
		var last mark
		copy(last[:], value[max(0, len(value)-len(last)):])
		if u, err := decodeUser(value); err == nil {
			again, err := encodeUser(u, last)
			check("user", again, err)
		}
		if c, err := decodeClaim(value); err == nil {
			again, err := encodeClaim(c, last)
			check("claim", again, err)
		}
		if c, err := decodeLatest(bus.ID{}, value); err == nil {
			again, err := encodeLatest(c)
			check("latest card", again, err)
		}
		if sign, raw, err := decodeCard(value); err == nil {
			again, err := encodeCard(sign, raw)
			check("card", again, err)
		}
		if k, err := decodeResealed(value); err == nil {
			again, err := k.encode()
			check("sealed key", again, err)
		}
		if h, err := decodeHead(value); err == nil {
			again, err := encodeHead(h)
			check("head", again, err)
		}
		if m, err := decodeLease(value); err == nil {
			again, err := encodeLease(m)
			check("lease", again, err)
		}
		if s, err := decodeStored(value); err == nil {
			again, err := s.encode()
			check("record", again, err)
		}
		if k, err := decodeSealedChunk(value); err == nil {
			again, err := k.encode()
			check("sealed keys", again, err)
		}
	})
}

func FuzzRecordKey(f *testing.F) {
	f.Add(recordKey(bus.RoomID{1}, bus.RecordHash{2}))
	f.Add(sealedKey(bus.RoomID{1}, bus.RecordHash{2}, 3))
	f.Add("/")
	f.Fuzz(func(t *testing.T, key string) {
		if r, h, err := parseRecordKey(key); err == nil && recordKey(r, h) != key {
			t.Errorf("%q becomes %q", key, recordKey(r, h))
		}
	})
}
