package bus

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Bytes32 is a 32-byte identifier or key. The type parameter only keeps the
// kinds apart, so that a [RoomID] cannot be passed where an [ID] is wanted.
// Its text form, in JSON too, is base64url without padding (RFC 4648 section 5),
// 43 characters.
type Bytes32[Kind any] [32]byte

type (
	idKind         struct{}
	busKind        struct{}
	roomKind       struct{}
	recordKind     struct{}
	cardKind       struct{}
	sealedKind     struct{}
	membersKind    struct{}
	commitmentKind struct{}
	frameKind      struct{}
	transportKind  struct{}
	blobKind       struct{}
	auditKind      struct{}
)

type (
	// ID names an identity: SHA-256 of its [SignPub].
	ID = Bytes32[idKind]
	// BusID names a bus: SHA-256 of the public half of its root key.
	BusID = Bytes32[busKind]
	// RoomID names a room: the [RecordHash] of its first record.
	RoomID = Bytes32[roomKind]
	// RecordHash is the hash of a room record with its signature.
	RecordHash = Bytes32[recordKind]
	// CardHash is the hash of a card with its signature.
	CardHash = Bytes32[cardKind]
	// SealedHash is the hash of one member's sealed copy of an epoch key.
	SealedHash = Bytes32[sealedKind]
	// MembersHash is the hash of a record's encoded member list.
	MembersHash = Bytes32[membersKind]
	// KeyCommitment binds a record to its epoch key.
	KeyCommitment = Bytes32[commitmentKind]
	// FrameHash is the hash a frame's signature covers.
	FrameHash = Bytes32[frameKind]
	// TransportPub is the Ed25519 public key an identity uses towards the
	// servers of one bus: NATS nkey and HTTP signatures. It never signs content.
	TransportPub = Bytes32[transportKind]
	// BlobHash names a blob: SHA-256 of its bytes as they are stored, sealed.
	BlobHash = Bytes32[blobKind]
	// AuditHash is the hash of an entry of a node's audit log and, through the
	// one before it, of all before it.
	AuditHash = Bytes32[auditKind]
)

// tokenEncoding writes the tokens of NATS subjects, which are case-sensitive
// but end up in file names and consumer names that may not be.
var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String returns the text form, base64url without padding.
func (b Bytes32[Kind]) String() string { return base64.RawURLEncoding.EncodeToString(b[:]) }

// Fingerprint returns the first 8 bytes in hexadecimal, in groups of four
// characters, for people to compare. It identifies nothing on its own.
func (b Bytes32[Kind]) Fingerprint() string { return fingerprint(b[:]) }

// Token returns the NATS subject token: the first 16 bytes in lower-case
// base32 without padding, 26 characters.
func (b Bytes32[Kind]) Token() string { return tokenEncoding.EncodeToString(b[:16]) }

// IsZero reports whether every byte is zero.
func (b Bytes32[Kind]) IsZero() bool { return b == Bytes32[Kind]{} }

// MarshalText implements [encoding.TextMarshaler] with the text form.
func (b Bytes32[Kind]) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts exactly what
// MarshalText writes and leaves b alone otherwise.
func (b *Bytes32[Kind]) UnmarshalText(text []byte) error {
	return decodeBase64(b[:], string(text))
}

// ParseID reads an [ID] from its text form.
func ParseID(s string) (ID, error) { return parse32[idKind]("id", s) }

// ParseBusID reads a [BusID] from its text form.
func ParseBusID(s string) (BusID, error) { return parse32[busKind]("bus id", s) }

// ParseRoomID reads a [RoomID] from its text form.
func ParseRoomID(s string) (RoomID, error) { return parse32[roomKind]("room id", s) }

// ParseRecordHash reads a [RecordHash] from its text form.
func ParseRecordHash(s string) (RecordHash, error) { return parse32[recordKind]("record hash", s) }

// ParseCardHash reads a [CardHash] from its text form.
func ParseCardHash(s string) (CardHash, error) { return parse32[cardKind]("card hash", s) }

// ParseBlobHash reads a [BlobHash] from its text form.
func ParseBlobHash(s string) (BlobHash, error) { return parse32[blobKind]("blob hash", s) }

// ParseTransportPub reads a [TransportPub] from its text form.
func ParseTransportPub(s string) (TransportPub, error) {
	return parse32[transportKind]("transport key", s)
}

// ParseAuditHash reads an [AuditHash] from its text form.
func ParseAuditHash(s string) (AuditHash, error) { return parse32[auditKind]("audit hash", s) }

func parse32[Kind any](what, s string) (b Bytes32[Kind], err error) {
	if err := b.UnmarshalText([]byte(s)); err != nil {
		return b, Errorf(CodeMalformed, "parse %s %.80q: %w", what, s, err)
	}
	return b, nil
}

// decodeBase64 fills dst from strict base64url. It rejects what the decoder of
// the standard library forgives: line breaks and stray bits at the end.
func decodeBase64(dst []byte, s string) error {
	if want := base64.RawURLEncoding.EncodedLen(len(dst)); len(s) != want {
		return fmt.Errorf("want %d base64url characters, have %d", want, len(s))
	}
	if strings.ContainsAny(s, "\r\n") {
		return fmt.Errorf("line break in base64url")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return err
	}
	copy(dst, raw)
	return nil
}

func fingerprint(b []byte) string {
	h := hex.EncodeToString(b[:8])
	return h[:4] + "-" + h[4:8] + "-" + h[8:12] + "-" + h[12:]
}

// SignPub is the Ed25519 public key of an identity. Its text form, in JSON, in
// paths and at the prompt, is 64 lower-case hexadecimal characters.
type SignPub [32]byte

// ParseSignPub reads a [SignPub] from 64 hexadecimal characters of either case.
func ParseSignPub(s string) (SignPub, error) {
	var p SignPub
	if err := p.UnmarshalText([]byte(s)); err != nil {
		return p, Errorf(CodeMalformed, "parse signing key %.80q: %w", s, err)
	}
	return p, nil
}

// String returns the text form.
func (p SignPub) String() string { return hex.EncodeToString(p[:]) }

// MarshalText implements [encoding.TextMarshaler] with the text form.
func (p SignPub) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] and leaves p alone on error.
func (p *SignPub) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(p)) {
		return fmt.Errorf("want %d hexadecimal characters, have %d", hex.EncodedLen(len(p)), len(text))
	}
	var raw SignPub
	if _, err := hex.Decode(raw[:], text); err != nil {
		return err
	}
	*p = raw
	return nil
}

// SessionID names one run of one process that sends frames: 16 random bytes.
// Its text form is base64url without padding, 22 characters.
type SessionID [16]byte

// String returns the text form.
func (s SessionID) String() string { return base64.RawURLEncoding.EncodeToString(s[:]) }

// MarshalText implements [encoding.TextMarshaler] with the text form.
func (s SessionID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] and leaves s alone on error.
func (s *SessionID) UnmarshalText(text []byte) error { return decodeBase64(s[:], string(text)) }

// ParseSessionID reads a [SessionID] from its text form.
func ParseSessionID(s string) (SessionID, error) {
	var id SessionID
	if err := id.UnmarshalText([]byte(s)); err != nil {
		return id, Errorf(CodeMalformed, "parse session %.80q: %w", s, err)
	}
	return id, nil
}

// Epoch counts the records of a room; its first record has epoch 0.
type Epoch uint64

// Seq counts the frames one session sent to one room; the first has seq 0.
type Seq uint64
