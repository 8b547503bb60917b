package room

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/wire"
)

// historySize is the size of an encrypted key with its nonce.
const historySize = wire.NonceSize + len(Key{}) + wire.Overhead

// Key is the secret of one epoch of a room, K_e: 32 random bytes, owed to no
// other key. Those of frames, name and history are derived from it.
type Key [32]byte

// String returns a fixed text and nothing secret.
func (Key) String() string { return "room key" }

// Format implements [fmt.Formatter], so that no verb reaches the key.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue implements [slog.LogValuer], for handlers that write JSON.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Sealed is one member's copy of an epoch's key, as it is stored.
type Sealed struct {
	ID   bus.ID
	Blob []byte
}

// HashSealed returns the hash by which a member list names a sealed key.
func HashSealed(blob []byte) bus.SealedHash { return wire.Hash(wire.LabelSealedHash, blob) }

// CheckSealed refuses sealed keys that are not the record's, one for every
// member in the order of the list, none in a room without encryption. Its
// errors have [bus.CodeSealedMismatch], or [bus.CodeTooLarge] for a key of more
// than [bus.MaxSealedSize] bytes, which is none but might fill a store.
func (r *Record) CheckSealed(sealed []Sealed) error {
	want := r.memberCount()
	if !r.Policy.Encrypted() {
		want = 0
	}
	if len(sealed) != want {
		return bus.Errorf(bus.CodeSealedMismatch, "check sealed keys: %d, want %d", len(sealed), want)
	}
	for i, s := range sealed {
		if len(s.Blob) > bus.MaxSealedSize {
			return bus.Errorf(bus.CodeTooLarge, "check sealed keys: number %d has %d bytes, at most %d", i, len(s.Blob), bus.MaxSealedSize)
		}
		if m := r.memberAt(i); s.ID != m.ID || HashSealed(s.Blob) != m.SealedHash {
			return bus.Errorf(bus.CodeSealedMismatch, "check sealed keys: number %d is not the one the record names for %s", i, m.ID)
		}
	}
	return nil
}

// OpenKey opens an identity's copy of the record's key. It refuses an identity
// that is no member ([bus.CodeNotMember]), a copy that the record does not name
// ([bus.CodeSealedMismatch]), one sealed to somebody else or for something else
// ([bus.CodeDecrypt]), and one with another key than the record commits to
// ([bus.CodeKeyMismatch]). A room without encryption has no key
// ([bus.CodePolicy]).
func (r *Record) OpenKey(id *identity.Identity, sealed []byte) (Key, error) {
	key, err := r.openKey(id, sealed)
	if err != nil {
		return Key{}, fmt.Errorf("open key of epoch %d: %w", r.Epoch, err)
	}
	return key, nil
}

func (r *Record) openKey(id *identity.Identity, sealed []byte) (Key, error) {
	m, ok := r.Member(id.ID())
	switch {
	case !ok:
		return Key{}, bus.Errorf(bus.CodeNotMember, "%s is no member", id.ID())
	case !r.Policy.Encrypted():
		return Key{}, bus.Errorf(bus.CodePolicy, "the room is not encrypted")
	case HashSealed(sealed) != m.SealedHash:
		return Key{}, bus.Errorf(bus.CodeSealedMismatch, "sealed key of %s is not the one the record was signed with", m.ID)
	}
	return r.unseal(id, m.ID, m.CardHash, sealed)
}

// unseal opens a copy that is sealed to a card, whoever sealed it.
func (r *Record) unseal(id *identity.Identity, member bus.ID, card bus.CardHash, sealed []byte) (Key, error) {
	plain, err := id.OpenSealed(r.sealInfo(member, card), sealed)
	if err != nil {
		return Key{}, err
	}
	if len(plain) != len(Key{}) {
		return Key{}, bus.Errorf(bus.CodeKeyMismatch, "sealed key has %d bytes", len(plain))
	}
	key := Key(plain)
	return key, r.CheckKey(key)
}

// Reseal seals the record's key again, to another card of a member than the one
// in the record, such as its own newest. The seal is the same as the record's
// author would have made for that card. Errors: [bus.CodeNotMember],
// [bus.CodeKeyMismatch], [bus.CodePolicy] for a room without encryption, and
// those of [identity.Seal].
func (r *Record) Reseal(card *identity.Card, k Key) ([]byte, error) {
	if _, ok := r.Member(card.ID()); !ok {
		return nil, bus.Errorf(bus.CodeNotMember, "seal key of epoch %d again: %s is no member", r.Epoch, card.ID())
	}
	if err := r.CheckKey(k); err != nil {
		return nil, fmt.Errorf("seal key of epoch %d again: %w", r.Epoch, err)
	}
	return identity.Seal(card.KEM, card.KEMPub, r.sealInfo(card.ID(), card.Hash()), k[:])
}

// OpenResealed opens what [Record.Reseal] made for a card. Nobody has signed it:
// it counts because only the key that the record commits to is accepted. Errors
// are those of [Record.OpenKey] but for [bus.CodeSealedMismatch].
func (r *Record) OpenResealed(id *identity.Identity, card bus.CardHash, sealed []byte) (Key, error) {
	m, ok := r.Member(id.ID())
	switch {
	case !ok:
		return Key{}, bus.Errorf(bus.CodeNotMember, "open key of epoch %d: %s is no member", r.Epoch, id.ID())
	case !r.Policy.Encrypted():
		return Key{}, bus.Errorf(bus.CodePolicy, "open key of epoch %d: the room is not encrypted", r.Epoch)
	}
	key, err := r.unseal(id, m.ID, card, sealed)
	if err != nil {
		return Key{}, fmt.Errorf("open key of epoch %d, sealed again to card %s: %w", r.Epoch, card, err)
	}
	return key, nil
}

// CheckKey refuses a key that is not the one the record commits to, with
// [bus.CodeKeyMismatch].
func (r *Record) CheckKey(k Key) error {
	if !r.Policy.Encrypted() {
		return bus.Errorf(bus.CodePolicy, "check key: the room is not encrypted")
	}
	commitment := r.commit(k)
	if subtle.ConstantTimeCompare(commitment[:], r.Commitment[:]) != 1 {
		return bus.Errorf(bus.CodeKeyMismatch, "check key: epoch %d commits to another", r.Epoch)
	}
	return nil
}

// OpenName returns the room's name. The key counts only where the room is
// encrypted. Its errors have [bus.CodeDecrypt] or [bus.CodeMalformed].
func (r *Record) OpenName(k Key) (bus.RoomName, error) {
	if !r.Policy.Encrypted() {
		return bus.RoomName(r.NameCT), nil // checked when the record was read
	}
	plain, err := r.open(k, wire.LabelName, r.NameCT)
	if err != nil {
		return "", fmt.Errorf("open name of epoch %d: %w", r.Epoch, err)
	}
	name, err := bus.ParseRoomName(string(plain))
	if err != nil {
		return "", fmt.Errorf("open name of epoch %d: %w", r.Epoch, err)
	}
	return name, nil
}

// OpenHistory returns the key of the epoch before, checked against what prev,
// the record before, commits to. Its errors have [bus.CodeNotFound] when the
// record carries none, [bus.CodeFork] when prev is not the record before,
// [bus.CodeDecrypt], or [bus.CodeKeyMismatch].
func (r *Record) OpenHistory(k Key, prev *Record) (Key, error) {
	if len(r.HistoryCT) == 0 {
		return Key{}, bus.Errorf(bus.CodeNotFound, "open history: epoch %d carries no earlier key", r.Epoch)
	}
	if prev.hash != r.Prev {
		return Key{}, bus.Errorf(bus.CodeFork, "open history: %s is not the record before epoch %d", prev.hash, r.Epoch)
	}
	plain, err := r.open(k, wire.LabelHistory, r.HistoryCT)
	if err != nil {
		return Key{}, fmt.Errorf("open history of epoch %d: %w", r.Epoch, err)
	}
	earlier := Key(plain) // its length is fixed by that of HistoryCT
	if err := prev.CheckKey(earlier); err != nil {
		return Key{}, fmt.Errorf("open history of epoch %d: %w", r.Epoch, err)
	}
	return earlier, nil
}

// place returns room_id || epoch as they are in the record's bytes: zero in the
// first, which cannot name itself.
func (r *Record) place() []byte {
	var room bus.RoomID
	if !r.IsGenesis() {
		room = r.Room
	}
	return binary.BigEndian.AppendUint64(room[:], uint64(r.Epoch))
}

func (r *Record) derive(k Key, l wire.Label) []byte {
	return wire.DeriveKey(k[:], r.Salt[:], l, wire.KeySize, r.place())
}

func (r *Record) commit(k Key) bus.KeyCommitment {
	return bus.KeyCommitment(r.derive(k, wire.LabelCommit))
}

// sealInfo returns what an HPKE copy of the key is bound to.
func (r *Record) sealInfo(id bus.ID, card bus.CardHash) []byte {
	info := wire.AppendLabel(nil, wire.LabelSealed)
	for _, part := range [][]byte{r.place(), r.Prev[:], r.Salt[:], id[:], card[:], r.Commitment[:]} {
		info = append(info, part...)
	}
	return info
}

// seal returns nonce || ciphertext under the key of a label.
func (r *Record) seal(k Key, l wire.Label, plain []byte, rand io.Reader) ([]byte, error) {
	aead, err := wire.NewAEAD(r.Policy.Suite, r.derive(k, l))
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, wire.NonceSize, wire.NonceSize+len(plain)+wire.Overhead)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "draw nonce: %w", err)
	}
	return aead.Seal(nonce, nonce, plain, r.Prev[:]), nil
}

// open undoes seal. The sealed bytes are at least a nonce long, as
// [ParseRecord] checked.
func (r *Record) open(k Key, l wire.Label, sealed []byte) ([]byte, error) {
	aead, err := wire.NewAEAD(r.Policy.Suite, r.derive(k, l))
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, sealed[:wire.NonceSize], sealed[wire.NonceSize:], r.Prev[:])
	if err != nil {
		return nil, bus.Errorf(bus.CodeDecrypt, "%w", err)
	}
	return plain, nil
}
